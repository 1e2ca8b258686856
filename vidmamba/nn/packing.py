"""Videos packed one after another in one row: which frame belongs to which video."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def check_videos(x: Tensor, offsets: Tensor | None = None) -> None:
    """Refuse what a mixer's kernels, which see addresses alone, would read beyond.

    Raises:
        ValueError: there is no frame, or offsets do not fit; with the values.
    """
    if 0 in x.shape:
        raise ValueError(f"x must have a shape (B, T, D) without zeros, got {[*x.shape]}")
    if offsets is None:
        return
    if x.shape[0] != 1:
        raise ValueError(f"with offsets, the videos are packed into B = 1, got B = {x.shape[0]}")
    whole = offsets.dtype in (torch.int32, torch.int64)
    if not whole or offsets.ndim != 1 or len(offsets) < 2 or offsets.device != x.device:
        raise ValueError(
            f"offsets must be int32 or int64 of shape (videos + 1,) on {x.device}, "
            f"got {offsets.dtype} of shape {[*offsets.shape]} on {offsets.device}"
        )


def video_of_frame(offsets: Int[Tensor, " bounds"] | None, frames: int) -> Int[Tensor, " T"] | int:
    """Return the number of each frame's video; 0 for all frames where nothing is packed."""
    if offsets is None:
        return 0
    return torch.bucketize(torch.arange(frames, device=offsets.device), offsets[1:], right=True)


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
) -> tuple[Float[Tensor, "1 P D"], Int[Tensor, " bounds"]]:
    """Return padded videos in one row, and where each video and each padding begins in it.

    The padding behind a video counts as one more video, an empty one where there is none: so shapes
    hang on those of the batch alone, nothing waits for a GPU, and a graph of it can be captured.

    Args:
        x: P = B T frames.
        mask: True where a frame is real, from a video's first frame on.
    """
    videos, frames = mask.shape
    starts = frames * torch.arange(videos + 1, device=mask.device)
    ends = starts[:-1] + mask.sum(dim=1)
    bounds = torch.stack([starts[:-1], ends], dim=1).flatten()
    offsets = torch.cat([bounds, starts[-1:]]).to(torch.int32)
    return x.flatten(0, 1).unsqueeze(0), offsets


def unpack(packed: Float[Tensor, "1 P D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
    """Return packed frames as padded videos; padding is zero."""
    return packed.unflatten(1, mask.shape).squeeze(0).masked_fill(~mask.unsqueeze(-1), 0)
