"""The convolution as Mamba-2's mixer wants it: its results in parts, its gradients among others.

Operators without gradients of their own, called between the lines of that mixer's; each saves the
launches that would cut results apart, or glue gradients together, before the next product.
"""

from typing import Any

import torch
from torch import Tensor

from vidmamba.kernels.causal_conv1d.op import (
    backward_on_cpu,
    conv_on_cpu,
    fake_backward,
    fake_conv,
)
from vidmamba.kernels.operators import define


def _apart_on_cpu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    silu: bool,
    reverse: bool,
    keep_state: bool,
    first: int,
    further: int,
) -> tuple[Tensor, Tensor]:
    """Convolve; the results' first channels lie together, and behind them every ``further``."""
    given = (x, weight, bias, initial_state, offsets)
    y, last = conv_on_cpu(*given, silu, reverse, keep_state)
    sizes = [first] + [further] * ((x.shape[2] - first) // further)
    return torch.cat([part.flatten() for part in y.split(sizes, dim=-1)]), last


def _apart_on_cuda(*given: Any) -> tuple[Tensor, Tensor]:
    # imported on first use: Triton is installed only where it can run
    from vidmamba.kernels.causal_conv1d.kernel import launch_conv

    *tensors, silu, reverse, keep_state, first, further = given
    how: dict[str, Any] = {"silu": silu, "reverse": reverse, "keep_state": keep_state}
    y, last = launch_conv(*tensors, **how, parts=(first, further))
    return y.flatten(), last


def _fake_apart(x: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    y, last = fake_conv(x, *others[:-2])
    return y.flatten(), last


def _among_on_cpu(
    grad_first: Tensor,
    grad_second: Tensor,
    grad_third: Tensor,
    grad_last: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    before: Tensor,
    after: Tensor,
    silu: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the convolution's gradients, from those of its three parts.

    The gradients of x stand in the rows of a matrix between those that are ``before`` and
    ``after``, gradients of other results of the product that x is from.
    """
    whole = torch.cat([grad_first, grad_second, grad_third], dim=-1)
    given = (x, weight, bias, initial_state, offsets, silu, reverse)
    grad_x, grad_weight, grad_bias, grad_state = backward_on_cpu(whole, grad_last, *given)
    row = torch.cat([before, grad_x, after], dim=-1)
    return row.flatten(0, 1), grad_weight, grad_bias, grad_state


def _among_on_cuda(*given: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from vidmamba.kernels.causal_conv1d.kernel_backward import launch_conv_backward

    first, second, third, grad_last, *inputs, before, after, silu, reverse = given
    grad_x, grad_weight, grad_bias, grad_state = launch_conv_backward(
        first, grad_last, *inputs, silu=silu, reverse=reverse, apart=(second, third),
        before=before, after=after,
    )  # fmt: skip
    return grad_x.flatten(0, 1), grad_weight, grad_bias, grad_state


def _fake_among(*given: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    first, _, _, grad_last, *inputs, before, after, silu, reverse = given
    others = (*inputs, silu, reverse)
    _, grad_weight, grad_bias, grad_state = fake_backward(first, grad_last, *others)
    x = inputs[0]
    width = before.shape[2] + x.shape[2] + after.shape[2]
    rows = x.shape[0] * x.shape[1]
    return x.new_empty(rows, width), grad_weight, grad_bias, grad_state


define("causal_conv1d_apart", cpu=_apart_on_cpu, cuda=_apart_on_cuda, fake=_fake_apart)
define("causal_conv1d_among", cpu=_among_on_cpu, cuda=_among_on_cuda, fake=_fake_among)
