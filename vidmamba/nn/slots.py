"""Slots: a selective state in its plainest form, which keeps what it lets in as it came."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vidmamba.kernels.selective_scan import selective_scan
from vidmamba.nn.mixer import state_dtype, step_bias
from vidmamba.nn.packing import video_of_frame


class Slots(nn.Module):
    """A few vectors that each step may write itself into: `h = (1 - g) h + g x`, a gate g a slot.

    This is what a Mamba's scan is with one state a channel, A = -1 and B = C = 1 (Gu and Dao, 2023,
    theorem 1). Nothing is projected: what stands in a slot is a mean of the steps that were let in.
    """

    def __init__(self, width: int, slots: int, *, stretch: float = 1.0) -> None:
        """Build for steps of this width; gates are open to some 1 to 60 % at first.

        Args:
            width: D.
            slots: how many.
            stretch: in training a step counts as up to so many equal ones, each row of packed
                videos as often, so that gates learn to shut for longer than training videos last.
        """
        super().__init__()
        self.slots, self.stretch = slots, stretch
        self.write = nn.Linear(width, slots)
        with torch.no_grad():
            self.write.bias.copy_(step_bias(slots, 1e-2, 1.0))

    def forward(
        self, x: Float[Tensor, "1 T D"], *, offsets: Int[Tensor, " bounds"]
    ) -> Float[Tensor, "T slots D"]:
        """Return the slots as each step of packed videos finds them: without what it writes."""
        frames, width = x.shape[1:]
        step = F.softplus(self.write(x))
        if self.training and self.stretch > 1:
            # k times the same is one time with k times the step
            step = step * self._times(frames, offsets)
        # a shut gate is small, not 0, which would be 0 / 0 below
        step = step.clamp(min=1e-6).repeat_interleave(width, dim=2)
        given = x.repeat(1, 1, self.slots) * -torch.expm1(-step) / step
        ones = given.new_ones(1, frames, 1)
        rate = -given.new_ones(self.slots * width, 1, dtype=state_dtype(given))
        after = selective_scan(given, step, rate, ones, ones, offsets=offsets)[0]
        before = F.pad(after[:-1], (0, 0, 1, 0)).unflatten(1, (self.slots, width))
        first = torch.zeros(frames + 1, dtype=torch.bool, device=x.device)
        first = first.index_fill(0, offsets.long(), True)[:-1]
        return before.masked_fill(first[:, None, None], 0.0)

    def _times(self, frames: int, offsets: Tensor) -> Tensor:
        """Draw how often each video's steps count: evenly in the logarithm, 1 to `stretch`."""
        drawn = self.stretch ** torch.rand(len(offsets) - 1, 1, device=offsets.device)
        return drawn[video_of_frame(offsets, frames)]
