"""`rms_norm` as a PyTorch operator: Triton on CUDA, PyTorch on the CPU, autograd on both."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from vidmamba.kernels.operators import apply, define, register_gradient

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def rms_norm(x: Tensor, weight: Tensor, *, groups: int = 1, eps: float = 1e-5) -> Tensor:
    """Divide each group of a frame's channels by its root mean square, and weigh the channels.

    Computed in float32 (float64 for float64), rounded once to x's dtype.

    Args:
        x: Frames (B, T, E).
        weight: (E,).
        groups: Equal parts of E, each with its own mean.
        eps: Added to the mean square.

    Raises:
        ValueError: If shapes, dtypes or devices do not fit; the message has the values.
    """
    if x.ndim != 3 or x.dtype not in DTYPES or weight.dtype not in DTYPES:
        raise ValueError(
            f"x must be floating-point (B, T, E) and weight too, got {x.dtype} {[*x.shape]} and "
            f"{weight.dtype}"
        )
    if groups < 1 or x.shape[2] % groups:
        raise ValueError(f"groups must divide E = {x.shape[2]}, got {groups}")
    if weight.shape != x.shape[2:] or weight.device != x.device:
        raise ValueError(
            f"weight must have shape [{x.shape[2]}] on {x.device}, got {[*weight.shape]} on "
            f"{weight.device}"
        )
    return apply(_Norm, x.contiguous(), weight.contiguous(), groups, eps)


def _on_cpu(x: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    parts = _parts(x, groups)
    return (F.rms_norm(parts, parts.shape[-1:], eps=eps).flatten(-2) * weight).to(x.dtype)


def _on_cuda(x: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    if x.dtype == torch.float64:
        return _on_cpu(x, weight, groups, eps)
    # imported on first use: Triton is installed only where it can run
    from vidmamba.kernels.rms_norm.kernel import launch_norm

    return launch_norm(x, weight, groups, eps)


def _fake(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


def _backward_on_cpu(
    grad: Tensor, x: Tensor, weight: Tensor, groups: int, eps: float, keep_output: bool
) -> tuple[Tensor, Tensor, Tensor]:
    parts = _parts(x, groups)
    scale = torch.rsqrt(parts.square().mean(dim=-1, keepdim=True) + eps)
    unit, slope = parts * scale, _parts(grad, groups)
    grad_weight = (slope * unit).flatten(0, 1).sum(0).flatten().to(weight.dtype)
    weights = weight.to(parts.dtype).view(groups, -1)
    y = (unit * weights).flatten(-2).to(x.dtype) if keep_output else x.new_empty(0)
    slope = slope * weights
    grad_x = (slope - unit * (slope * unit).mean(dim=-1, keepdim=True)) * scale
    return grad_x.flatten(-2).to(x.dtype), grad_weight, y


def _backward_on_cuda(
    grad: Tensor, x: Tensor, weight: Tensor, groups: int, eps: float, keep_output: bool
) -> tuple[Tensor, Tensor, Tensor]:
    if x.dtype == torch.float64:
        return _backward_on_cpu(grad, x, weight, groups, eps, keep_output)
    from vidmamba.kernels.rms_norm.kernel import launch_norm_backward

    return launch_norm_backward(grad, x, weight, groups, eps, keep_output)


def _fake_backward(
    grad: Tensor, x: Tensor, weight: Tensor, groups: int, eps: float, keep_output: bool
) -> tuple[Tensor, Tensor, Tensor]:
    y = torch.empty_like(x) if keep_output else x.new_empty(0)
    return torch.empty_like(x), torch.empty_like(weight), y


def _parts(x: Tensor, groups: int) -> Tensor:
    """(B, T, groups, E / groups), in the dtype that sums are taken in."""
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.to(kind).unflatten(-1, (groups, -1))


_norm = define("rms_norm", cpu=_on_cpu, cuda=_on_cuda, fake=_fake)
_norm_backward = define(
    "rms_norm_backward", cpu=_backward_on_cpu, cuda=_backward_on_cuda, fake=_fake_backward
)


class _Norm(torch.autograd.Function):
    """The operator with its gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
        return _norm(x, weight, groups, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.how = inputs[2:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, grad_weight, _ = _norm_backward(
            grad.contiguous(), *ctx.saved_tensors, *ctx.how, False
        )
        return grad_x, grad_weight, None, None


register_gradient(_norm, _Norm)
