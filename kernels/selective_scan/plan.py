"""How the gradients of a scan are divided among programs; known from shapes alone."""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from vidmamba.kernels.selective_scan.checks import CUDA_BLOCK as BLOCK
from vidmamba.kernels.selective_scan.checks import (
    CUDA_LONGEST_OF_FLOAT32,
    CUDA_SEGMENT,
    Chunks,
)
from vidmamba.kernels.sizes import cdiv

# what the registers and the shared memory of a multiprocessor hold
WARPS = 12
# and what those of a small one hold
FEWEST_WARPS = 3
LONGEST = 4096  # frames of a chunk


class Plan(NamedTuple):
    """Chunks, each walked by one program a block of channels."""

    chunks: Chunks
    spacing: int  # of the states that the forward pass kept, so many a segment
    abreast: int  # chunks that are walked at a time
    together: bool  # whether all programs of a chunk are sure to run at a time


def plan_backward(forward: Chunks, u: Tensor, offsets: Tensor | None) -> Plan:
    """Choose the longest chunks that keep the device busy.

    Chunks are of whole segments, whose states the forward pass kept; those of packed videos are
    the forward pass's own.
    """
    batch, frames, channels = u.shape
    blocks, multiprocessors = cdiv(channels, BLOCK), _multiprocessors(u.device)
    most = max(multiprocessors * WARPS // blocks, 1)
    size, total = forward.frames, forward.total
    if offsets is None:
        longest = CUDA_LONGEST_OF_FLOAT32 if u.dtype == torch.float32 else LONGEST
        size = _choose(batch, frames, size, most, longest)
        total = batch * cdiv(frames, size)
    chunks = Chunks(size, total, forward.width, max(size // CUDA_SEGMENT, 1))
    # Triton's interpreter and others than NVIDIA's GPUs run programs as they like
    native = u.is_cuda and torch.version.hip is None
    together = native and blocks <= multiprocessors * FEWEST_WARPS
    spacing = 1 if size < CUDA_SEGMENT else max(CUDA_SEGMENT // forward.frames, 1)
    return Plan(chunks, spacing, min(total, most), together)


@cache
def _choose(batch: int, frames: int, forward: int, most: int, longest: int) -> int:
    """Frames of a chunk, of which so many are walked at a time."""
    sizes = [forward] if forward < CUDA_SEGMENT else []
    waves = 1
    while len(sizes) < 4:
        # as many chunks a video as so many waves have room for
        size = cdiv(cdiv(frames, max(most * waves // batch, 1)), CUDA_SEGMENT) * CUDA_SEGMENT
        if size <= longest:
            sizes.append(size)
        waves += 1

    def cost(size: int) -> float:
        """In frames that a program walks."""
        total = batch * cdiv(frames, size)
        # each chunk begins with its end, for which no more than a thousand frames are walked
        return cdiv(total, most) * size + total / most * (min(size, 1024) / 8 + 16)

    return min(sizes, key=cost)


@cache
def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
