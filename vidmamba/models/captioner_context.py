"""A state that is carried from event to event: what a sentence knows of those before its own."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vidmamba.kernels.selective_scan import selective_scan
from vidmamba.nn.mixer import state_dtype, step_bias


class EventContext(nn.Module):
    """A few slots that each event may write itself into; what stands there, later ones look at.

    Minutes are thousands of frames, but some dozens of events: who is who, and what went into whose
    pocket, is carried over as many steps as things happened. A slot is the selective state of Gu
    and Dao's theorem 1 (2023), `h = (1 - g) h + g x`, with one gate g a slot and event and x the
    mean of the event's window: what is carried looks like what a sentence is written from anyway,
    so that a thing is named minutes later as it is when it is seen. The cost of an event is a
    constant.
    """

    def __init__(self, width: int, *, slots: int) -> None:
        """Build for windows of this width."""
        super().__init__()
        self.write = nn.Linear(width, slots)
        self.place = nn.Parameter(0.02 * torch.randn(slots, width))
        with torch.no_grad():
            self.write.bias.copy_(step_bias(slots, 1e-2, 1.0))

    def forward(
        self, windows: Float[Tensor, "E M D"], videos: Int[Tensor, " E"]
    ) -> Float[Tensor, "E rows D"]:
        """Return the windows, each with the slots as it found them: rows of events before it.

        Args:
            windows: states of and around each event.
            videos: which video each event is of; a video's events lie together, in their order.
        """
        events, width = len(windows), windows.shape[2]
        slots = len(self.place)
        if not events:
            return windows.new_zeros(0, windows.shape[1] + slots, width)
        seen = windows.mean(dim=1)
        # a shut gate is small, not 0, which would be 0 / 0 below
        step = F.softplus(self.write(seen)).clamp(min=1e-6).repeat_interleave(width, dim=1)
        given = seen.repeat(1, slots) * -torch.expm1(-step) / step
        ones = given.new_ones(1, events, 1)
        offsets = F.pad(torch.bincount(videos).cumsum(0), (1, 0))
        rate = -given.new_ones(slots * width, 1, dtype=state_dtype(given))
        carried = selective_scan(given[None], step[None], rate, ones, ones, offsets=offsets)[0]
        before = F.pad(carried[:-1], (0, 0, 1, 0)).unflatten(1, (slots, width))
        first = F.pad(videos[1:] != videos[:-1], (1, 0), value=True)
        before = before.masked_fill(first[:, None, None], 0.0) + self.place
        return torch.cat([windows, before.to(windows.dtype)], dim=1)
