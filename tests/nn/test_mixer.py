"""The Mamba-1 mixer against Hugging Face's, and the invariants that long video needs."""

import copy
from typing import Any

import jaxtyping
import pytest
import torch
from transformers import MambaConfig as HuggingFaceConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

from vidmamba.nn import mamba1_lines
from vidmamba.nn import mixer as mixers
from vidmamba.nn.bidirectional import Bidirectional
from vidmamba.nn.mamba2 import Mamba2Config, Mamba2Mixer
from vidmamba.nn.mixer import Mamba1Mixer, MambaConfig

# PyTorch's own, where a product is the first thing that a thread of autograd does
pytestmark = pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS")

WIDTH = 24


def hugging_face_mixer(config: MambaConfig) -> MambaMixer:
    theirs = HuggingFaceConfig(
        hidden_size=WIDTH,
        state_size=config.state,
        conv_kernel=config.conv_size,
        expand=config.expand,
        time_step_rank="auto",
        use_conv_bias=True,
        use_bias=False,
    )
    return MambaMixer(theirs, layer_idx=0)


@pytest.mark.parametrize("config", [MambaConfig(), MambaConfig(state=5, conv_size=3, expand=1)])
def test_equals_hugging_faces_mixer_with_its_weights_loaded_by_name(config: MambaConfig) -> None:
    ours, theirs = Mamba1Mixer(WIDTH, config), hugging_face_mixer(config)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 37, WIDTH)
    expected = theirs(x).detach()
    torch.testing.assert_close(
        ours(x), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max())
    )


def test_a_frame_of_a_causal_mixer_depends_on_no_later_frame() -> None:
    mixer = Mamba1Mixer(WIDTH, MambaConfig())
    x = torch.randn(1, 12, WIDTH, requires_grad=True)
    mixer(x)[:, 5].sum().backward()
    assert x.grad is not None
    assert (x.grad[:, :6].abs().sum(dim=-1) > 0).all()
    assert torch.equal(x.grad[:, 6:], torch.zeros_like(x.grad[:, 6:]))


def test_a_reverse_mixer_is_a_causal_one_on_the_video_played_backwards() -> None:
    along = Mamba1Mixer(WIDTH, MambaConfig())
    against = Mamba1Mixer(WIDTH, MambaConfig(), reverse=True)
    against.load_state_dict(along.state_dict())
    x = torch.randn(2, 19, WIDTH)
    torch.testing.assert_close(against(x), along(x.flip(1)).flip(1), rtol=1e-5, atol=1e-6)


def test_packed_videos_get_what_each_gets_alone() -> None:
    mixer = Bidirectional(
        Mamba1Mixer(WIDTH, MambaConfig()), Mamba1Mixer(WIDTH, MambaConfig(), reverse=True)
    )
    videos = [torch.randn(1, frames, WIDTH) for frames in (1, 17, 4)]
    offsets = torch.tensor([0, 1, 18, 22], dtype=torch.int32)
    packed = mixer(torch.cat(videos, dim=1), offsets=offsets)
    alone = torch.cat([mixer(video) for video in videos], dim=1)
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sizes", [(23,), (1, 22), (7, 1, 15), (1,) * 23], ids=str)
def test_chunks_with_carried_state_equal_the_whole_video(sizes: tuple[int, ...]) -> None:
    mixer = Mamba1Mixer(WIDTH, MambaConfig())
    x = torch.randn(2, 23, WIDTH)
    state, parts = mixer.empty_state(videos=2), []
    for chunk in x.split(list(sizes), dim=1):
        part, state = mixer.continue_from(chunk, state)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), mixer(x), rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_stepping_with_the_state_in_place_equals_the_whole_video(device: torch.device) -> None:
    mixer = Mamba1Mixer(WIDTH, MambaConfig(state=5, conv_size=3)).to(device)
    x = torch.randn(3, 9, WIDTH, device=device)
    first, state = mixer.continue_from(x[:, :4], mixer.empty_state(videos=3))
    rest = [mixer.step(frame, state) for frame in x[:, 4:].unbind(dim=1)]
    parts = torch.cat([first, torch.stack(rest, dim=1)], dim=1)
    torch.testing.assert_close(parts, mixer(x), rtol=1e-4, atol=1e-6)


@pytest.mark.gpu
@torch.no_grad()
def test_a_cuda_graph_captures_the_step() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    mixer = Mamba1Mixer(WIDTH, MambaConfig()).cuda()
    frames = torch.randn(5, 2, WIDTH, device="cuda")
    alone, state, x = mixer.empty_state(2), mixer.empty_state(2), torch.zeros_like(frames[0])
    mixer.step(x, mixer.empty_state(2))  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = mixer.step(x, state)
    for each in state:
        each.zero_()
    for frame in frames:
        x.copy_(frame)
        graph.replay()
        assert torch.equal(y, mixer.step(frame, alone))


def gradients(mixer: torch.nn.Module, x: torch.Tensor, grad: torch.Tensor) -> list[torch.Tensor]:
    """What comes out, and the gradients of what went in and of the parameters."""
    y = mixer(x)
    return [y, *torch.autograd.grad(y, [x, *mixer.parameters()], grad)]


def both_directions(width: int) -> Bidirectional:
    """The mixers of Mamba-1 and Mamba-2, one along time and one against it."""
    against = Mamba2Mixer(width, Mamba2Config(head_size=16), reverse=True)
    return Bidirectional(Mamba1Mixer(width, MambaConfig()), against)


# PyTorch warns of the passes that it ran on another stream before it captured
@pytest.mark.filterwarnings("ignore:The AccumulateGrad node's stream")
@pytest.mark.gpu
def test_graphs_of_both_passes_give_what_launches_one_by_one_give() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    mixer = both_directions(32).cuda()
    x, grad = torch.randn(2, 2, 300, 32, device="cuda").unbind()
    # first of all: a graph must not meet what is left of a pass outside
    graphed: Any = torch.cuda.make_graphed_callables(
        copy.deepcopy(mixer), (x.clone().requires_grad_(),)
    )
    given = [gradients(m, x.clone().requires_grad_(), grad) for m in (graphed, mixer)]
    for actual, expected in zip(*given, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.gpu
def test_directions_that_run_at_once_give_what_each_gives_alone() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    mixer = both_directions(64).cuda()
    x, grad = torch.randn(2, 2, 5000, 64, device="cuda").unbind()
    x.requires_grad_()
    alone = [gradients(m, x, grad / 2) for m in (mixer.along, mixer.against)]
    (y_along, x_along, *along), (y_against, x_against, *against) = alone
    expected = [(y_along + y_against) / 2, x_along + x_against, *along, *against]
    for _ in range(5):
        for actual, wanted in zip(gradients(mixer, x, grad), expected, strict=True):
            torch.testing.assert_close(actual, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.gpu
def test_a_mixer_on_another_gpu_than_the_current_one_gives_the_same() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("fewer than two CUDA devices")
    mixer = both_directions(32)
    x, grad = torch.randn(2, 2, 300, 32).unbind()
    seen = [
        [t.cpu() for t in gradients(mixer.to(gpu), x.to(gpu).requires_grad_(), grad.to(gpu))]
        for gpu in ("cuda:0", "cuda:1")
    ]
    for first, second in zip(*seen, strict=True):
        assert torch.equal(first, second)


@torch.no_grad()
def test_going_on_with_one_frame_leaves_the_given_state_as_it_was() -> None:
    mixer = Mamba1Mixer(WIDTH, MambaConfig())
    state = mixer.empty_state(videos=2)
    _, after = mixer.continue_from(torch.randn(2, 1, WIDTH), state)
    assert not torch.any(state.scan)
    assert torch.any(after.scan)


@pytest.mark.parametrize("short", [0, 1000], ids=["computed again", "kept"])
def test_gradients_are_hugging_faces_in_float64(
    short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mamba1_lines, "SHORT", short)
    config = MambaConfig(state=5, conv_size=3)
    ours, theirs = Mamba1Mixer(WIDTH, config), hugging_face_mixer(config)
    ours.load_state_dict(theirs.state_dict())
    theirs = theirs.double()
    x, grad = torch.randn(2, 37, WIDTH), torch.randn(2, 37, WIDTH)
    inputs, exact = x.clone().requires_grad_(), x.double().requires_grad_()
    ours(inputs).backward(grad)
    theirs(exact).backward(grad.double())
    expected = {"x": exact} | dict(theirs.named_parameters())
    for name, tensor in {"x": inputs, **dict(ours.named_parameters())}.items():
        assert tensor.grad is not None
        wanted = expected[name].grad
        assert wanted is not None
        error = float((tensor.grad - wanted).norm() / wanted.norm())
        assert error < 2e-6, f"{name}: {error}"


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_mixer_compiles_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    # the compiler cannot trace the checks of annotations that the tests turn on
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    mixer = Mamba1Mixer(WIDTH, MambaConfig())
    inputs = [torch.randn(2, 9, WIDTH, requires_grad=True), *mixer.parameters()]
    compiled = torch.compile(mixer, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(mixer(inputs[0]).square().sum(), inputs)
    actual = torch.autograd.grad(compiled(inputs[0]).square().sum(), inputs)
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


@pytest.mark.parametrize("kind", [Mamba1Mixer, Mamba2Mixer])
def test_a_mixer_exports_with_any_number_of_frames(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    config = MambaConfig() if kind is Mamba1Mixer else Mamba2Config(state=8, head_size=8)
    mixer = kind(WIDTH, config)
    frames = torch.export.Dim("frames", min=2, max=4096)
    example = (torch.randn(1, 9, WIDTH),)
    program = torch.export.export(mixer, example, dynamic_shapes={"x": {1: frames}})
    longer = torch.randn(1, 77, WIDTH)
    assert torch.equal(program.module()(longer), mixer(longer))


def test_float64_gives_float64_as_exact_as_float32(device: torch.device) -> None:
    mixer = Mamba1Mixer(WIDTH, MambaConfig()).to(device)
    x = torch.randn(2, 40, WIDTH, device=device)
    wide = copy.deepcopy(mixer).double()
    found = []
    for own, given in ((mixer, x), (wide, x.double())):
        y = own(given)
        found.append([y, *torch.autograd.grad(y.square().sum(), [*own.parameters()])])
    for narrow, exact in zip(*found, strict=True):
        assert exact.dtype == torch.float64
        assert (narrow - exact).norm() < 1e-5 * exact.norm()


def test_autocast_computes_in_bfloat16_and_gives_float32_gradients(device: torch.device) -> None:
    mixer = Mamba1Mixer(WIDTH, MambaConfig()).to(device)
    x = torch.randn(1, 9, WIDTH, device=device, requires_grad=True)
    expected = mixer(x)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        y = mixer(x)
    assert y.dtype == torch.bfloat16
    assert float((y - expected).detach().norm()) < 0.02 * float(expected.detach().norm())
    gradients = torch.autograd.grad(y.float().square().sum(), [x, *mixer.parameters()])
    wanted = torch.autograd.grad(expected.square().sum(), [x, *mixer.parameters()])
    for gradient, other in zip(gradients, wanted, strict=True):
        assert gradient.dtype == torch.float32
        assert float((gradient - other).norm()) < 0.05 * float(other.norm())


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_per_example_gradients_are_each_examples_own() -> None:
    mixer = Mamba1Mixer(WIDTH, MambaConfig())
    x = torch.randn(3, 1, 9, WIDTH)
    weights: dict[str, torch.Tensor] = dict(mixer.named_parameters())

    def loss(weights: dict[str, torch.Tensor], example: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.func.functional_call(mixer, weights, (example,))
        return y.square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, x)
    alone = torch.func.grad(loss)(weights, x[1])
    for name, gradient in each.items():
        torch.testing.assert_close(gradient[1], alone[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("kind", [Mamba1Mixer, Mamba2Mixer])
def test_a_long_video_mixed_in_pieces_equals_the_whole(
    kind: Any, reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = MambaConfig() if kind is Mamba1Mixer else Mamba2Config(state=8, head_size=8)
    mixer = kind(WIDTH, config, reverse=reverse)
    x, grad = torch.randn(2, 2, 23, WIDTH)
    inputs = [x.clone().requires_grad_(), *mixer.parameters()]
    whole = mixer(inputs[0])
    expected = torch.autograd.grad(whole, inputs, grad)
    monkeypatch.setattr(mixers, "PIECE", 10)
    monkeypatch.setattr(mixers, "CHUNK", 2)
    y = mixer(inputs[0])
    gradients = torch.autograd.grad(y, inputs, grad)
    torch.testing.assert_close(y, whole, rtol=1e-4, atol=1e-5)
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-4)
    assert y.grad_fn is not None
    assert "Cat" in y.grad_fn.name()  # it was in pieces


def test_gradients_flow_through_carried_state_as_through_the_whole_video() -> None:
    mixer = Mamba1Mixer(WIDTH, MambaConfig())
    x = torch.randn(1, 10, WIDTH)
    mixer(x).square().sum().backward()
    assert mixer.in_proj.weight.grad is not None
    whole = mixer.in_proj.weight.grad.clone()
    mixer.zero_grad()
    first, state = mixer.continue_from(x[:, :4], mixer.empty_state(videos=1))
    second, _ = mixer.continue_from(x[:, 4:], state)
    (first.square().sum() + second.square().sum()).backward()
    torch.testing.assert_close(mixer.in_proj.weight.grad, whole, rtol=1e-4, atol=1e-5)


def test_a_reverse_mixer_refuses_to_go_on_with_later_frames() -> None:
    mixer = Mamba1Mixer(WIDTH, MambaConfig(), reverse=True)
    with pytest.raises(ValueError, match="against time"):
        mixer.continue_from(torch.randn(1, 3, WIDTH), mixer.empty_state(videos=1))


def test_initial_step_sizes_lie_between_the_two_that_the_config_names() -> None:
    mixer = Mamba1Mixer(256, MambaConfig(dt_min=0.01, dt_max=0.05))
    steps = torch.nn.functional.softplus(mixer.dt_proj.bias)
    assert steps.min() >= 0.01 * 0.999
    assert steps.max() <= 0.05 * 1.001
    assert steps.max() > 2 * steps.min()


@pytest.mark.parametrize("bad", [{"state": 0}, {"conv_size": 0}, {"dt_min": 0.2}], ids=str)
def test_sizes_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        MambaConfig(**bad)  # type: ignore[arg-type]
