"""`selective_scan_step`: a few frames at a time, with the state in place."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vidmamba.kernels.operators import define, mark_changed
from vidmamba.kernels.selective_scan.checks import check_arguments


def selective_scan_step(
    state: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Scan the next frame or few and leave the new state in ``state``; return their outputs.

    Meant for streams: it allocates only the outputs, and has no gradients.

    Args:
        state: Of shape (B, D, N), float32 (float64 for float64 inputs), contiguous; changed.
        u: The new frames' inputs, of shape (B, T, D); see `selective_scan` for the rest.
        delta: Step sizes of the same shape.
        A: Decay rates of shape (D, N).
        B: Input projections of shape (B, T, N).
        C: Output projections of shape (B, T, N).
        D: Skip of shape (D,).
        z: Gate of u's shape.
        delta_bias: Of shape (D,).
        delta_softplus: Whether softplus is applied to delta after the bias.

    Raises:
        ValueError: If arguments do not fit, or one needs a gradient.
    """
    check_arguments(u, delta, A, B, C, D, z, delta_bias, state, None)
    wanted = torch.float64 if u.dtype == torch.float64 else torch.float32
    if state.dtype != wanted or not state.is_contiguous():
        raise ValueError(
            f"state must be contiguous {wanted}, got {state.dtype} with strides {state.stride()}"
        )
    tensors = [u, delta, A, B, C, D, z, delta_bias]
    if torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in [state, *tensors]
    ):
        raise ValueError("a step has no gradient: call it under torch.no_grad()")
    contiguous = (None if t is None else t.contiguous() for t in tensors)
    return _step(state, *contiguous, delta_softplus)


def _step_on_cpu(
    state: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> Tensor:
    mark_changed(state)
    kind = state.dtype
    size = delta.to(kind) if delta_bias is None else delta.to(kind) + delta_bias
    size = F.softplus(size) if delta_softplus else size
    gain = size * u
    y = torch.empty(u.shape, dtype=kind)
    for t in range(u.shape[1]):
        state.mul_(torch.exp(size[:, t, :, None] * A))
        state.addcmul_(gain[:, t, :, None], B[:, t, None, :].to(kind))
        torch.matmul(state, C[:, t, :, None].to(kind), out=y[:, t, :, None])
    if D is not None:
        y.addcmul_(D.to(kind), u.to(kind))
    if z is not None:
        y.mul_(F.silu(z.to(kind)))
    return y.to(u.dtype)


def _step_on_cuda(
    state: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> Tensor:
    # imported on first use: Triton is installed only where it can run
    from vidmamba.kernels.selective_scan.kernel_step import launch_step

    mark_changed(state)
    return launch_step(state, u, delta, A, B, C, D, z, delta_bias, delta_softplus)


def _fake_step(state: Tensor, u: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(u)


_step = define(
    "selective_scan_step", cpu=_step_on_cpu, cuda=_step_on_cuda, fake=_fake_step,
    mutates=("state",),
)  # fmt: skip
