"""The Mamba-2 mixer as one step of autograd; see `mamba1_autograd` for why."""

from typing import Any, NamedTuple, no_type_check

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

import vidmamba.kernels.causal_conv1d.among
import vidmamba.kernels.rms_norm
import vidmamba.kernels.scan_inputs
import vidmamba.kernels.ssd  # noqa: F401 (all four register their operators)
from vidmamba.kernels.operators import apply, nearest
from vidmamba.nn.mamba1_lines import as_rows, is_short


class Weights(NamedTuple):
    """The parameters of a Mamba-2 mixer: H heads make E channels; G groups of N states, K taps."""

    in_proj: Tensor  # 2 E + 2 G N + H, D: gate, value, B, C, steps
    taps: Tensor  # E + 2 G N, 1, K
    conv_bias: Tensor  # E + 2 G N
    dt_bias: Tensor  # H
    A_log: Tensor  # H
    D: Tensor  # H
    norm: Tensor  # E
    out_proj: Tensor  # D E


def mamba2(
    x: Tensor,
    weights: Weights,
    *,
    groups: int,
    eps: float,
    conv: Tensor | None,
    scan: Tensor | None,
    offsets: Tensor | None,
    reverse: bool,
    keep_state: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a mixer's outputs (B, T, D) and, if kept, the states that it ends in."""
    if torch.is_autocast_enabled(x.device.type):
        # what autocast does for each linear layer, done once: the backward pass needs the same
        dtype = torch.get_autocast_dtype(x.device.type)
        cast = {"in_proj": weights.in_proj.to(dtype), "out_proj": weights.out_proj.to(dtype)}
        x, weights = x.to(dtype), weights._replace(**cast)
    how = (groups, reverse, keep_state, torch.is_grad_enabled())
    # kernels see addresses alone, for rows that lie together
    *inside, norm, out_proj = (w.contiguous() for w in weights)
    given = (t if t is None else t.contiguous() for t in (conv, scan, offsets))
    y, conv, scan, *_ = apply(_Mamba2, x, *inside, *given, *how)
    # nodes of their own, so that y is let go of before the rest of the backward pass begins
    return apply(_Leave, y, norm, out_proj, groups, eps), conv, scan


class _Mamba2(torch.autograd.Function):
    """All up to the gate; what it returns after the states is kept for the backward pass."""

    generate_vmap_rule = True
    results = 3

    @staticmethod
    @no_type_check  # Dynamo cannot trace a run-time type checker inside these
    def forward(
        x: Tensor,
        in_proj: Tensor,
        taps: Tensor,
        conv_bias: Tensor,
        dt_bias: Tensor,
        A_log: Tensor,
        D: Tensor,
        conv: Tensor | None,
        scan: Tensor | None,
        offsets: Tensor | None,
        groups: int,
        reverse: bool,
        keep_state: bool,
        keep: bool,
    ) -> tuple[Tensor, ...]:
        ops, heads, channels = nearest(x), A_log.shape[0], taps.shape[0]
        inner = in_proj.shape[0] - channels - heads
        # products of their own, so that nothing has to be cut apart
        gate = F.linear(x, in_proj[:inner])
        frames = F.linear(x, in_proj[inner : inner + channels])
        step = F.linear(x, in_proj[inner + channels :])
        mixed, conv = ops.causal_conv1d_apart(
            frames, taps.flatten(1), conv_bias, conv, offsets, True, reverse, keep_state,
            inner, (channels - inner) // 2,
        )  # fmt: skip
        A = ops.scan_rates(A_log)
        u, B, C = _parts(mixed, frames, inner, heads, groups)
        y, scan, kept = ops.ssd(
            u, step, A, B, C, D, as_heads(gate, heads), dt_bias, scan, offsets, True, reverse, keep
        )
        again = mixed if is_short(x) else None
        return y.flatten(-2), conv, scan, gate, frames, step, A, kept, again

    @staticmethod
    @no_type_check
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.groups, ctx.reverse, ctx.keep_state, _ = inputs
        ctx.mark_non_differentiable(*(t for t in output[3:] if t is not None))
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *output[3:])

    @staticmethod
    @once_differentiable
    @no_type_check
    def backward(
        ctx: Any,
        grad_y: Tensor | None,
        grad_conv: Tensor | None,
        grad_scan: Tensor | None,
        *_: Any,
    ) -> tuple[Tensor | None, ...]:
        (x, in_proj, taps, conv_bias, dt_bias, A_log, D, conv, scan, offsets,
         gate, frames, step, A, kept, mixed) = ctx.saved_tensors  # fmt: skip
        ops, heads, inner = nearest(x), A_log.shape[0], gate.shape[-1]
        convolution = (frames, taps.flatten(1), conv_bias, conv, offsets)
        if mixed is None:
            mixed, _ = ops.causal_conv1d_apart(
                *convolution, True, ctx.reverse, False, inner, (taps.shape[0] - inner) // 2
            )
        u, B, C = _parts(mixed, frames, inner, heads, ctx.groups)
        (grad_u, grad_step, grad_A, grad_B, grad_C, grad_D, grad_gate, grad_bias, grad_scan) = (
            ops.ssd_backward(
                None if grad_y is None else as_heads(grad_y.contiguous(), heads),
                None if grad_scan is None else grad_scan.contiguous(), u, step, A, B, C, D,
                as_heads(gate, heads), dt_bias, scan, offsets, kept, True, ctx.reverse,
            )
        )  # fmt: skip
        del mixed, u, B, C, gate, kept
        grads, grad_taps, grad_conv_bias, grad_conv = ops.causal_conv1d_among(
            grad_u.flatten(-2), grad_B.flatten(-2), grad_C.flatten(-2),
            grad_conv.contiguous() if ctx.keep_state and grad_conv is not None else None,
            *convolution, grad_gate.flatten(-2), grad_step, True, ctx.reverse,
        )  # fmt: skip
        del grad_u, grad_gate, frames, convolution
        return (
            (grads @ in_proj).view_as(x), grads.t() @ as_rows(x), grad_taps.unsqueeze(1),
            grad_conv_bias, grad_bias, ops.scan_rates_backward(grad_A, A, A_log), grad_D,
            None if conv is None else grad_conv, None if scan is None else grad_scan, *[None] * 5,
        )  # fmt: skip


class _Leave(torch.autograd.Function):
    """The norm and out_proj; the norm is computed again instead of kept."""

    generate_vmap_rule = True

    @staticmethod
    @no_type_check
    def forward(y: Tensor, norm: Tensor, out_proj: Tensor, groups: int, eps: float) -> Tensor:
        return F.linear(nearest(y).rms_norm(y, norm, groups, eps), out_proj)

    @staticmethod
    @no_type_check
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.how = inputs[3:]
        ctx.save_for_backward(*inputs[:3])

    @staticmethod
    @once_differentiable
    @no_type_check
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, norm, out_proj = ctx.saved_tensors
        grad = as_rows(grad)
        grad_y, grad_norm, normed = nearest(y).rms_norm_backward(
            (grad @ out_proj).view_as(y), y, norm, *ctx.how, True
        )
        return grad_y, grad_norm, grad.t() @ as_rows(normed), None, None


def as_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, E) as (B, T, H, P)."""
    return x.view(*x.shape[:2], heads, -1)


def _parts(
    mixed: Tensor, frames: Tensor, inner: int, heads: int, groups: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The convolution's results for the scan: values by heads, B and C by groups."""
    size = frames.shape[0] * frames.shape[1] * inner
    u, projections = mixed[:size].view(*frames.shape[:2], heads, -1), mixed[size:]
    B, C = projections.view(2, *frames.shape[:2], groups, -1).unbind()
    return u, B, C
