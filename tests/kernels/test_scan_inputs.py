"""What the scan takes besides frames, and the way back, must equal their definitions."""

from typing import Any

import pytest
import torch
from torch import Tensor

from vidmamba.kernels.scan_inputs import (
    scan_inputs,
    scan_inputs_backward,
    scan_inputs_reference,
    scan_rates,
    scan_rates_backward,
)
from vidmamba.kernels.scan_inputs.kernel import (
    launch_cut,
    launch_join,
    launch_rates,
    launch_rates_backward,
)

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# (B, T, R, E, N): one of all; odd; more rows than a tile has, more rates than a program makes
SHAPES = [(1, 1, 1, 1, 1), (2, 3, 5, 7, 3), (1, 150, 32, 70, 16)]


def made(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """What goes in, and gradients of what comes out: of the steps, B, C and the rates."""
    B, T, R, E, N = shape
    low, A_log = torch.randn(B, T, R + 2 * N, dtype=dtype), torch.randn(E, N, dtype=dtype)
    grads = [torch.randn(*size, dtype=dtype) for size in ((B * T, R), (B, T, N), (B, T, N))]
    return [low, A_log], [*grads, torch.randn(E, N)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kernel", [False, True], ids=["operator", "kernel"])
def test_both_ways_equal_the_definition(
    shape: tuple[int, ...], dtype: torch.dtype, kernel: bool, device: torch.device
) -> None:
    inputs, grads = made(shape, dtype)
    exact = [t.double().requires_grad_() for t in inputs]
    expected = scan_inputs_reference(exact[0], exact[1])
    step = exact[0][..., : shape[2]].flatten(0, 1)
    grad_step, grad_B, grad_C, grad_A = (g.double() for g in grads)
    torch.autograd.backward([step, *expected], [grad_step, torch.stack([grad_B, grad_C]), grad_A])
    there: Any = launch_cut if kernel else scan_inputs
    back: Any = launch_join if kernel else scan_inputs_backward
    on = DEVICE if kernel else device
    inputs, grads = ([t.to(on) for t in each] for each in (inputs, grads))
    projections, A = there(*inputs)
    assert torch.equal(A, (launch_rates if kernel else scan_rates)(inputs[1]))
    grad_low, grad_A_log = back(*grads, A, inputs[1])
    alone: Any = launch_rates_backward if kernel else scan_rates_backward
    assert torch.equal(grad_A_log, alone(grads[3], A, inputs[1]))
    assert torch.equal(projections.double().cpu(), expected[0].detach())
    torch.testing.assert_close(A.double().cpu(), expected[1].detach(), rtol=1e-6, atol=0)
    assert exact[0].grad is not None
    assert exact[1].grad is not None
    assert torch.equal(grad_low.double().cpu(), exact[0].grad.flatten(0, 1))
    rounding = 1e-6 if dtype == torch.float32 else 2**-7  # the interpreter cuts bits off
    torch.testing.assert_close(grad_A_log.double().cpu(), exact[1].grad, rtol=rounding, atol=0)


def test_are_well_formed_operators(device: torch.device) -> None:
    inputs, grads = ([t.to(device) for t in each] for each in made(SHAPES[1], torch.float32))
    torch.library.opcheck(scan_inputs, tuple(inputs))
    torch.library.opcheck(scan_rates, (inputs[1],))
    given = (grads[3], scan_rates(inputs[1]), inputs[1])
    torch.library.opcheck(scan_rates_backward, given)
    torch.library.opcheck(scan_inputs_backward, (*grads, scan_inputs(*inputs)[1], inputs[1]))
