"""How videos are cut into chunks of frames, which never cross from one video to the next."""

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor

CHUNK = 64  # frames: between chunks the work grows with the states, within one with its length
# chunks are worked on in blocks, which should stay in the cache, and one state a block is kept for
# the backward pass
CHUNKS_A_BLOCK = 16


class Block(NamedTuple):
    """Some consecutive chunks: n of them, of L frames each, from J videos."""

    rows: Tensor  # int64 (n * L): where each frame lies in the (B * T) rows, in processing order
    valid: Tensor  # bool (n, L): whether there is such a frame
    span: slice | None  # the same rows, if they are neighbours and all there
    videos: Tensor  # int64 (J): which videos
    place: Tensor  # int64 (n): which of them a chunk belongs to
    firsts: Tensor  # int64 (J): the first chunk here of each
    lasts: Tensor  # int64 (J): the last
    begun: bool  # whether the first video began in an earlier block
    unfinished: bool  # whether the last video goes on in the next


def cut(x: Tensor, offsets: Tensor | None, *, reverse: bool) -> tuple[Block, ...]:
    """Cut (B, T, ...) frames, or the packed videos of ``offsets``, into blocks of chunks."""
    batch, frames = x.shape[:2]
    if offsets is None:
        return _cut_batch(batch, frames, CHUNKS_A_BLOCK, reverse, x.device)
    bounds = offsets.cpu().long()
    if bounds[0] != 0 or bounds[-1] != frames or bool((bounds.diff() < 0).any()):
        shown = bounds.tolist() if len(bounds) <= 16 else f"{bounds[:16].tolist()}..."
        raise ValueError(f"offsets must rise from 0 to T = {frames}, got {shown}")
    return _cut(bounds, CHUNKS_A_BLOCK, reverse, x.device)


# kept: the same shape comes again and again, and a CUDA graph must not see the copies to the device
@functools.lru_cache(maxsize=32)
def _cut_batch(
    batch: int, frames: int, size: int, reverse: bool, device: torch.device
) -> tuple[Block, ...]:
    return _cut(torch.arange(batch + 1) * frames, size, reverse, device)


def _cut(bounds: Tensor, size: int, reverse: bool, device: torch.device) -> tuple[Block, ...]:
    lengths = bounds.diff()
    counts = (lengths + CHUNK - 1) // CHUNK
    video = torch.repeat_interleave(torch.arange(len(lengths)), counts)
    ends = counts.cumsum(0)
    first = (torch.arange(len(video)) - (ends - counts)[video]) * CHUNK
    step = first[:, None] + torch.arange(CHUNK)
    valid = step < lengths[video, None]
    step = step.minimum(lengths[video, None] - 1)  # rows past the end are read, but count nothing
    rows = bounds[1:][video, None] - 1 - step if reverse else bounds[:-1][video, None] + step
    blocks = []
    for a in range(0, len(video), size):
        b = min(a + size, len(video))
        videos, place, chunks = video[a:b].unique_consecutive(
            return_inverse=True, return_counts=True
        )
        lasts = chunks.cumsum(0) - 1
        here = rows[a:b].flatten()
        neighbours = bool(valid[a:b].all()) and bool((here.diff() == 1).all())
        span = slice(int(here[0]), int(here[-1]) + 1) if neighbours else None
        blocks.append(
            Block(
                rows=here.to(device),
                valid=valid[a:b].to(device),
                span=span,
                videos=videos.to(device),
                place=place.to(device),
                firsts=(lasts - chunks + 1).to(device),
                lasts=lasts.to(device),
                begun=bool(first[a] > 0),
                unfinished=bool(b < len(video) and first[b] > 0),
            )
        )
    return tuple(blocks)


def count_blocks(x: Tensor, offsets: Tensor | None) -> Any:
    """Room for the blocks of all videos, known from shapes alone; symbolic in a trace."""
    chunks = x.shape[0] * -(-x.shape[1] // CHUNK)
    if offsets is not None:
        chunks = x.shape[1] // CHUNK + offsets.shape[0] - 1
    # one to spare: torch.export takes a size of 1 as a constant and would refuse longer videos
    return -(-chunks // CHUNKS_A_BLOCK) + 1
