"""Mamba-2's scan must equal its definition in float64, at awkward sizes, states and all."""

from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor

from vidmamba.kernels.ssd import chunks, ssd, ssd_reference, ssd_step

Inputs = dict[str, Any]
Shape = tuple[int, int, int, int, int, int]

# (B, T, H, P, G, N): one of everything, odd everything, a chunk of frames, one more, two blocks
SHAPES = [(1, 1, 1, 1, 1, 1), (2, 7, 3, 5, 1, 3), (1, 64, 4, 8, 2, 16), (2, 65, 2, 3, 2, 1)]
LONG = (1, 64 * 17 + 3, 2, 4, 1, 8)


def make_inputs(
    shape: Shape, dtype: torch.dtype = torch.float32, videos: int | None = None
) -> Inputs:
    B, T, H, P, G, N = shape
    made = {
        "x": torch.randn(B, T, H, P),
        "dt": torch.randn(B, T, H) - 1,
        "A": -torch.rand(H) - 0.1,
        "B": torch.randn(B, T, G, N) / N**0.5,
        "C": torch.randn(B, T, G, N),
        "D": torch.randn(H),
        "z": torch.randn(B, T, H, P),
        "dt_bias": torch.randn(H) / 2,
        "initial_state": torch.randn(videos or B, H, P, N),
    }
    return {name: tensor.to(dtype).requires_grad_() for name, tensor in made.items()}


def in_float64(inputs: Inputs) -> Inputs:
    return {name: t.detach().double().cpu().requires_grad_() for name, t in inputs.items()}


def moved(inputs: Inputs, device: torch.device) -> Inputs:
    return {name: t.detach().to(device).requires_grad_() for name, t in inputs.items()}


def relative_error(actual: Tensor | None, expected: Tensor | None) -> float:
    assert actual is not None
    assert expected is not None
    difference = actual.detach().double().cpu() - expected.detach()
    return float(difference.norm() / expected.detach().norm())


def check_against_reference(inputs: Inputs, **how: Any) -> None:
    """Allow, relative to each tensor as a whole, the rounding of its dtype, or float32's sums."""
    exact = in_float64(inputs)
    offsets = how.get("offsets")
    how64 = how | {"offsets": None if offsets is None else offsets.cpu()}
    y, state = ssd(**inputs, **how, dt_softplus=True, return_final_state=True)
    y64, state64 = ssd_reference(**exact, **how64, dt_softplus=True)
    allowed = max(torch.finfo(y.dtype).eps, 3e-6)
    assert relative_error(y, y64) < allowed
    assert relative_error(state, state64) < allowed

    grad_y, grad_state = torch.randn_like(y), torch.randn_like(state)
    torch.autograd.backward([y, state], [grad_y, grad_state])
    torch.autograd.backward([y64, state64], [grad_y.double().cpu(), grad_state.double().cpu()])
    for name, tensor in inputs.items():
        # the parameters' gradients are sums over all frames, whose terms cancel
        slack = 10 if name in ("A", "D", "dt_bias") else 1
        assert relative_error(tensor.grad, exact[name].grad) < allowed * slack, name


@pytest.mark.parametrize("shape", [*SHAPES, LONG], ids=str)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_values_states_and_gradients_match_the_reference(
    shape: Shape, reverse: bool, device: torch.device
) -> None:
    check_against_reference(moved(make_inputs(shape), device), reverse=reverse)


def test_heads_may_be_wider_than_any_tile(device: torch.device) -> None:
    check_against_reference(moved(make_inputs((1, 70, 1, 300, 1, 2)), device))


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_packed_videos_match_the_reference(reverse: bool, device: torch.device) -> None:
    # a single frame, an empty video, a whole chunk, a chunk and a frame, the rest
    offsets = torch.tensor([0, 1, 1, 65, 130, 150], device=device)
    inputs = moved(make_inputs((1, 150, 2, 3, 1, 4), videos=5), device)
    check_against_reference(inputs, reverse=reverse, offsets=offsets)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_videos_may_begin_and_end_anywhere_in_a_block_of_chunks(
    reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNKS_A_BLOCK", 3)
    # two videos in the first block, the second going on for three more; one that ends with a block
    offsets = torch.tensor([0, 70, 550, 551, 680])
    inputs = make_inputs((1, 680, 2, 3, 1, 4), videos=4)
    check_against_reference(inputs, reverse=reverse, offsets=offsets)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_rounds_only_its_results(dtype: torch.dtype, device: torch.device) -> None:
    check_against_reference(moved(make_inputs((2, 70, 2, 4, 1, 8), dtype), device))


def test_derivatives_are_right_in_float64() -> None:
    inputs = make_inputs((1, 5, 2, 2, 1, 2), torch.float64, videos=2)
    offsets = torch.tensor([0, 2, 5])

    def packed(*tensors: Tensor) -> Any:
        named: Inputs = dict(zip(inputs, tensors, strict=True))
        how = {"dt_softplus": True, "offsets": offsets, "return_final_state": True}
        return ssd(**(named | how))

    assert torch.autograd.gradcheck(packed, tuple(inputs.values()), fast_mode=True)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_is_a_well_formed_operator(device: torch.device) -> None:
    inputs = moved(make_inputs((2, 5, 2, 3, 1, 4)), device)
    how = (None, True, False, True)
    torch.library.opcheck(torch.ops.vidmamba.ssd.default, (*inputs.values(), *how))
    given = [t.detach() for t in inputs.values()]
    y, state, kept = torch.ops.vidmamba.ssd(*given, *how)
    torch.library.opcheck(
        torch.ops.vidmamba.ssd_backward.default, (y, state, *given, None, kept, True, False)
    )
    torch.library.opcheck(torch.ops.vidmamba.ssd_step.default, (given[-1], *given[:-1], True))


def test_chunks_and_steps_equal_the_whole(device: torch.device) -> None:
    inputs = moved(make_inputs((2, 70, 2, 3, 1, 4)), device)
    inputs = {name: t.detach() for name, t in inputs.items()}
    whole, last = ssd(**inputs, dt_softplus=True, return_final_state=True)
    state, parts = inputs["initial_state"].clone(), []
    framed = ("x", "dt", "B", "C", "z")
    for first, end in [(0, 31), (31, 66)]:
        piece = inputs | {name: inputs[name][:, first:end] for name in framed}
        piece["initial_state"] = state
        y, state = ssd(**piece, dt_softplus=True, return_final_state=True)
        parts.append(y)
    del inputs["initial_state"]
    few = inputs | {name: inputs[name][:, 66:69] for name in framed}
    parts.append(ssd_step(state, **few, dt_softplus=True))
    one = inputs | {name: inputs[name][:, 69] for name in framed}
    parts.append(ssd_step(state, **one, dt_softplus=True)[:, None])
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state, last, rtol=1e-5, atol=1e-5)


def test_packed_videos_equal_videos_one_by_one(device: torch.device) -> None:
    inputs = moved(make_inputs((1, 150, 2, 3, 1, 4), videos=3), device)
    inputs = {name: t.detach() for name, t in inputs.items()}
    offsets = torch.tensor([0, 7, 80, 150], device=device)
    packed, states = ssd(**inputs, offsets=offsets, reverse=True, return_final_state=True)
    for video, (begin, end) in enumerate([(0, 7), (7, 80), (80, 150)]):
        alone = inputs | {n: inputs[n][:, begin:end] for n in ("x", "dt", "B", "C", "z")}
        alone["initial_state"] = inputs["initial_state"][video : video + 1]
        y, state = ssd(**alone, reverse=True, return_final_state=True)
        torch.testing.assert_close(packed[:, begin:end], y, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(states[video], state[0], rtol=1e-5, atol=1e-5)


def test_a_later_frame_never_changes_an_earlier_output(device: torch.device) -> None:
    inputs = moved(make_inputs((1, 100, 2, 3, 1, 4)), device)
    inputs = {name: t.detach() for name, t in inputs.items()}
    before = ssd(**inputs)
    inputs["x"][:, 70:] += 100
    torch.testing.assert_close(ssd(**inputs)[:, :70], before[:, :70], rtol=0, atol=0)


def test_gradients_are_the_same_bits_every_time(device: torch.device) -> None:
    inputs = moved(make_inputs((1, 1200, 4, 16, 2, 16)), device)
    results = [
        torch.autograd.grad(ssd(**inputs, dt_softplus=True).square().sum(), tuple(inputs.values()))
        for _ in range(2)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_slow_decay_stays_exact_over_many_frames() -> None:
    inputs = make_inputs((1, 4096, 1, 2, 1, 2))
    inputs["A"] = torch.tensor([-1e-4])
    exact = {name: t.detach().double() for name, t in inputs.items()}
    expected, _ = ssd_reference(**exact, dt_softplus=True)
    assert relative_error(ssd(**inputs, dt_softplus=True), expected) < 1e-6


def test_equals_the_scan_of_transformers() -> None:
    mamba2 = pytest.importorskip("transformers.models.mamba2.modeling_mamba2")
    if not hasattr(mamba2, "mamba2_chunk_scan"):
        pytest.skip("this version of transformers has no function for the scan alone")
    given = {n: t.detach() for n, t in make_inputs((2, 37, 4, 4, 2, 6)).items() if n != "z"}
    y, state = ssd(**given, dt_softplus=True, return_final_state=True)
    given["initial_states"] = given.pop("initial_state")
    how = {"chunk_size": 16, "dt_softplus": True, "return_final_states": True}
    expected, last = mamba2.mamba2_chunk_scan(given.pop("x"), **given, **how)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state, last, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiles_whole_and_transforms(monkeypatch: pytest.MonkeyPatch) -> None:
    # the compiler cannot trace the checks of annotations that the tests turn on
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    inputs = {name: t.detach() for name, t in make_inputs((3, 9, 2, 3, 1, 4)).items()}
    del inputs["initial_state"]
    rest = {n: t for n, t in inputs.items() if n not in ("x", "A")}
    rest = {n: t[:1] if n in ("dt", "B", "C", "z") else t for n, t in rest.items()}
    x, A = inputs["x"][:, None], inputs["A"]

    def loss(x: Tensor, rates: Tensor) -> Tensor:
        y, state = ssd(x, A=rates, **rest, dt_softplus=True, return_final_state=True)
        return y.square().sum() + state.sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x[0], A), loss(x[0], A))
    gradient = torch.func.grad(loss, argnums=(0, 1))
    batched = torch.func.vmap(gradient, in_dims=(0, None))(x, A)
    for i in range(3):
        for many, one in zip(batched, gradient(x[i], A), strict=True):
            torch.testing.assert_close(many[i], one)


def test_wrong_inputs_are_refused_with_their_values() -> None:
    inputs = {name: t.detach() for name, t in make_inputs((1, 6, 4, 2, 2, 3)).items()}
    wrong = [
        ({"x": inputs["x"][0]}, r"x must have a shape \(B, T, H, P\) .* got \[6, 4, 2\]"),
        ({"dt": inputs["dt"][:, :5]}, r"dt must have shape \[1, 6, 4\], got \[1, 5, 4\]"),
        ({"B": inputs["B"][:, :, [0, 0, 0]]}, r"G dividing H = 4 .* got \[1, 6, 3, 3\]"),
        ({"z": inputs["z"].long()}, "z must be one of .* got torch.int64"),
        ({"A": inputs["A"].double()}, "x is torch.float32 but A is torch.float64"),
        ({"offsets": torch.tensor([0, 5])}, r"offsets must rise from 0 to T = 6, got \[0, 5\]"),
        ({"offsets": torch.tensor([0.0, 6.0])}, "offsets must be int32 or int64, got torch.float"),
    ]
    for change, message in wrong:
        with pytest.raises(ValueError, match=message):
            ssd(**(inputs | change))


@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_exports_for_videos_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)

    class Scan(torch.nn.Module):
        def forward(self, x: Tensor, dt: Tensor, B: Tensor, C: Tensor) -> Any:  # noqa: N803
            return ssd(x, dt, torch.tensor([-1.0, -0.5]), B, C, dt_softplus=True)

    def frames(count: int) -> tuple[Tensor, ...]:
        made = make_inputs((1, count, 2, 3, 1, 4))
        return tuple(made[name].detach() for name in ("x", "dt", "B", "C"))

    length = torch.export.Dim("length", min=2, max=100_000)
    program = torch.export.export(Scan(), frames(9), dynamic_shapes=({1: length},) * 4)
    longer = frames(1100)
    torch.testing.assert_close(program.module()(*longer), Scan()(*longer))
