"""Work that runs beside other work on a GPU."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor


def mean_of_both(
    first: Callable[..., Tensor],
    second: Callable[..., Tensor],
    x: Tensor,
    *,
    offsets: Tensor | None = None,
) -> Tensor:
    """Return the mean of what two mixers make of x, side by side."""
    return side_by_side(first, second, lambda one, two: (one + two) / 2, x, offsets=offsets)


def side_by_side(
    first: Callable[..., Tensor],
    second: Callable[..., Tensor],
    join: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    *,
    offsets: Tensor | None = None,
) -> Tensor:
    """Return what joins what two mixers make of x; on a GPU the second runs beside the first.

    So do their gradients, for autograd uses the streams of the forward pass. What is let go of on
    one stream is written to again by the one that owns it, who must have waited till then: the
    second has, for its result, before it is let go of, and the first, for x, when it adds up the
    gradients of x.
    """
    # the tensors of torch.func stand for others, which it knows
    if (
        not x.is_cuda
        or torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
    ):
        return join(first(x, offsets=offsets), second(x, offsets=offsets))
    here, there = torch.cuda.current_stream(x.device), _second_stream(x.device)
    if torch.is_grad_enabled() and not x.requires_grad:
        for given in (x, offsets):
            if given is not None:
                given.record_stream(there)  # no gradients of x are added up
    if torch.is_grad_enabled() and x.requires_grad and x.is_leaf:
        x = x.view_as(x)  # where the gradients of both streams meet: a leaf's come from one
    there.wait_stream(here)
    try:
        with torch.cuda.stream(there):
            beside = second(x, offsets=offsets)
        along = first(x, offsets=offsets)
    finally:  # a checkpoint ends what it computes again by an exception
        here.wait_stream(there)
    joined = join(along, beside)
    # in a graph nobody else uses the stream, which must end joined to the one that captures
    if not torch.cuda.is_current_stream_capturing():
        there.wait_stream(here)
    return joined


@cache
def _second_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
