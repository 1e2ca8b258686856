"""How the Triton kernels cut up a problem; known from shapes alone."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

CHUNK = 128  # frames
SHORT_CHUNK = 64  # of float32, whose tiles take twice the room
# that a pass should have at least, where work can be divided so: an H100 has 132 multiprocessors. A
# constant, so that a graph exported on one device is right on the next
PROGRAMS = 264
# of a head; tiles of more would not fit an H100's 227 KB of shared memory
MAX_WIDTH = 256
MAX_TILE = 256 * 128


class Plan(NamedTuple):
    """How a problem is cut up; all of it follows from shapes."""

    L: int  # frames of a chunk
    chunks: int  # of all videos; packed ones may leave some empty
    chunks_a_video: int
    length: int  # chunks of a segment
    segments: int
    BN: int  # states, rounded up to a tile
    BP: int  # width, rounded up to a tile
    half: bool  # whether chunk states are kept in 16 bits

    def buffers(self, x: Tensor, *, inner: bool) -> list[int]:
        """Sizes in float32 of a pass's states and their scales; of inner outputs and theirs."""
        parts = 2 if self.half else 1
        total = self.chunks * x.shape[2]
        sizes = [total * self.BP * self.BN // parts, total]
        if inner:
            sizes += [-(-x.numel() // parts), total * self.L]
        return [-(-size // 4) * 4 for size in sizes]  # each begins at 16 bytes


def plan(x: Tensor, B: Tensor, offsets: Tensor | None) -> Plan:
    """Cut up a problem from shapes alone."""
    batch, frames, heads, width = x.shape
    BN, BP = round_up(int(B.shape[3])), round_up(int(width))
    half = x.dtype == torch.bfloat16
    L = CHUNK if half else SHORT_CHUNK
    if BN > 128 or (not half and BN * BP > 128 * 64):
        L //= 2  # tiles would leave no room
    chunks_a_video = -(-frames // L)
    chunks = batch * chunks_a_video
    if offsets is not None:
        chunks = frames // L + offsets.shape[0] - 1
    length = -(-chunks // max(1, PROGRAMS // heads))
    return Plan(L, chunks, chunks_a_video, length, -(-chunks // length), BN, BP, half)


def fits(x: Tensor, B: Tensor) -> bool:
    """Whether a head's states and frames find room on the chip."""
    BN, BP = round_up(int(B.shape[3])), round_up(int(x.shape[3]))
    return BP <= MAX_WIDTH and BN * BP <= MAX_TILE


def round_up(size: int) -> int:
    """To a tile of matrix products: a power of two, 16 at least."""
    return max(16, 1 << (size - 1).bit_length())


def kept_size(x: Tensor, B: Tensor, offsets: Tensor | None, *, inner: bool) -> Any:
    """How many float32 numbers a forward pass keeps; with inner outputs, for a backward pass."""
    return sum(plan(x, B, offsets).buffers(x, inner=inner))
