"""A mixer at a coarser rate: means of neighbouring frames in, the same answer for each out."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vidmamba.nn.packing import video_of_frame


class Coarse(nn.Module):
    """Average each `factor` frames of a video, mix, and give all of them what came out.

    It sees `factor` times as far at a `factor`-th of the cost; the last group of a video holds
    the frames that are left.
    """

    def __init__(self, mixer: nn.Module, factor: int) -> None:
        super().__init__()
        self.mixer = mixer
        self.factor = factor

    def forward(
        self, x: Float[Tensor, "B T D"], *, offsets: Tensor | None = None
    ) -> Float[Tensor, "B T D"]:
        """Mix whole videos; with ``offsets`` (V + 1,), V videos that lie packed in B = 1."""
        frames = x.shape[1]
        time = torch.arange(frames, device=x.device)
        if offsets is None:
            place, starts, groups = time, None, -(-frames // self.factor)
        else:
            video = video_of_frame(offsets, frames)
            counts = -(-offsets.diff() // self.factor)
            # as many as there can be, the empty ones a video of their own: a number that hung on
            # lengths would wait for the GPU
            groups = frames // self.factor + len(counts)
            starts = F.pad(F.pad(counts.cumsum(0), (1, 0)), (0, 1), value=groups)
            starts = starts.to(offsets.dtype)
            place = starts[video] * self.factor + time - offsets[video]
        # each to a place of its own: a GPU would add to a group in any order, and round every sum
        room = groups * self.factor
        placed = x.new_zeros(x.shape[0], room, x.shape[2]).index_copy(1, place, x)
        real = x.new_zeros(room).index_fill(0, place, 1)
        sums, members = placed.unflatten(1, (groups, -1)).sum(2), real.view(groups, -1).sum(1)
        means = sums / members.clamp(min=1)[:, None]
        return self.mixer(means, offsets=starts)[:, place // self.factor]
