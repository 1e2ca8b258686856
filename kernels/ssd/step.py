"""One or a few frames of Mamba-2's scan, the state moved on in place."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vidmamba.kernels.operators import define, mark_changed
from vidmamba.kernels.ssd.checks import check_arguments


def ssd_step(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
) -> Tensor:
    """Return the next frame's outputs (B, H, P), or the next few's (B, T, H, P), without gradients.

    The arguments are those of `ssd`, less the axis T for a single frame. ``state`` (B, H, P, N) is
    overwritten; it is float32 (float64 for float64 inputs).
    """
    if x.ndim == 3:
        gate = None if z is None else z[:, None]
        x, dt, B, C = (t[:, None] for t in (x, dt, B, C))
        how = {"D": D, "z": gate, "dt_bias": dt_bias}
        return ssd_step(state, x, dt, A, B, C, **how, dt_softplus=dt_softplus)[:, 0]
    check_arguments(x, dt, A, B, C, D, z, dt_bias, state, None)
    expected = torch.float64 if x.dtype == torch.float64 else torch.float32
    if state.dtype != expected or not state.is_contiguous():
        raise ValueError(
            f"state must be contiguous {expected} for inputs in {x.dtype}, got {state.dtype} with "
            f"strides {state.stride()}"
        )
    given = (None if t is None else t.contiguous() for t in (x, dt, A, B, C, D, z, dt_bias))
    return _step(state, *given, dt_softplus)


def _step_on_cpu(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
) -> Tensor:
    mark_changed(state)
    dtype, heads = state.dtype, x.shape[2] // B.shape[2]
    step = dt.to(dtype) if dt_bias is None else dt.to(dtype) + dt_bias.to(dtype)
    step = F.softplus(step) if dt_softplus else step
    decay = torch.exp(step * A.to(dtype))
    inputs = x.to(dtype)
    B, C = (t.to(dtype).repeat_interleave(heads, dim=2) for t in (B, C))  # B T H N each
    y = torch.empty_like(inputs)
    for t in range(x.shape[1]):
        added = (step[:, t, :, None] * inputs[:, t])[..., None] * B[:, t, :, None]
        state.mul_(decay[:, t, :, None, None]).add_(added)
        y[:, t] = (state @ C[:, t, :, :, None])[..., 0]
    if D is not None:
        y += D.to(dtype)[:, None] * inputs
    if z is not None:
        y *= F.silu(z.to(dtype))
    return y.to(x.dtype, copy=True)


def _step_on_cuda(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
) -> Tensor:
    if x.dtype == torch.float64:
        return _step_on_cpu(state, x, dt, A, B, C, D, z, dt_bias, dt_softplus)
    # imported on first use: Triton is installed only where it can run
    from vidmamba.kernels.ssd.kernel_step import launch_step

    mark_changed(state)
    return launch_step(state, x, dt, A, B, C, D, z, dt_bias, dt_softplus)


def _fake_step(state: Tensor, x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape)


_step = define(
    "ssd_step", cpu=_step_on_cpu, cuda=_step_on_cuda, fake=_fake_step, mutates=("state",)
)
