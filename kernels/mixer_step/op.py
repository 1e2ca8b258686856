"""One frame through a whole mixer as PyTorch operators: Triton on CUDA, PyTorch elsewhere."""

from typing import Any

import torch
from torch import Tensor

from vidmamba.kernels.mixer_step.reference import mamba1_step_reference, mamba2_step_reference
from vidmamba.kernels.operators import define, mark_changed

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def mamba1_step(
    x: Tensor,
    conv: Tensor,
    scan: Tensor,
    in_proj: Tensor,
    taps: Tensor,
    conv_bias: Tensor,
    x_proj: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    out_proj: Tensor,
) -> Tensor:
    """Mix the next frame of each video, the states moved on in place; no gradients.

    Args:
        x: The frames (B, D).
        conv: The last K-1 inputs of the convolution (B, K-1, E), the oldest first; changed.
        scan: The states (B, E, N), float32 (float64 for float64); changed.
        in_proj: Weights (2 E, D), those of the values first, then the gate's.
        taps: The convolution's (E, 1, K), as `nn.Conv1d` keeps them.
        conv_bias: (E,).
        x_proj: Weights (R + 2 N, E): low-rank step size, B and C.
        dt_proj: Weights (E, R).
        dt_bias: (E,).
        A_log: Logarithms of the negated decay rates (E, N).
        D: Skip (E,).
        out_proj: Weights (D, E).

    Raises:
        ValueError: If shapes, dtypes or devices do not fit, with the values.
    """
    _check_frames(x, conv, scan, in_proj)
    videos, (inner, states), size = x.shape[0], A_log.shape, taps.shape[-1]
    rank, width = dt_proj.shape[1], x.shape[1]
    _check(
        x,
        conv=(conv, (videos, size - 1, inner)), scan=(scan, (videos, inner, states)),
        in_proj=(in_proj, (2 * inner, width)), taps=(taps, (inner, 1, size)),
        conv_bias=(conv_bias, (inner,)), x_proj=(x_proj, (rank + 2 * states, inner)),
        dt_proj=(dt_proj, (inner, rank)), dt_bias=(dt_bias, (inner,)),
        A_log=(A_log, (inner, states)), D=(D, (inner,)), out_proj=(out_proj, (width, inner)),
    )  # fmt: skip
    return _mamba1_step(
        x.contiguous(), conv, scan, in_proj, taps, conv_bias, x_proj, dt_proj, dt_bias, A_log, D,
        out_proj,
    )  # fmt: skip


def mamba2_step(
    x: Tensor,
    conv: Tensor,
    scan: Tensor,
    in_proj: Tensor,
    taps: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    norm: Tensor,
    out_proj: Tensor,
    *,
    groups: int,
    eps: float,
) -> Tensor:
    """Mix the next frame of each video, the states moved on in place; no gradients.

    Args:
        x: The frames (B, D).
        conv: The last K-1 inputs of the convolution (B, K-1, E + 2 G N), oldest first; changed.
        scan: The states (B, H, P, N), H P = E, float32 (float64 for float64); changed.
        in_proj: Weights (2 E + 2 G N + H, D): gate, value, B, C, steps.
        taps: The convolution's (E + 2 G N, 1, K), as `nn.Conv1d` keeps them.
        conv_bias: (E + 2 G N,).
        dt_bias: (H,).
        A_log: Logarithms of the negated decay rates (H,).
        D: Skip (H,).
        norm: Weights of the gated norm (E,), whose mean is a group's.
        out_proj: Weights (D, E).
        groups: G.
        eps: Of the norm.

    Raises:
        ValueError: If shapes, dtypes or devices do not fit, with the values.
    """
    _check_frames(x, conv, scan, in_proj)
    if scan.ndim != 4 or groups < 1 or scan.shape[1] % groups:
        raise ValueError(
            f"scan must be (B, H, P, N), H a multiple of {groups} groups, got {[*scan.shape]}"
        )
    (videos, width), (_, heads, size, states), taps_a_channel = x.shape, scan.shape, taps.shape[-1]
    inner, shared = heads * size, 2 * groups * states
    channels = inner + shared
    _check(
        x,
        conv=(conv, (videos, taps_a_channel - 1, channels)),
        scan=(scan, (videos, heads, size, states)),
        in_proj=(in_proj, (2 * inner + shared + heads, width)),
        taps=(taps, (channels, 1, taps_a_channel)), conv_bias=(conv_bias, (channels,)),
        dt_bias=(dt_bias, (heads,)), A_log=(A_log, (heads,)), D=(D, (heads,)),
        norm=(norm, (inner,)), out_proj=(out_proj, (width, inner)),
    )  # fmt: skip
    return _mamba2_step(
        x.contiguous(), conv, scan, in_proj, taps, conv_bias, dt_bias, A_log, D, norm, out_proj,
        groups, eps,
    )  # fmt: skip


def _check_frames(x: Tensor, conv: Tensor, scan: Tensor, in_proj: Tensor) -> None:
    if x.ndim != 2 or 0 in x.shape or x.dtype not in DTYPES:
        raise ValueError(f"x must be floating-point (B, D), got {x.dtype} {[*x.shape]}")
    wanted = torch.float64 if x.dtype == torch.float64 else torch.float32
    if scan.dtype != wanted:
        raise ValueError(f"scan must be {wanted} for frames in {x.dtype}, got {scan.dtype}")
    if torch.is_grad_enabled() and (x.requires_grad or in_proj.requires_grad):
        raise ValueError("a step has no gradient: call it under torch.no_grad()")


def _check(x: Tensor, **named: tuple[Tensor, tuple[int, ...]]) -> None:
    for name, (tensor, shape) in named.items():
        if tensor.shape != shape or not tensor.is_contiguous():
            raise ValueError(
                f"{name} must be contiguous {[*shape]}, got {[*tensor.shape]} with strides "
                f"{tensor.stride()}"
            )
        if tensor.dtype not in DTYPES or (tensor.dtype == torch.float64) != (
            x.dtype == torch.float64
        ):
            raise ValueError(f"x is {x.dtype} but {name} is {tensor.dtype}: cast one of them")
        if tensor.device != x.device:
            raise ValueError(f"x is on {x.device} but {name} is on {tensor.device}")


def _mamba1_on_cuda(x: Tensor, conv: Tensor, scan: Tensor, *weights: Any) -> Tensor:
    """Take what `mamba1_step_reference` takes."""
    if x.dtype == torch.float64:
        return mamba1_step_reference(x, conv, scan, *weights)
    # imported on first use: Triton is installed only where it can run
    from vidmamba.kernels.mixer_step.cuda import launch_mamba1_step

    mark_changed(conv, scan)
    return launch_mamba1_step(x, conv, scan, *weights)


def _mamba2_on_cuda(x: Tensor, conv: Tensor, scan: Tensor, *weights: Any) -> Tensor:
    """Take what `mamba2_step_reference` takes."""
    if x.dtype == torch.float64:
        return mamba2_step_reference(x, conv, scan, *weights)
    from vidmamba.kernels.mixer_step.cuda import launch_mamba2_step

    mark_changed(conv, scan)
    return launch_mamba2_step(x, conv, scan, *weights)


def _same_as_frames(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


_mamba1_step = define(
    "mamba1_step", cpu=mamba1_step_reference, cuda=_mamba1_on_cuda, fake=_same_as_frames,
    mutates=("conv", "scan"),
)  # fmt: skip
_mamba2_step = define(
    "mamba2_step", cpu=mamba2_step_reference, cuda=_mamba2_on_cuda, fake=_same_as_frames,
    mutates=("conv", "scan"),
)  # fmt: skip
