"""What a sentence is written from: a few states of its event and of what is around it."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

FREQUENCIES = 4
"""Sines and cosines that tell where in its event a state lies, each of twice the last one's."""


class Window(nn.Module):
    """Take `rows` states, spread evenly over an event and its context, told where they lie.

    As many for an event of ten frames as for one of ten thousand: between two frames the states are
    mixed, and of many frames one is looked at, which knows the others through the stack.
    """

    def __init__(self, width: int, *, rows: int, context: float) -> None:
        super().__init__()
        self.rows, self.context = rows, context
        self.place = nn.Linear(2 * FREQUENCIES + 3, width)

    def forward(
        self,
        states: Float[Tensor, "B T D"],
        lengths: Int[Tensor, " B"],
        videos: Int[Tensor, " R"],
        spans: Float[Tensor, "R 2"],
    ) -> Float[Tensor, "R rows D"]:
        """Return the states of R events; beyond a video's ends, its first and last state stand.

        Args:
            states: of padded videos.
            lengths: real frames of each.
            videos: which video each event is of.
            spans: start and end of each event, in frames.
        """
        start, length = spans[:, :1], (spans[:, 1:] - spans[:, :1]).clamp(min=1e-3)
        share = (torch.arange(self.rows, device=spans.device) + 0.5) / self.rows
        share = share * (1 + 2 * self.context) - self.context  # 0 is the event's start, 1 its end
        last = lengths[videos, None] - 1
        # a frame's state stands at the frame's middle
        position = (start + share * length - 0.5).clamp(min=0).minimum(last.to(spans.dtype))
        before = position.long()
        after = (before + 1).minimum(last)
        weight = (position - before).unsqueeze(-1).to(states.dtype)
        row = videos[:, None]
        found = torch.lerp(states[row, before], states[row, after], weight)
        return found + self.place(_describe(share, length).to(states.dtype))


class MeanWindow(nn.Module):
    """The mean state of an event, as its one row (Venugopalan et al., 2015)."""

    def forward(
        self,
        states: Float[Tensor, "B T D"],
        lengths: Int[Tensor, " B"],
        videos: Int[Tensor, " R"],
        spans: Float[Tensor, "R 2"],
    ) -> Float[Tensor, "R 1 D"]:
        """Return the mean of each event's states; the arguments are those of `Window`."""
        # float64: differences of long sums
        sums = F.pad(states.double().cumsum(dim=1), (0, 0, 1, 0))  # B T+1 D
        last = lengths[videos]
        start = spans[:, 0].floor().long().clamp(min=0).minimum(last - 1)
        end = spans[:, 1].ceil().long().maximum(start + 1).minimum(last)
        found = sums[videos, end] - sums[videos, start]
        return (found / (end - start).unsqueeze(-1)).unsqueeze(1).to(states.dtype)


def _describe(share: Float[Tensor, " rows"], length: Float[Tensor, "R 1"]) -> Tensor:
    """Say where in its event each row lies, and how long the event is: R rows channels."""
    turns = share[:, None] * math.pi * 2.0 ** torch.arange(FREQUENCIES, device=share.device)
    place = torch.cat([share[:, None] - 0.5, turns.sin(), turns.cos()], dim=-1)
    place = place.expand(len(length), -1, -1)
    size = length.log().div(5).unsqueeze(1).expand(-1, len(share), -1)
    inside = ((share >= 0) & (share <= 1)).to(place.dtype)[None, :, None]
    return torch.cat([place, size, inside.expand(len(length), -1, -1)], dim=-1)
