"""Attention within a window: every frame looks at its neighbours, at a cost linear in time."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vidmamba.nn.packing import video_of_frame

LEAST_BLOCK = 64
"""Frames of a block at least: a GPU takes up to 65,535 of them, and fills up on larger ones."""


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """Shape of a `WindowAttention`."""

    window: int = 64
    """Frames that a frame sees to each side of itself (causal: before itself)."""

    heads: int = 4
    """Sets of queries, keys and values; they divide the width."""

    growth: int = 1
    """The window of each attention block is that of the one before times this (ASFormer: 2)."""

    def __post_init__(self) -> None:
        if min(self.window, self.heads, self.growth) < 1:
            raise ValueError(f"window, heads and growth must be at least 1, got {self}")


class WindowAttention(nn.Module):
    """Softmax attention of each frame to the frames of its window and its video.

    Time is cut into blocks of a window's length or more, and a block's frames look at their own
    block and a window to each side of it, masked to the exact window: some T (3 window) products
    instead of T T. Queries and keys are rotated by their time (Su et al., "RoFormer", 2021), so
    that only distances count.

    Raises:
        ValueError: heads do not divide the width into even parts.
    """

    def __init__(self, width: int, config: AttentionConfig, *, window: int, causal: bool) -> None:
        super().__init__()
        if width % config.heads or (width // config.heads) % 2:
            raise ValueError(
                f"width {width} must split into {config.heads} heads of an even number of channels"
            )
        self.heads, self.window, self.causal = config.heads, window, causal
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self, x: Float[Tensor, "B T D"], *, offsets: Tensor | None = None
    ) -> Float[Tensor, "B T D"]:
        """Mix whole videos; with ``offsets`` (V + 1,), V videos that lie packed in B = 1."""
        videos, frames, _ = x.shape
        window, size = min(self.window, frames), min(max(self.window, LEAST_BLOCK), frames)
        blocks = -(-frames // size)
        q, k, v = self.queries_keys_values(x).unflatten(-1, (3, self.heads, -1)).unbind(dim=2)
        q, k = _rotate(q), _rotate(k)
        short = blocks * size - frames
        after = 0 if self.causal else window
        reach = torch.arange(-window, size + after, device=x.device)
        # blocks lie along the batch, because fused attention, which never writes the weights to
        # memory, takes four dimensions
        q = F.pad(q, (0, 0, 0, 0, 0, short)).unflatten(1, (blocks, size)).flatten(0, 1)
        # moved before flattened: fused attention wants the channels side by side in memory
        k, v = (
            F.pad(y, (0, 0, 0, 0, window, short + after))
            .unfold(1, len(reach), size)
            .movedim(-1, -2)
            .flatten(0, 1)
            for y in (k, v)
        )  # B*blocks heads reach P
        first = torch.arange(0, frames, size, device=x.device)
        seen = self._seen(first, size, reach, frames=frames, offsets=offsets)
        y = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k,
            v,
            attn_mask=seen if videos == 1 else seen.repeat(videos, 1, 1, 1),
        )  # B*blocks heads size P
        y = y.transpose(1, 2).flatten(2).unflatten(0, (videos, blocks)).flatten(1, 2)
        return self.out(y[:, :frames])

    def _seen(
        self, first: Tensor, size: int, reach: Tensor, *, frames: int, offsets: Tensor | None
    ) -> Bool[Tensor, "blocks 1 size reach"]:
        """Which keys each query may look at: in its window, its video, and real."""
        place = torch.arange(size, device=first.device).view(1, -1, 1)
        query, key = first.view(-1, 1, 1) + place, first.view(-1, 1, 1) + reach
        distance = place - reach
        low = 0 if self.causal else -self.window
        near = (distance >= low) & (distance <= self.window)
        seen = near & (key >= 0) & (key < frames)
        if offsets is not None:
            video = video_of_frame(offsets, frames)
            assert isinstance(video, Tensor)
            last = frames - 1
            seen = seen & (video[query.clamp(max=last)] == video[key.clamp(0, last)])
        # a padded query sees itself: an empty row of a softmax is not a number
        return (seen | (distance == 0)).unsqueeze(1)


def _rotate(x: Float[Tensor, "B T heads P"]) -> Float[Tensor, "B T heads P"]:
    """Turn pairs of channels by angles that grow with time, fast ones first."""
    half = x.shape[-1] // 2
    # float64: an hour of video turns by more than float32 can count in small angles
    time = torch.arange(x.shape[1], device=x.device, dtype=torch.float64)
    rate = 10_000 ** (-torch.arange(half, device=x.device, dtype=torch.float64) / half)
    angle = time[:, None, None] * rate
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    one, other = x.chunk(2, dim=-1)
    return torch.cat([one * cos - other * sin, one * sin + other * cos], dim=-1)
