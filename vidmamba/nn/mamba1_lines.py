"""What a Mamba-1 mixer does between in_proj and out_proj, forward and backward, line by line.

Written for nodes of autograd (see `mamba1_autograd`), which give tensors that lie together.
"""

from collections.abc import Sequence
from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from torch import Tensor

import vidmamba.kernels.causal_conv1d
import vidmamba.kernels.scan_inputs
import vidmamba.kernels.selective_scan  # noqa: F401 (all three register their operators)
from vidmamba.kernels.operators import may_spend
from vidmamba.kernels.selective_scan.op import find_gradients

SHORT = 2**14
"""Frames of a batch up to which u and delta are kept, not computed again by the backward pass."""


@no_type_check  # Dynamo cannot trace a run-time type checker inside these
def enter(x: Tensor, in_proj: Tensor) -> tuple[Tensor, Tensor]:
    """Return values and gate (B, T, E), by one batched product: nothing need be cut apart."""
    halves = torch.bmm(as_rows(x).expand(2, -1, -1), in_proj.view(2, -1, x.shape[2]).mT)
    value, gate = (half.view(*x.shape[:2], -1) for half in halves.unbind())
    return value, gate


@no_type_check
def go_through(
    ops: Any,
    value: Tensor,
    gate: Tensor,
    weights: Sequence[Tensor],
    conv: Tensor | None,
    scan: Tensor | None,
    offsets: Tensor | None,
    reverse: bool,
    keep_state: bool,
    keep_chunks: bool,
) -> tuple[Tensor | None, ...]:
    """Return what goes to out_proj (B, T, E), both states, and what is kept."""
    taps, conv_bias, x_proj, dt_proj, dt_bias, A_log, D = weights
    u, conv = ops.causal_conv1d(
        value, taps.flatten(1), conv_bias, conv, offsets, True, reverse, keep_state
    )
    low = F.linear(u, x_proj)
    step = low[..., : dt_proj.shape[1]]
    delta = F.linear(as_rows(step), dt_proj).view_as(u)
    projections, A = ops.scan_inputs(low, A_log)
    y, scan, chunks = ops.selective_scan(
        u, delta, A, *projections.unbind(), D, gate, dt_bias, scan, offsets, True, reverse,
        keep_chunks,
    )  # fmt: skip
    if not is_short(value):
        u = delta = None
    return y, conv, scan, value, gate, step, projections, A, chunks, u, delta


@no_type_check
def come_back(
    ops: Any,
    weights: Sequence[Tensor],
    conv: Tensor | None,
    scan: Tensor | None,
    offsets: Tensor | None,
    kept: Sequence[Tensor | None],
    grad_y: Tensor | None,
    grad_conv: Tensor | None,
    grad_scan: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, Tensor, tuple[Tensor, ...], Tensor, Tensor]:
    """Return the gradients of values and gate, of the weights, and of both states.

    ``grad_y`` is given away: the gate's gradient may stand in its place.
    """
    taps, conv_bias, x_proj, dt_proj, dt_bias, A_log, D = weights
    value, gate, step, projections, A, chunks, u, delta = kept
    convolution = value, taps.flatten(1), conv_bias, conv, offsets
    step, again = as_rows(step), u is None
    if again:
        u, _ = ops.causal_conv1d(*convolution, True, reverse, False)
        delta = F.linear(step, dt_proj).view_as(u)
    (grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_gate, grad_dt_bias, grad_scan) = (
        find_gradients(
            None if grad_y is None else grad_y.contiguous(),
            None if grad_scan is None else grad_scan.contiguous(), u, delta, A,
            *projections.unbind(), D, gate, dt_bias, scan, offsets, chunks, True, reverse,
            over=again or may_spend(u),  # grad_y is ours alone, and so is delta then
        )
    )  # fmt: skip
    del delta
    rows = as_rows(grad_delta)
    grad_dt_proj = rows.t() @ step
    grad_low, grad_A_log = ops.scan_inputs_backward(
        rows @ dt_proj, grad_B, grad_C, grad_A, A, A_log
    )
    del grad_delta, rows
    grad_x_proj = grad_low.t() @ as_rows(u)
    as_rows(grad_u).addmm_(grad_low, x_proj)
    del u
    grad_value, grad_taps, grad_conv_bias, grad_conv = ops.causal_conv1d_backward(
        grad_u, None if grad_conv is None else grad_conv.contiguous(), *convolution, True, reverse
    )
    grads = (
        grad_taps.view_as(taps), grad_conv_bias, grad_x_proj, grad_dt_proj, grad_dt_bias,
        grad_A_log, grad_D,
    )  # fmt: skip
    return grad_value, grad_gate, grads, grad_conv, grad_scan


@no_type_check
def go_back(
    grad_value: Tensor, grad_gate: Tensor, x: Tensor, in_proj: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x and of in_proj."""
    values, gates, rows = as_rows(grad_value), as_rows(grad_gate), as_rows(x)
    first, second = in_proj.view(2, -1, x.shape[2]).unbind()
    grad_x = (values @ first).addmm_(gates, second)
    grad_in_proj = values.new_empty(in_proj.shape)
    halves = grad_in_proj.view(2, -1, x.shape[2]).unbind()
    for half, part in zip(halves, (values, gates), strict=True):
        half.addmm_(part.t(), rows, beta=0)
    return grad_x.view_as(x), grad_in_proj


@no_type_check
def product(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Scale a product of matrices in passing."""
    return a.new_empty(a.shape[0], b.shape[1]).addmm_(a, b, beta=0, alpha=scale)


def is_short(x: Tensor) -> bool:
    """Whether computing again would cost more time, that of launches, than it saves memory."""
    return not torch.compiler.is_compiling() and x.shape[0] * x.shape[1] <= SHORT


def as_rows(x: Tensor) -> Tensor:
    """(B, T, E) as a matrix."""
    return x.flatten(0, 1)
