"""Work that runs beside other work on a GPU."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor


def at_once(
    first: Callable[[], Tensor], second: Callable[[], Tensor], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return what two functions return; on a GPU the second's kernels run beside the first's.

    So do those of their gradients, for autograd uses the streams of the forward pass. The second
    stream begins nothing, forward or backward, without waiting for the first: memory that either
    lets go of is free by the time that the other, which owns it, writes there again.
    """
    if device.type != "cuda" or torch.compiler.is_compiling():
        return first(), second()
    here, there = torch.cuda.current_stream(device), _second_stream(device)
    there.wait_stream(here)
    with torch.cuda.stream(there):
        beside = second()
    along = first()
    here.wait_stream(there)
    return along, beside


@cache
def _second_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
