"""Videos packed one after another in one row: which frame belongs to which video."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def video_of_frame(offsets: Int[Tensor, " bounds"] | None, frames: int) -> Int[Tensor, " T"] | int:
    """Return the number of each frame's video; 0 for all frames where nothing is packed."""
    if offsets is None:
        return 0
    return torch.bucketize(torch.arange(frames, device=offsets.device), offsets[1:], right=True)


def shift(
    x: Float[Tensor, "B T D"], steps: int, offsets: Int[Tensor, " bounds"] | None
) -> Float[Tensor, "B T D"]:
    """Return x[t - steps] at t, zeros where that lies outside the frame's video."""
    frames = x.shape[1]
    if abs(steps) >= frames:
        return torch.zeros_like(x)
    moved = F.pad(x, (0, 0, max(steps, 0), max(-steps, 0)))
    moved = moved[:, :frames] if steps >= 0 else moved[:, -frames:]
    if offsets is None:
        return moved
    video = video_of_frame(offsets, frames)
    assert isinstance(video, Tensor)
    other = torch.full((abs(steps),), -1, device=video.device, dtype=video.dtype)
    came = (
        torch.cat([other, video[: frames - steps]])
        if steps >= 0
        else torch.cat([video[-steps:], other])
    )
    return moved * (came == video).to(x.dtype)[:, None]


def hold_last(
    x: Float[Tensor, "B T D"], ahead: int, offsets: Int[Tensor, " bounds"] | None
) -> Float[Tensor, "B T D"]:
    """Return x[t + ahead] at t, a video's last frame where it has ended by then."""
    frames = x.shape[1]
    index = torch.arange(frames, device=x.device) + ahead
    if offsets is None:
        last: Tensor | int = frames - 1
    else:
        video = video_of_frame(offsets, frames)
        last = offsets[1:][video].long() - 1
        return x[:, torch.minimum(index, last)]
    return x[:, index.clamp(max=last)]


def pack(
    x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
) -> tuple[Float[Tensor, "1 P D"], Int[Tensor, " B+1"]]:
    """Return the real frames of padded videos in one row, and where each video begins in it."""
    offsets = F.pad(mask.sum(dim=1).cumsum(0), (1, 0)).to(torch.int32)
    return x[mask].unsqueeze(0), offsets


def unpack(packed: Float[Tensor, "1 P D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
    """Return packed frames as padded videos; padding is zero."""
    padded = packed.new_zeros(*mask.shape, packed.shape[-1])
    return padded.masked_scatter(mask.unsqueeze(-1), packed)
