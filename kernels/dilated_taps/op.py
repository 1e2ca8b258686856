"""`dilated_taps` as a PyTorch operator: one Triton kernel each way on CUDA, a gather on CPU."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vidmamba.kernels.operators import apply, define, register_gradient

TAPS = 3


def dilated_taps(x: Tensor, *, first: int, gap: int, offsets: Tensor | None = None) -> Tensor:
    """Return x[t - first], x[t - first + gap], x[t - first + 2 gap] at t, 0 beyond its video.

    A matrix product with the three makes it a dilated convolution. Nothing waits for the device.

    Args:
        x: Frames of shape (B, T, D).
        first: Frames between a frame and the first of the three, which lies before it.
        gap: Frames between two of the three.
        offsets: Of shape (videos + 1,), int32 or int64, from 0 to T and never falling: frames
            ``offsets[i]`` up to ``offsets[i + 1]`` are video i. B must be 1.

    Returns:
        A tensor of shape (B, T, 3, D).

    Raises:
        ValueError: If shapes or dtypes do not fit, with the values.
    """
    if x.ndim != 3:
        raise ValueError(f"x must have a shape (B, T, D), got {[*x.shape]}")
    if offsets is not None:
        if offsets.dtype not in (torch.int32, torch.int64) or offsets.ndim != 1 or len(offsets) < 2:
            got = f"{offsets.dtype} of shape {[*offsets.shape]}"
            raise ValueError(f"offsets must be int32 or int64 of shape (videos + 1,), got {got}")
        if x.shape[0] != 1 or offsets.device != x.device:
            got = f"B = {x.shape[0]}, x on {x.device}, offsets on {offsets.device}"
            raise ValueError(f"with offsets, B must be 1 and both on one device, got {got}")
    offsets = None if offsets is None else offsets.contiguous()
    y: Tensor = apply(_Taps, x.contiguous(), offsets, first, gap)
    return y


def _on_cpu(x: Tensor, offsets: Tensor | None, first: int, gap: int) -> Tensor:
    taken = [_take(x, offsets, k * gap - first) for k in range(TAPS)]
    return torch.stack(taken, dim=2)


def _on_cuda(x: Tensor, offsets: Tensor | None, first: int, gap: int) -> Tensor:
    # imported on first use: Triton is installed only where it can run
    from vidmamba.kernels.dilated_taps.kernel import launch_forward

    return launch_forward(x, offsets, first, gap)


def _fake(x: Tensor, offsets: Tensor | None, first: int, gap: int) -> Tensor:
    return x.new_empty(*x.shape[:2], TAPS, x.shape[2])


def _backward_on_cpu(grad: Tensor, offsets: Tensor | None, first: int, gap: int) -> Tensor:
    return sum(
        (_take(grad[:, :, k], offsets, first - k * gap) for k in range(TAPS)),
        start=torch.zeros_like(grad[:, :, 0]),
    )


def _backward_on_cuda(grad: Tensor, offsets: Tensor | None, first: int, gap: int) -> Tensor:
    from vidmamba.kernels.dilated_taps.kernel import launch_backward

    return launch_backward(grad, offsets, first, gap)


def _fake_backward(grad: Tensor, offsets: Tensor | None, first: int, gap: int) -> Tensor:
    return grad.new_empty(*grad.shape[:2], grad.shape[3])


def _take(x: Tensor, offsets: Tensor | None, ahead: int) -> Tensor:
    """Return x[t + ahead] at t, 0 beyond its video."""
    frames = x.shape[1]
    time = torch.arange(frames, device=x.device)
    source = time + ahead
    seen = (source >= 0) & (source < frames)
    source = source.clamp(0, frames - 1)
    if offsets is not None:
        video = torch.bucketize(time, offsets[1:], right=True)
        seen &= video[source] == video
    return torch.where(seen.unsqueeze(-1), x[:, source], 0)


_taps = define("dilated_taps", cpu=_on_cpu, cuda=_on_cuda, fake=_fake)
_taps_backward = define(
    "dilated_taps_backward", cpu=_backward_on_cpu, cuda=_backward_on_cuda, fake=_fake_backward
)


class _Taps(torch.autograd.Function):
    """The operator with its gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, offsets: Tensor | None, first: int, gap: int) -> Tensor:
        y: Tensor = _taps(x, offsets, first, gap)
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, offsets, *ctx.how = inputs
        ctx.save_for_backward(offsets)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _taps_backward(grad.contiguous(), *ctx.saved_tensors, *ctx.how), None, None, None


register_gradient(_taps, _Taps)
