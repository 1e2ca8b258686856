"""What only a CUDA device can show: graphs, offsets past 2**31, and long float32 scans."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from vidmamba.kernels.selective_scan import (
    checks,
    plan,
    selective_scan,
    selective_scan_reference,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def make_arguments(frames: int, width: int, dtype: torch.dtype, states: int = 16) -> dict[str, Any]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, device="cuda", dtype=dtype)

    return {
        "u": draw(1, frames, width),
        "delta": draw(1, frames, width) - 4,
        "A": -torch.arange(1.0, states + 1, device="cuda").repeat(width, 1),
        "B": draw(1, frames, states),
        "C": draw(1, frames, states),
        "D": torch.randn(width, device="cuda"),
        "z": draw(1, frames, width),
        "delta_bias": 0.1 * torch.randn(width, device="cuda"),
    }


@pytest.mark.parametrize("packed", [False, True], ids=["whole", "packed"])
def test_a_captured_graph_repeats_forward_and_backward_bit_for_bit(packed: bool) -> None:
    arguments = make_arguments(1500, 96, torch.bfloat16)
    weight = torch.randn_like(arguments["u"])
    offsets = torch.tensor([0, 700, 700, 1499, 1500], device="cuda") if packed else None

    def run() -> list[Tensor]:
        # leaves of this stream: those of another would make it wait
        leaves: dict[str, Any] = {
            name: t.detach().requires_grad_() for name, t in arguments.items()
        }
        y = selective_scan(**leaves, delta_softplus=True, offsets=offsets, reverse=packed)
        return [y, *torch.autograd.grad(y, list(leaves.values()), weight)]

    eager = run_aside(run)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run()
    for tensor in captured:
        tensor.detach().zero_()
    graph.replay()
    torch.cuda.synchronize()
    for ours, expected in zip(captured, eager, strict=True):
        assert torch.equal(ours, expected)


def run_aside(run: Callable[[], list[Tensor]]) -> list[Tensor]:
    """Compile and run on a side stream, as a capture wants it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = [t.clone() for t in run()]
    torch.cuda.current_stream().wait_stream(stream)
    return found


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("frames", [64, 65, 100, 1290])
def test_gradients_match_the_reference_in_chunks_of_many_segments(
    frames: int, reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # chunks as long as if there were much work
    monkeypatch.setattr(checks, "CUDA_PROGRAMS", 1)
    monkeypatch.setattr(checks, "CUDA_PROGRAMS_BACK", 1)
    monkeypatch.setattr(plan, "_multiprocessors", lambda _: 1)
    monkeypatch.setattr(plan, "PROGRAMS", 3)
    check_gradients(make_arguments(frames, 72, torch.float32), reverse)


@pytest.mark.parametrize("together", [False, True], ids=["apart", "together"])
@pytest.mark.parametrize(
    ("span", "size", "way"),
    [(64, 64, (64, 2)), (32, 96, (64, 2)), (32, 128, (32, 1)), (64, 192, (32, 1))],
)
def test_gradients_match_the_reference_however_their_work_is_divided(
    span: int, size: int, way: tuple[int, int], together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "CUDA_PROGRAMS", 1)
    monkeypatch.setattr(checks, "_choose_span", lambda _: span)
    monkeypatch.setattr(plan, "_choose", lambda *_: size)
    monkeypatch.setattr(plan, "WAYS", (way,))
    monkeypatch.setattr(plan, "WAITING", 1 if together else 0)
    check_gradients(make_arguments(700, 136, torch.float32), reverse=together)


def test_programs_that_take_chunk_after_chunk_add_up_the_sums_of_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # room for 8 chunks at a time, of which there are some 90 of 32 frames, or fewer
    monkeypatch.setattr(plan, "_multiprocessors", lambda _: 7)
    offsets = torch.tensor([0, 0, 1, 1500, 1500, 2790, 2800], device="cuda")
    check_gradients(make_arguments(2800, 200, torch.float32), reverse=True, offsets=offsets)


@pytest.mark.parametrize(
    ("states", "dtype"), [(20, torch.bfloat16), (33, torch.float16), (64, torch.float32)], ids=str
)
def test_gradients_match_the_reference_where_states_lie_in_memory(
    states: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "CUDA_PROGRAMS", 1)
    monkeypatch.setattr(plan, "_choose", lambda *_: 128)
    check_gradients(make_arguments(300, 136, dtype, states), reverse=dtype == torch.float16)


@pytest.mark.parametrize("shift", [0, 1], ids=["whole pieces", "anywhere"])
@pytest.mark.parametrize(
    ("frames", "width", "span", "size", "dtype"),
    [
        (9, 64, 32, 32, torch.bfloat16),
        (700, 96, 32, 96, torch.bfloat16),
        (699, 96, 64, 192, torch.bfloat16),
        (264, 64, 32, 64, torch.float16),
        (100, 40, 32, 64, torch.bfloat16),
    ],
)
def test_gradients_match_the_reference_wherever_rows_of_half_precision_begin(
    frames: int,
    width: int,
    span: int,
    size: int,
    dtype: torch.dtype,
    shift: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "CUDA_PROGRAMS", 1)
    monkeypatch.setattr(checks, "_choose_span", lambda _: span)
    monkeypatch.setattr(plan, "_choose", lambda *_: size)
    arguments = make_arguments(frames, width, dtype)
    if frames == 264:
        del arguments["z"]
    for name in arguments.keys() & {"u", "delta", "z"}:
        t = arguments[name]
        arguments[name] = torch.cat([t.new_zeros(shift), t.flatten()])[shift:].view(t.shape)
    check_gradients(arguments, reverse=shift == 1)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize(("batch", "frames"), [(1, 4096), (1, 1001), (3, 96)])
def test_a_gradient_in_the_memory_of_kept_states_has_the_same_bits(
    batch: int, frames: int, reverse: bool
) -> None:
    arguments = make_arguments(frames, 128, torch.bfloat16)
    leaves: dict[str, Any] = {
        k: (t.expand(batch, -1, -1) if t.ndim == 3 else t).clone().requires_grad_()
        for k, t in arguments.items()
    }
    y = selective_scan(**leaves, delta_softplus=True, reverse=reverse)
    weight = torch.randn_like(y)
    # as long as the graph is kept, so are the states
    first, again = (
        torch.autograd.grad(y, list(leaves.values()), weight, retain_graph=True) for _ in range(2)
    )
    assert y.grad_fn is not None
    kept = y.grad_fn.saved_tensors[-1].untyped_storage().data_ptr()
    last = torch.autograd.grad(y, list(leaves.values()), weight)
    for expected, *others in zip(first, again, last, strict=True):
        assert all(torch.equal(expected, other) for other in others)
    places = [grads[0].untyped_storage().data_ptr() for grads in (first, again, last)]
    assert [place == kept for place in places] == [False, False, True]


def check_gradients(
    arguments: dict[str, Any], reverse: bool, offsets: Tensor | None = None
) -> None:
    leaves = {name: t.detach().requires_grad_() for name, t in arguments.items()}
    exact = {name: t.detach().double().cpu().requires_grad_() for name, t in arguments.items()}
    y = selective_scan(**leaves, delta_softplus=True, reverse=reverse, offsets=offsets)
    bounds = None if offsets is None else offsets.cpu()
    truth = selective_scan_reference(**exact, delta_softplus=True, reverse=reverse, offsets=bounds)[
        0
    ]
    weight = torch.randn_like(truth).to(y.dtype).double()
    found = torch.autograd.grad(y, list(leaves.values()), weight.to(y))
    expected = torch.autograd.grad(truth, list(exact.values()), weight)
    for name, ours, exactly in zip(leaves, found, expected, strict=True):
        error = (ours.double().cpu() - exactly).norm() / exactly.norm()
        # one rounding of half precision, a few of float32
        allowed = max(torch.finfo(y.dtype).eps, 16 * torch.finfo(torch.float32).eps)
        assert error < allowed, f"{name}: {error}"


@pytest.mark.slow
def test_offsets_past_two_to_the_31_reach_the_right_frames() -> None:
    if torch.cuda.mem_get_info()[0] < 48 * 2**30:
        pytest.skip("needs 48 GiB of free GPU memory")
    arguments = make_arguments(2_000_000, 1280, torch.bfloat16)
    # 20,000 frames forget what was before them
    tail: dict[str, Any] = {
        k: t[:, -21_000:].contiguous() if t.ndim == 3 else t for k, t in arguments.items()
    }
    with torch.no_grad():
        y, final = selective_scan(**arguments, delta_softplus=True, return_final_state=True)
        expected = selective_scan(**tail, delta_softplus=True, return_final_state=True)
    torch.testing.assert_close(y[:, -1000:], expected[0][:, -1000:], rtol=0.01, atol=0.01)
    torch.testing.assert_close(final, expected[1], rtol=1e-4, atol=1e-4)


def test_a_slow_decay_costs_float32_no_accuracy_over_30000_frames() -> None:
    arguments = make_arguments(30_000, 8, torch.float32)
    arguments["A"] = -1e-5 - 1e-3 * torch.rand_like(arguments["A"])
    y, final = selective_scan(**arguments, delta_softplus=True, return_final_state=True)

    exact = {k: t.double().cpu() for k, t in arguments.items()}
    step = torch.nn.functional.softplus(exact["delta"] + exact["delta_bias"])[0]
    gain = (step * exact["u"][0])[..., None] * exact["B"][0][:, None]
    decay = torch.exp(step[..., None] * exact["A"])
    state, states = torch.zeros(8, 16, dtype=torch.float64), []
    for frame in range(30_000):
        state = decay[frame] * state + gain[frame]
        states.append(state)
    seen = (torch.stack(states) * exact["C"][0][:, None]).sum(-1) + exact["D"] * exact["u"][0]
    expected = seen * torch.nn.functional.silu(exact["z"][0])
    for ours, truth in ((y[0], expected), (final[0], state)):
        assert (ours.cpu().double() - truth).norm() / truth.norm() < 1e-6
