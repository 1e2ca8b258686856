"""`scan_inputs` as a PyTorch operator: one Triton kernel each way on CUDA, PyTorch on the CPU.

Four small passes of PyTorch's forward and three backward, which below 16k frames cost their
launches. It is called between the lines of a mixer's own gradient, and has none of its own.
`scan_rates` is its second half alone, for Mamba-2, whose B and C come from the convolution.
"""

from typing import Any

import torch
from torch import Tensor

from vidmamba.kernels.operators import define


def _on_cpu(low: Tensor, A_log: Tensor) -> tuple[Tensor, Tensor]:
    """Return B and C (2, B, T, N), cut from x_proj's (B, T, R + 2 N), and -exp(A_log) (E, N)."""
    states = A_log.shape[1]
    parts = low[..., -2 * states :].unflatten(-1, (2, states))
    # a copy of one frame's columns would be no copy
    projections = parts.movedim(-2, 0).clone(memory_format=torch.contiguous_format)
    return projections, _rates_on_cpu(A_log)


def _on_cuda(low: Tensor, A_log: Tensor) -> tuple[Tensor, Tensor]:
    if low.dtype == torch.float64 or A_log.dtype == torch.float64:
        return _on_cpu(low, A_log)
    # imported on first use: Triton is installed only where it can run
    from vidmamba.kernels.scan_inputs.kernel import launch_cut

    return launch_cut(low, A_log)


def _fake(low: Tensor, A_log: Tensor) -> tuple[Tensor, Tensor]:
    frames, states = low.shape[:2], A_log.shape[1]
    return low.new_empty(2, *frames, states), _fake_rates(A_log)


def _backward_on_cpu(
    grad_step: Tensor, grad_B: Tensor, grad_C: Tensor, grad_A: Tensor, A: Tensor, A_log: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x_proj's results as rows, from those of its parts, and of A_log."""
    parts = [grad_step, grad_B.flatten(0, 1), grad_C.flatten(0, 1)]
    return torch.cat(parts, dim=-1), _rates_backward_on_cpu(grad_A, A, A_log)


def _backward_on_cuda(
    grad_step: Tensor, grad_B: Tensor, grad_C: Tensor, grad_A: Tensor, A: Tensor, A_log: Tensor
) -> tuple[Tensor, Tensor]:
    given = (grad_step, grad_B, grad_C, grad_A, A, A_log)
    if grad_step.dtype == torch.float64 or A.dtype == torch.float64:
        return _backward_on_cpu(*given)
    from vidmamba.kernels.scan_inputs.kernel import launch_join

    return launch_join(*given)


def _fake_backward(
    grad_step: Tensor, grad_B: Tensor, grad_C: Tensor, *others: Tensor
) -> tuple[Tensor, Tensor]:
    rows, rank = grad_step.shape
    grad_low = grad_step.new_empty(rows, rank + 2 * grad_B.shape[2])
    return grad_low, torch.empty_like(others[-1])


def _rates_on_cpu(A_log: Tensor) -> Tensor:
    """Return -exp(A_log)."""
    return -A_log.to(_sum_dtype(A_log)).exp()


def _rates_on_cuda(A_log: Tensor) -> Tensor:
    if A_log.dtype == torch.float64:
        return _rates_on_cpu(A_log)
    from vidmamba.kernels.scan_inputs.kernel import launch_rates

    return launch_rates(A_log)


def _fake_rates(A_log: Tensor) -> Tensor:
    return A_log.new_empty(A_log.shape, dtype=_sum_dtype(A_log))


def _rates_backward_on_cpu(grad_A: Tensor, A: Tensor, A_log: Tensor) -> Tensor:
    """Return the gradient of A_log."""
    return (grad_A * A).to(A_log.dtype, copy=True)


def _rates_backward_on_cuda(grad_A: Tensor, A: Tensor, A_log: Tensor) -> Tensor:
    if torch.float64 in (grad_A.dtype, A.dtype):
        return _rates_backward_on_cpu(grad_A, A, A_log)
    from vidmamba.kernels.scan_inputs.kernel import launch_rates_backward

    return launch_rates_backward(grad_A, A, A_log)


def _fake_rates_backward(grad_A: Tensor, A: Tensor, A_log: Tensor) -> Tensor:
    return torch.empty_like(A_log)


def _sum_dtype(A_log: Tensor) -> torch.dtype:
    return torch.promote_types(A_log.dtype, torch.float32)


scan_inputs: Any = define("scan_inputs", cpu=_on_cpu, cuda=_on_cuda, fake=_fake)
scan_inputs_backward: Any = define(
    "scan_inputs_backward", cpu=_backward_on_cpu, cuda=_backward_on_cuda, fake=_fake_backward
)
scan_rates: Any = define("scan_rates", cpu=_rates_on_cpu, cuda=_rates_on_cuda, fake=_fake_rates)
scan_rates_backward: Any = define(
    "scan_rates_backward", cpu=_rates_backward_on_cpu, cuda=_rates_backward_on_cuda,
    fake=_fake_rates_backward,
)  # fmt: skip
