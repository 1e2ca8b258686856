"""The Mamba-1 mixer as one step of autograd: few launches, and little kept for the backward pass.

Composed of PyTorch's layers, a mixer is some twenty nodes of autograd, and in eager mode their
host time outweighs the GPU's below 16k frames. Here the backward pass is written out (see
`mamba1_lines`): it computes the step sizes, and in long videos the convolution, again instead of
keeping them, and adds up in place the gradients that meet. Both directions of one video leave by
one step, in which their results meet in one matrix.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, no_type_check

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from vidmamba.kernels.operators import apply, nearest
from vidmamba.nn import mamba1_lines as lines
from vidmamba.nn.streams import side_by_side


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


INSIDE = len(Weights._fields) - 2
"""All but in_proj and out_proj."""


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
    y, conv, scan = _inside(
        x, weights, conv=conv, scan=scan, offsets=offsets, reverse=reverse, keep_state=keep_state
    )
    # a node of its own, so that y is let go of before the rest of the backward pass begins
    (out_proj,) = _cast(weights.out_proj)
    return apply(_Leave, y, out_proj.contiguous()), conv, scan


def mean_of_mamba1(x: Tensor, along: Weights, against: Weights, offsets: Tensor | None) -> Tensor:
    """Return the mean (B, T, D) of what a mixer along time and one against it make of x."""

    def one_way(weights: Weights, reverse: bool, x: Tensor, *, offsets: Tensor | None) -> Tensor:
        y, _, _ = _inside(
            x, weights, conv=None, scan=None, offsets=offsets, reverse=reverse, keep_state=False
        )
        return y

    def leave(first: Tensor, second: Tensor) -> Tensor:
        out_projs = (w.contiguous() for w in _cast(along.out_proj, against.out_proj))
        whole: Tensor = apply(_LeaveBoth, first, second, *out_projs)
        return whole

    first, second = partial(one_way, along, False), partial(one_way, against, True)
    return side_by_side(first, second, leave, x, offsets=offsets)


def _inside(
    x: Tensor,
    weights: Weights,
    *,
    conv: Tensor | None,
    scan: Tensor | None,
    offsets: Tensor | None,
    reverse: bool,
    keep_state: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what goes to out_proj (B, T, E), and the states."""
    x, in_proj, x_proj, dt_proj = _cast(x, weights.in_proj, weights.x_proj, weights.dt_proj)
    weights = weights._replace(in_proj=in_proj, x_proj=x_proj, dt_proj=dt_proj)
    # an exported program must not depend on the number of chunks; without, they are computed again
    grads = torch.is_grad_enabled() and not torch.compiler.is_exporting()
    # kernels see addresses alone, for rows that lie together
    given = (t if t is None else t.contiguous() for t in (*weights[:-1], conv, scan, offsets))
    y, conv, scan, *_ = apply(_Mamba1, x, *given, reverse, keep_state, grads)
    return y, conv, scan


def _cast(*tensors: Tensor) -> Sequence[Tensor]:
    """Do once what autocast does for each linear layer: the backward pass needs the same."""
    kind = tensors[0].device.type
    if not torch.is_autocast_enabled(kind):
        return tensors
    return [t.to(torch.get_autocast_dtype(kind)) for t in tensors]


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
        weights = taps, conv_bias, x_proj, dt_proj, dt_bias, A_log, D
        return lines.go_through(
            nearest(x), *lines.enter(x, in_proj), weights, conv, scan, offsets, reverse, keep_state,
            keep_chunks,
        )  # fmt: skip

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
        x, in_proj, *saved = ctx.saved_tensors
        weights, (conv, scan, offsets, *kept) = saved[:INSIDE], saved[INSIDE:]
        grad_value, grad_gate, grads, grad_conv, grad_scan = lines.come_back(
            nearest(x), weights, conv, scan, offsets, kept, grad_y,
            grad_conv if ctx.keep_state else None, grad_scan, ctx.reverse,
        )  # fmt: skip
        return (
            *lines.go_back(grad_value, grad_gate, x, in_proj), *grads,
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
        grad = lines.as_rows(grad)
        return (grad @ out_proj).view_as(y), grad.t() @ lines.as_rows(y)


class _LeaveBoth(torch.autograd.Function):
    """The mean of two out_proj's, of which the second adds to the first. In eager mode alone."""

    @staticmethod
    @no_type_check
    def forward(along: Tensor, against: Tensor, first: Tensor, second: Tensor) -> Tensor:
        whole = lines.as_rows(along) @ first.t()
        whole.addmm_(lines.as_rows(against), second.t(), beta=0.5, alpha=0.5)
        return whole.view(*along.shape[:2], -1)

    @staticmethod
    @no_type_check
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    @no_type_check
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        *ys, first, second = ctx.saved_tensors
        grad = lines.as_rows(grad)
        grads = [lines.product(grad, w, 0.5) for w in (first, second)]
        return (
            *(g.view_as(y) for g, y in zip(grads, ys, strict=True)),
            *(lines.product(grad.t(), lines.as_rows(y), 0.5) for y in ys),
        )
