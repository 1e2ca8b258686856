"""The Mamba-2 mixer as one step of autograd; see `mamba1_autograd` for why."""

from typing import Any, NamedTuple, no_type_check

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

import vidmamba.kernels.causal_conv1d
import vidmamba.kernels.rms_norm
import vidmamba.kernels.ssd  # noqa: F401 (all three register their operators)
from vidmamba.kernels.operators import apply
from vidmamba.nn.mamba1_autograd import as_rows, is_short

ops = torch.ops.vidmamba


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
    *inside, norm, out_proj = weights
    how = (groups, reverse, keep_state, torch.is_grad_enabled())
    y, conv, scan, *_ = apply(_Mamba2, x, *inside, conv, scan, offsets, *how)
    # nodes of their own, so that y is let go of before the rest of the backward pass begins
    return apply(_Leave, y, norm, out_proj, groups, eps), conv, scan


class _Mamba2(torch.autograd.Function):
    """All up to the gate; what it returns after the states is kept for the backward pass."""

    generate_vmap_rule = True

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
        heads, channels = A_log.shape[0], taps.shape[0]
        inner = in_proj.shape[0] - channels - heads
        # products of their own, so that nothing has to be cut apart
        rows = as_rows(x)
        wide = torch.bmm(rows.expand(2, -1, -1), in_proj[: 2 * inner].view(2, inner, -1).mT)
        gate, value = (half.view(*x.shape[:2], inner) for half in wide.unbind())
        both = F.linear(x, in_proj[2 * inner : inner + channels])
        step = F.linear(x, in_proj[inner + channels :])
        (u, left), (mixed, right) = (
            ops.causal_conv1d.default(*given, keep_state)
            for given in _convolutions(value, both, taps, conv_bias, conv, offsets, reverse)
        )
        A = -A_log.to(torch.promote_types(A_log.dtype, torch.float32)).exp()
        projections = mixed.view(*x.shape[:2], 2, groups, -1).movedim(2, 0).contiguous()
        y, scan, kept = ops.ssd.default(
            as_heads(u, heads), step, A, *projections.unbind(), D,
            as_heads(gate, heads), dt_bias, scan, offsets, True, reverse, keep,
        )  # fmt: skip
        conv = torch.cat([left, right], dim=-1) if keep_state else left
        again = u if is_short(x) else None
        return y.flatten(-2), conv, scan, gate, value, both, step, projections, A, kept, again

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
         gate, value, both, step, projections, A, kept, u) = ctx.saved_tensors  # fmt: skip
        heads, inner = A_log.shape[0], value.shape[-1]
        given = _convolutions(value, both, taps, conv_bias, conv, offsets, ctx.reverse)
        u = ops.causal_conv1d.default(*given[0], False)[0] if u is None else u
        (grad_u, grad_step, grad_A, grad_B, grad_C, grad_D, grad_gate, grad_bias, grad_scan) = (
            ops.ssd_backward.default(
                None if grad_y is None else as_heads(grad_y.contiguous(), heads),
                None if grad_scan is None else grad_scan.contiguous(),
                as_heads(u, heads), step, A, *projections.unbind(), D,
                as_heads(gate, heads), dt_bias, scan, offsets, kept, True, ctx.reverse,
            )
        )  # fmt: skip
        del u, gate, kept
        tails = _tails(inner, grad_conv if ctx.keep_state else None)
        grad_value, *left = ops.causal_conv1d_backward.default(
            grad_u.flatten(-2), tails[0], *given[0]
        )
        del grad_u
        grad_both, *right = ops.causal_conv1d_backward.default(
            torch.cat([grad_B, grad_C], dim=-2).flatten(-2), tails[1], *given[1]
        )
        del given, value, both
        grad_taps, grad_conv_bias = (
            torch.cat(pair) for pair in zip(left[:2], right[:2], strict=True)
        )
        grads = torch.cat([grad_gate.flatten(-2), grad_value, grad_both, grad_step], dim=-1)
        grads = as_rows(grads)
        del grad_gate, grad_value, grad_both
        return (
            (grads @ in_proj).view_as(x), grads.t() @ as_rows(x), grad_taps.unsqueeze(1),
            grad_conv_bias, grad_bias, (grad_A * A).to(A_log.dtype), grad_D,
            None if conv is None else torch.cat([left[2], right[2]], dim=-1),
            None if scan is None else grad_scan, *[None] * 5,
        )  # fmt: skip


class _Leave(torch.autograd.Function):
    """The norm and out_proj; the norm is computed again instead of kept."""

    generate_vmap_rule = True

    @staticmethod
    @no_type_check
    def forward(y: Tensor, norm: Tensor, out_proj: Tensor, groups: int, eps: float) -> Tensor:
        return F.linear(ops.rms_norm.default(y, norm, groups, eps), out_proj)

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
        grad_y, grad_norm, normed = ops.rms_norm_backward.default(
            (grad @ out_proj).view_as(y), y, norm, *ctx.how, True
        )
        return grad_y, grad_norm, grad.t() @ as_rows(normed), None, None


def as_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, E) as (B, T, H, P)."""
    return x.view(*x.shape[:2], heads, -1)


def _convolutions(
    value: Tensor,
    both: Tensor,
    taps: Tensor,
    bias: Tensor,
    conv: Tensor | None,
    offsets: Tensor | None,
    reverse: bool,
) -> list[tuple[Any, ...]]:
    """What the convolution takes for the values, and for B with C."""
    inner, (first, second) = value.shape[-1], _tails(value.shape[-1], conv)
    taps = taps.flatten(1)
    return [
        (value, taps[:inner], bias[:inner], first, offsets, True, reverse),
        (both, taps[inner:], bias[inner:], second, offsets, True, reverse),
    ]


def _tails(inner: int, conv: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """A state of the convolution, cut likewise."""
    if conv is None:
        return None, None
    return conv[..., :inner].contiguous(), conv[..., inner:].contiguous()
