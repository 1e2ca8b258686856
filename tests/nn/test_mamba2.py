"""The Mamba-2 mixer against Hugging Face's, and the invariants that long video needs."""

import jaxtyping
import pytest
import torch
from transformers import Mamba2Config as HuggingFaceConfig
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer as HuggingFaceMixer

from vidmamba.nn import mamba1_lines
from vidmamba.nn.mamba2 import Mamba2Config, Mamba2Mixer
from vidmamba.nn.mixer import MixerState

WIDTH = 32
CONFIG = Mamba2Config(state=16, head_size=16, groups=2)


@pytest.mark.parametrize("config", [CONFIG, Mamba2Config(state=8, head_size=32, conv_size=3)])
def test_equals_hugging_faces_mixer_with_its_weights_loaded_by_name(config: Mamba2Config) -> None:
    theirs = HuggingFaceMixer(
        HuggingFaceConfig(
            hidden_size=WIDTH,
            state_size=config.state,
            head_dim=config.head_size,
            num_heads=config.expand * WIDTH // config.head_size,
            n_groups=config.groups,
            expand=config.expand,
            conv_kernel=config.conv_size,
            use_conv_bias=True,
            use_bias=False,
            chunk_size=16,
        ),
        layer_idx=0,
    )
    with torch.no_grad():  # its bare module leaves these as a pretrained model would fill them
        for parameter in (theirs.dt_bias, theirs.A_log, theirs.D):
            parameter.copy_(torch.rand_like(parameter))
    ours = Mamba2Mixer(WIDTH, config)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 37, WIDTH)
    expected = theirs(x).detach()
    torch.testing.assert_close(
        ours(x), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max())
    )


@pytest.mark.parametrize("sizes", [(1, 22), (7, 1, 15)], ids=str)
def test_chunks_with_carried_state_equal_the_whole_video(sizes: tuple[int, ...]) -> None:
    mixer = Mamba2Mixer(WIDTH, CONFIG)
    x = torch.randn(2, 23, WIDTH)
    state, parts = mixer.empty_state(videos=2), []
    for chunk in x.split(list(sizes), dim=1):
        part, state = mixer.continue_from(chunk, state)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), mixer(x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_packed_videos_get_what_each_gets_alone(reverse: bool) -> None:
    mixer = Mamba2Mixer(WIDTH, CONFIG, reverse=reverse)
    videos = [torch.randn(1, frames, WIDTH) for frames in (1, 17, 4)]
    offsets = torch.tensor([0, 1, 18, 22], dtype=torch.int32)
    packed = mixer(torch.cat(videos, dim=1), offsets=offsets)
    alone = torch.cat([mixer(video) for video in videos], dim=1)
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-5)


def test_heads_that_do_not_divide_the_width_are_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match="64 must split into heads of 48"):
        Mamba2Mixer(WIDTH, Mamba2Config(head_size=48))


@torch.no_grad()
def test_stepping_with_the_state_in_place_equals_the_whole_video(device: torch.device) -> None:
    mixer = Mamba2Mixer(WIDTH, CONFIG).to(device)
    x = torch.randn(3, 9, WIDTH, device=device)
    first, state = mixer.continue_from(x[:, :4], mixer.empty_state(videos=3))
    rest = [mixer.step(frame, state) for frame in x[:, 4:].unbind(dim=1)]
    parts = torch.cat([first, torch.stack(rest, dim=1)], dim=1)
    torch.testing.assert_close(parts, mixer(x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("short", [0, 1000], ids=["computed again", "kept"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_the_gradients_written_by_hand_are_right_in_float64(
    reverse: bool, short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mamba1_lines, "SHORT", short)
    mixer = Mamba2Mixer(6, Mamba2Config(state=3, head_size=3, groups=2), reverse=reverse).double()
    names = [name for name, _ in mixer.named_parameters()]
    x = torch.randn(1, 7, 6, dtype=torch.float64, requires_grad=True)
    offsets = torch.tensor([0, 3, 7])

    def packed(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        given = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(mixer, given, (x,), {"offsets": offsets})

    assert torch.autograd.gradcheck(packed, (x, *mixer.parameters()), fast_mode=True)


def test_gradients_of_carried_states_are_right_in_float64() -> None:
    mixer = Mamba2Mixer(6, Mamba2Config(state=3, head_size=3, groups=2)).double()
    x = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    state = [torch.randn_like(s).requires_grad_() for s in mixer.empty_state(videos=2)]

    def go_on(x: torch.Tensor, *state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y, after = mixer.continue_from(x, MixerState(*state))
        return y, *after

    assert torch.autograd.gradcheck(go_on, (x, *state), fast_mode=True)


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_mixer_compiles_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    # the compiler cannot trace the checks of annotations that the tests turn on
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    mixer = Mamba2Mixer(WIDTH, CONFIG)
    inputs = [torch.randn(2, 9, WIDTH, requires_grad=True), *mixer.parameters()]
    compiled = torch.compile(mixer, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(mixer(inputs[0]).square().sum(), inputs)
    actual = torch.autograd.grad(compiled(inputs[0]).square().sum(), inputs)
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_autocast_computes_in_bfloat16_and_gives_float32_gradients(device: torch.device) -> None:
    mixer = Mamba2Mixer(WIDTH, CONFIG).to(device)
    x = torch.randn(1, 9, WIDTH, device=device, requires_grad=True)
    expected = mixer(x)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        y = mixer(x)
    assert y.dtype == torch.bfloat16
    gradients = torch.autograd.grad(y.float().square().sum(), [x, *mixer.parameters()])
    wanted = torch.autograd.grad(expected.square().sum(), [x, *mixer.parameters()])
    for gradient, other in zip(gradients, wanted, strict=True):
        assert gradient.dtype == torch.float32
        assert float((gradient - other).norm()) < 0.05 * float(other.norm())
