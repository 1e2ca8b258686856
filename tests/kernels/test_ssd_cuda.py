"""What only a CUDA device can show of Mamba-2's scan: rounding, graphs, and long videos."""

from typing import Any

import pytest
import torch
from torch import Tensor

from vidmamba.kernels.ssd import ssd, ssd_reference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

# relative: the rounding of bfloat16 is 1.7e-3, of float16 2.1e-4; float32's sums as on the CPU
ROUNDING = {torch.bfloat16: 2e-3, torch.float16: 2.5e-4, torch.float32: 3e-6}
# what is a difference or a sum of terms that cancel has their error, not its own
SLACK = {"dt": 2, "A": 20, "dt_bias": 20}


def make_arguments(
    shape: tuple[int, int, int, int, int, int], dtype: torch.dtype = torch.bfloat16
) -> dict[str, Any]:
    B, T, H, P, G, N = shape

    def draw(*sizes: int) -> Tensor:
        return torch.randn(sizes, device="cuda")

    frames = {
        "x": draw(B, T, H, P),
        "dt": draw(B, T, H) - 3,
        "B": draw(B, T, G, N) / N**0.5,
        "C": draw(B, T, G, N),
        "z": draw(B, T, H, P),
    }
    parameters = {
        "A": -torch.linspace(0.5, 16, H, device="cuda"),
        "D": draw(H),
        "dt_bias": draw(H) / 4,
    }
    return {n: t.to(dtype) for n, t in frames.items()} | parameters


def gradients(arguments: dict[str, Any], weight: Tensor, **how: Any) -> dict[str, Tensor]:
    # leaves of this stream: those of another would make it wait
    leaves = {name: t.detach().requires_grad_() for name, t in arguments.items()}
    y = ssd(**leaves, dt_softplus=True, **how)
    found = torch.autograd.grad(y, list(leaves.values()), weight)
    return {"y": y.detach(), **dict(zip(leaves, found, strict=True))}


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize(
    "shape",
    [
        (1, 300, 4, 64, 1, 128),
        (2, 257, 4, 64, 2, 64),
        (1, 129, 2, 128, 1, 64),
        (1, 200, 2, 64, 1, 256),
        (1, 127, 3, 32, 3, 16),
    ],
    ids=str,
)
def test_values_and_gradients_are_exact_up_to_one_rounding(
    shape: tuple[int, int, int, int, int, int], dtype: torch.dtype
) -> None:
    arguments = make_arguments(shape, dtype)
    exact = {n: t.detach().double().cpu().requires_grad_() for n, t in arguments.items()}
    y64, _ = ssd_reference(**exact, dt_softplus=True)
    weight = torch.randn_like(arguments["x"])
    found = torch.autograd.grad(y64, list(exact.values()), weight.double().cpu())
    expected = {"y": y64, **dict(zip(exact, found, strict=True))}
    for name, ours in gradients(arguments, weight).items():
        error = (ours.double().cpu() - expected[name]).norm() / expected[name].norm()
        assert error < ROUNDING[dtype] * SLACK.get(name, 1), f"{name}: {error}"


@pytest.mark.parametrize("packed", [False, True], ids=["whole", "packed"])
def test_a_captured_graph_repeats_forward_and_backward_bit_for_bit(packed: bool) -> None:
    arguments = make_arguments((1, 1500, 4, 64, 1, 128))
    weight = torch.randn_like(arguments["x"])
    offsets = torch.tensor([0, 700, 700, 1499, 1500], device="cuda") if packed else None
    how = {"offsets": offsets, "reverse": packed}
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # compile and run aside, as a capture wants it
        eager = {name: t.clone() for name, t in gradients(arguments, weight, **how).items()}
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = gradients(arguments, weight, **how)
    for tensor in captured.values():
        tensor.zero_()
    graph.replay()
    torch.cuda.synchronize()
    for name, expected in eager.items():
        assert torch.equal(captured[name], expected), name


def test_a_slow_decay_costs_float32_no_accuracy_over_30000_frames() -> None:
    arguments = make_arguments((1, 30_000, 2, 4, 1, 8), torch.float32)
    arguments["A"] = -1e-5 - 1e-3 * torch.rand_like(arguments["A"])
    y, final = ssd(**arguments, dt_softplus=True, return_final_state=True)
    exact = {n: t.double().cpu() for n, t in arguments.items()}
    expected = ssd_reference(**exact, dt_softplus=True)
    for ours, truth in zip((y, final), expected, strict=True):
        assert (ours.double().cpu() - truth).norm() / truth.norm() < 1e-6


@pytest.mark.slow
def test_offsets_past_two_to_the_31_reach_the_right_frames() -> None:
    if torch.cuda.mem_get_info()[0] < 48 * 2**30:
        pytest.skip("needs 48 GiB of free GPU memory")
    arguments = make_arguments((1, 2_000_000, 20, 64, 1, 16))
    # 20,000 frames forget what was before them
    tail: dict[str, Any] = {
        n: t[:, -21_000:].contiguous() if t.ndim > 1 else t for n, t in arguments.items()
    }
    with torch.no_grad():
        y, final = ssd(**arguments, dt_softplus=True, return_final_state=True)
        expected = ssd(**tail, dt_softplus=True, return_final_state=True)
    torch.testing.assert_close(y[:, -1000:], expected[0][:, -1000:], rtol=0.02, atol=0.02)
    torch.testing.assert_close(final, expected[1], rtol=1e-3, atol=1e-3)
