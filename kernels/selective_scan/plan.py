"""How the gradients of a scan are divided among programs; known from shapes alone."""

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidmamba.kernels.selective_scan.checks import BLOCK, CUDA_LONGEST_OF_FLOAT32, Chunks
from vidmamba.kernels.sizes import cdiv

SCHEDULERS = 4  # of a multiprocessor
# two or three programs a scheduler: the slots that shared memory then has room for, and the
# registers there are; three are faster in all, if there are enough of them
WARPS: dict[int, tuple[int, dict[str, Any]]] = {
    2: (8, {"num_warps": 1, "maxnreg": 255, "enable_fp_fusion": True}),
    3: (4, {"num_warps": 1, "maxnreg": 168, "enable_fp_fusion": True}),
}
# the most programs of a chunk, a multiprocessor, that may wait for each other: each has room for
# three at least, so that three scans at a time do not keep parts of each other's chunks waiting
WAITING = 1
MOST_WAVES = 4
LONGEST = 4096  # frames of a chunk


class Plan(NamedTuple):
    """Chunks, each walked by one program a block of channels."""

    chunks: Chunks
    abreast: int  # chunks that are walked at a time
    warps: int  # at most that a scheduler has
    together: bool  # whether all programs of a chunk are sure to run at a time


def plan_backward(forward: Chunks, u: Tensor, offsets: Tensor | None) -> Plan:
    """Choose the longest chunks that keep the device busy.

    Chunks are of whole segments, whose states the forward pass kept; those of packed videos are
    the forward pass's own.
    """
    batch, frames, channels = u.shape
    blocks, multiprocessors = cdiv(channels, BLOCK), _multiprocessors(u.device)
    warps, chunks = 3, forward
    if offsets is None:
        longest = CUDA_LONGEST_OF_FLOAT32 if u.dtype == torch.float32 else LONGEST
        warps, size = _choose(batch, frames, blocks, forward.span, longest, multiprocessors)
        chunks = forward._replace(frames=size, total=batch * cdiv(frames, size))
    # Triton's interpreter and others than NVIDIA's GPUs run programs as they like
    native = u.is_cuda and torch.version.hip is None
    together = native and blocks <= multiprocessors * WAITING
    abreast = min(chunks.total, max(multiprocessors * SCHEDULERS * warps // blocks, 1))
    return Plan(chunks, abreast, warps, together)


@cache
def _choose(
    batch: int, frames: int, blocks: int, span: int, longest: int, multiprocessors: int
) -> tuple[int, int]:
    """Choose how many warps a scheduler has, and the frames of a chunk."""
    choices = []
    for warps in WARPS:
        most, waves, found = max(multiprocessors * SCHEDULERS * warps // blocks, 1), 1, 0
        while found < MOST_WAVES:
            # as many chunks a video as so many waves have room for
            size = cdiv(cdiv(frames, max(most * waves // batch, 1)), span) * span
            if size <= longest:
                choices.append((warps, size))
                found += 1
            waves += 1

    def cost(choice: tuple[int, int]) -> float:
        """In microseconds of an H200, as measured."""
        warps, size = choice
        total, most = batch * cdiv(frames, size), multiprocessors * SCHEDULERS * warps // blocks
        abreast = min(total, max(most, 1))
        busy = cdiv(abreast * blocks, multiprocessors * SCHEDULERS)
        # the last chunk of a video may be short
        a_frame = (0.95 if warps == 2 else 1.0) * (0.24 + 0.38 * busy) * (1 + 3 / span)
        walked = cdiv(total, abreast) * min(size, cdiv(frames, span) * span) * a_frame
        # chunk ends: most frames of long chunks are out of reach
        return walked + 25e-3 / multiprocessors * batch * frames * blocks / (1 + size / 450)

    return min(choices, key=cost)


@cache
def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
