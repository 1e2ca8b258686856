"""How the gradients of a scan are divided among programs; known from shapes alone."""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from vidmamba.kernels.selective_scan.checks import CUDA_LANES, CUDA_SEGMENT, Chunks
from vidmamba.kernels.sizes import cdiv

BLOCK = 32  # channels of a program: one a lane
# what the registers and the shared memory of a multiprocessor hold
WARPS = 12
MAX_GROUP = 16  # blocks of channels whose gradients of B and C one program adds up


class Plan(NamedTuple):
    """Chunks as wide as one pass over channels, and how many blocks share one part."""

    chunks: Chunks
    group: int
    programs: int  # at most at a time


def plan_backward(forward: Chunks, u: Tensor, offsets: Tensor | None) -> Plan:
    """Choose what keeps the device busy, and needs little memory if that costs little time.

    Chunks are of whole segments, whose states the forward pass kept; those of packed videos are
    the forward pass's own.
    """
    batch, frames, channels = u.shape
    most = _multiprocessors(u.device) * WARPS
    packed = 0 if offsets is None else forward.total
    size, group, width = _choose(batch, frames, channels, forward.frames, packed, most)
    total = packed or batch * cdiv(frames, size)
    chunks = Chunks(size, total, width, max(size // CUDA_SEGMENT, 1))
    groups = cdiv(min(width, channels), BLOCK * group)
    return Plan(chunks, group, min(total * groups, most))


@cache
def _choose(
    batch: int, frames: int, channels: int, forward: int, packed: int, programs: int
) -> tuple[int, int, int]:
    """Frames of a chunk, blocks of a group and channels of a pass."""
    sizes = [forward]
    if not packed and forward >= CUDA_SEGMENT:
        sizes = list(range(CUDA_SEGMENT, 2 * forward, CUDA_SEGMENT))
    whole = cdiv(channels, CUDA_LANES)
    widths = sorted({cdiv(whole, passes) * CUDA_LANES for passes in range(1, 5)})
    choices = [(s, g, w) for s in sizes for g in range(1, MAX_GROUP + 1) for w in widths]

    def cost(choice: tuple[int, int, int]) -> float:
        """In frames that a program walks, each some 1.3 microseconds of an H200."""
        size, group, width = choice
        total, passes = packed or batch * cdiv(frames, size), cdiv(channels, width)
        groups = cdiv(min(width, channels), BLOCK * group)
        walked = cdiv(total * groups, programs) * passes * group * size
        # what chunks end with is soon found for long ones, most of whose frames are out of reach
        ends = 5 * total * cdiv(channels, BLOCK) / programs
        rows, parts = total * width * 34, total * groups * size * 32
        aside = min(total * groups, programs) * 26 * 256
        large = max((rows + parts + aside) / 2**18 - 64, 0)  # MiB
        return walked + ends + 2 * passes + large / 2

    return min(choices, key=cost)


@cache
def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
