"""The Mamba-1 mixer as one step of autograd: few launches, and little kept for the backward pass.

Composed of PyTorch's layers, a mixer is some twenty nodes of autograd, and in eager mode their
host time outweighs the GPU's below 16k frames. Here the backward pass is written out: it computes
the step sizes, and in long videos the convolution, again instead of keeping them, and adds up in
place the gradients that meet.
"""

from typing import Any, NamedTuple, no_type_check

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

import vidmamba.kernels.causal_conv1d.among
import vidmamba.kernels.scan_inputs
import vidmamba.kernels.selective_scan  # noqa: F401 (all three register their operators)
from vidmamba.kernels.operators import apply, nearest

SHORT = 2**14
"""Frames of a batch up to which the backward pass does not convolve again."""


class Weights(NamedTuple):
    """The parameters of a Mamba-1 mixer: E channels inside, K taps, rank R, N states."""

    in_proj: Tensor  # 2 E, D: the values' rows, then the gate's
    taps: Tensor  # E 1 K
    conv_bias: Tensor  # E
    x_proj: Tensor  # R + 2 N, E
    dt_proj: Tensor  # E R
    dt_bias: Tensor  # E
    A_log: Tensor  # E N
    D: Tensor  # E
    out_proj: Tensor  # D E


def mamba1(
    x: Tensor,
    weights: Weights,
    *,
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
        x, weights = x.to(dtype), weights._replace(
            in_proj=weights.in_proj.to(dtype), x_proj=weights.x_proj.to(dtype),
            dt_proj=weights.dt_proj.to(dtype), out_proj=weights.out_proj.to(dtype),
        )  # fmt: skip
    # an exported program must not depend on the number of chunks; without, they are computed again
    grads = torch.is_grad_enabled() and not torch.compiler.is_exporting()
    # kernels see addresses alone, for rows that lie together
    given = (t if t is None else t.contiguous() for t in (*weights[:-1], conv, scan, offsets))
    y, conv, scan, *_ = apply(_Mamba1, x, *given, reverse, keep_state, grads)
    # a node of its own, so that y is let go of before the rest of the backward pass begins
    return apply(_Leave, y, weights.out_proj.contiguous()), conv, scan


class _Mamba1(torch.autograd.Function):
    """All but out_proj; what it returns after the states is kept for the backward pass."""

    generate_vmap_rule = True
    results = 3

    @staticmethod
    @no_type_check  # Dynamo cannot trace a run-time type checker inside these
    def forward(
        x: Tensor,
        in_proj: Tensor,
        taps: Tensor,
        conv_bias: Tensor,
        x_proj: Tensor,
        dt_proj: Tensor,
        dt_bias: Tensor,
        A_log: Tensor,
        D: Tensor,
        conv: Tensor | None,
        scan: Tensor | None,
        offsets: Tensor | None,
        reverse: bool,
        keep_state: bool,
        keep_chunks: bool,
    ) -> tuple[Tensor, ...]:
        ops, inner = nearest(x), taps.shape[0]
        # one batched product, whose halves need not be cut apart
        halves = torch.bmm(as_rows(x).expand(2, -1, -1), in_proj.view(2, inner, -1).mT)
        value, gate = (half.view(*x.shape[:2], inner) for half in halves.unbind())
        u, conv = ops.causal_conv1d(
            value, taps.flatten(1), conv_bias, conv, offsets, True, reverse, keep_state
        )
        low = F.linear(u, x_proj)
        step = low[..., : dt_proj.shape[1]]
        delta = F.linear(as_rows(step), dt_proj).view_as(u)
        projections, A = ops.scan_inputs(low, A_log)
        B, C = projections.unbind()
        y, scan, chunks = ops.selective_scan(
            u, delta, A, B, C, D, gate, dt_bias, scan, offsets, True, reverse, keep_chunks
        )
        again = u if is_short(x) else None
        return y, conv, scan, value, gate, step, projections, A, chunks, again

    @staticmethod
    @no_type_check
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.reverse, ctx.keep_state, _ = inputs
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
        (x, in_proj, taps, conv_bias, x_proj, dt_proj, dt_bias, A_log, D, conv, scan, offsets,
         value, gate, step, projections, A, chunks, u) = ctx.saved_tensors  # fmt: skip
        ops, taps = nearest(x), taps.flatten(1)
        convolution = (value, taps, conv_bias, conv, offsets)
        if u is None:
            u, _ = ops.causal_conv1d(*convolution, True, ctx.reverse, False)
        delta = F.linear(as_rows(step), dt_proj).view_as(u)
        x, frames = as_rows(x), x.shape
        (grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_gate, grad_bias, grad_scan) = (
            ops.selective_scan_backward(
                None if grad_y is None else grad_y.contiguous(),
                None if grad_scan is None else grad_scan.contiguous(), u, delta, A,
                *projections.unbind(), D, gate, dt_bias, scan, offsets, chunks, True, ctx.reverse,
            )
        )  # fmt: skip
        del gate, chunks, delta
        step, rows = as_rows(step), as_rows(grad_delta)
        grad_dt_proj = rows.t() @ step
        grad_low, grad_A_log = ops.scan_inputs_backward(
            rows @ dt_proj, grad_B, grad_C, grad_A, A, A_log
        )
        del grad_delta, rows
        grad_x_proj = grad_low.t() @ as_rows(u)
        as_rows(grad_u).addmm_(grad_low, x_proj)
        del u
        grads, grad_taps, grad_conv_bias, grad_conv = ops.causal_conv1d_among(
            grad_u, None, None,
            grad_conv.contiguous() if ctx.keep_state and grad_conv is not None else None,
            *convolution, None, grad_gate, True, ctx.reverse,
        )  # fmt: skip
        del grad_u, value, convolution, grad_gate
        return (
            (grads @ in_proj).view(frames), grads.t() @ x, grad_taps.unsqueeze(1), grad_conv_bias,
            grad_x_proj, grad_dt_proj, grad_bias, grad_A_log, grad_D,
            None if conv is None else grad_conv, None if scan is None else grad_scan,
            None, None, None, None,
        )  # fmt: skip


class _Leave(torch.autograd.Function):
    """out_proj: PyTorch's own linear layer is four nodes."""

    generate_vmap_rule = True

    @staticmethod
    @no_type_check
    def forward(y: Tensor, out_proj: Tensor) -> Tensor:
        return F.linear(y, out_proj)

    @staticmethod
    @no_type_check
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    @no_type_check
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        y, out_proj = ctx.saved_tensors
        grad = as_rows(grad)
        return (grad @ out_proj).view_as(y), grad.t() @ as_rows(y)


def is_short(x: Tensor) -> bool:
    """Whether computing again would cost more time, that of launches, than it saves memory."""
    return not torch.compiler.is_compiling() and x.shape[0] * x.shape[1] <= SHORT


def as_rows(x: Tensor) -> Tensor:
    """(B, T, E) as a matrix."""
    return x.flatten(0, 1)
