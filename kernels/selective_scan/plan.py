"""How the gradients of a scan are divided among programs; known from shapes alone."""

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidmamba.kernels.selective_scan.checks import BLOCK, CUDA_LONGEST_OF_FLOAT32, Chunks
from vidmamba.kernels.sizes import cdiv

PROGRAMS = 8  # of a multiprocessor: two a scheduler, with all registers there are
SLOTS = 8  # of a program, for states in shared memory
WARP: dict[str, Any] = {"num_warps": 1, "maxnreg": 255, "enable_fp_fusion": True}
ENDS = 16  # programs of chunk ends that a multiprocessor has at a time
# the most programs of a chunk, a multiprocessor, that may wait for each other: each has room for
# three at least, so that three scans at a time do not keep parts of each other's chunks waiting
WAITING = 1
MOST_WAVES = 4
LONGEST = 4096  # frames of a chunk
# frames of which sums over channels are added up at a time, a segment at least, and how many times
# as many are held: the first for which there is memory
WAYS = ((64, 2), (32, 2), (32, 1))
# which is this share of u's, or so many bytes: what programs need must not outweigh the outputs
SHARE, LEAST = 0.8, 4e6


class Plan(NamedTuple):
    """Chunks, each walked by one program a block of channels."""

    chunks: Chunks
    abreast: int  # chunks that are walked at a time
    together: bool  # whether all programs of a chunk are sure to run at a time
    per: int  # segments of which they add up their sums at a time: one or two
    slots: int  # how many times as many sums are held; one or two, if together


def plan_backward(forward: Chunks, u: Tensor, offsets: Tensor | None) -> Plan:
    """Choose the longest chunks that keep the device busy.

    Chunks are of whole segments, whose states the forward pass kept; those of packed videos are
    the forward pass's own.
    """
    batch, frames, channels = u.shape
    blocks, multiprocessors = cdiv(channels, BLOCK), _multiprocessors(u.device)
    chunks, memory = forward, max(SHARE * u.nbytes, LEAST)
    if offsets is None:
        longest = CUDA_LONGEST_OF_FLOAT32 if u.dtype == torch.float32 else LONGEST
        shape = batch, frames, blocks, forward.span, longest
        size = _choose(*shape, multiprocessors, memory)
        chunks = forward._replace(frames=size, total=batch * cdiv(frames, size))
    # Triton's interpreter and others than NVIDIA's GPUs run programs as they like
    native = u.is_cuda and torch.version.hip is None
    together = native and blocks <= multiprocessors * WAITING
    abreast = min(chunks.total, max(multiprocessors * PROGRAMS // blocks, 1))
    # else each segment's are held until the end
    turn, slots = WAYS[-1] if together else (chunks.span, 1)
    for way in reversed(WAYS if together else ()):
        if need(chunks.total, abreast, blocks, chunks.span, *way) <= memory:
            turn, slots = way
    return Plan(chunks, abreast, together, 2 if turn >= 2 * chunks.span else 1, slots)


def need(chunks: int, abreast: int, blocks: int, span: int, turn: int, slots: int) -> int:
    """Bytes for gradients of states and for sums over channels, of 16 states."""
    return blocks * BLOCK * 4 * (chunks * 18 + abreast * slots * max(turn, span))


@cache
def _choose(
    batch: int,
    frames: int,
    blocks: int,
    span: int,
    longest: int,
    multiprocessors: int,
    memory: float,
) -> int:
    """Choose the frames of a chunk."""
    most = max(multiprocessors * PROGRAMS // blocks, 1)
    least = cdiv(batch * frames, most * longest)
    # as many chunks a video as so many waves have room for, or half as many, which need less memory
    counts = [max(most * (least + more) // batch, 1) for more in range(MOST_WAVES)]
    counts.append(max(counts[0] // 2, 1))
    sizes = {min(cdiv(cdiv(frames, count), span), longest // span) * span for count in counts}

    def cost(size: int) -> tuple[bool, float]:
        """Whether memory is short, and microseconds of an H200, as measured."""
        total = batch * cdiv(frames, size)
        abreast = min(total, most)
        short = need(total, abreast, blocks, span, *WAYS[-1]) > memory
        busy = cdiv(abreast * blocks, multiprocessors * PROGRAMS // 2)
        walked = cdiv(total, abreast) * (size * (0.36 + 0.26 * busy) + 8)
        # where decays are slow, chunk ends are walked whole, by twice as many programs at a time
        ends = 0.3 * size * max(total * blocks / (multiprocessors * ENDS), 1)
        return short, walked + ends

    return min(sorted(sizes), key=cost)


@cache
def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
