"""A state that is carried from event to event: what a sentence knows of those before its own."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidmamba.nn.slots import Slots


class EventContext(nn.Module):
    """Slots over the events of a video, in their order; each event looks at what it finds in them.

    Minutes are thousands of frames, but some dozens of events: who is who, and what went into whose
    pocket, is carried over as many steps as things happened. An event is written as the mean of its
    window, so that what is carried looks like what a sentence is written from anyway: a thing is
    named minutes later as it is when it is seen. The cost of an event is a constant.
    """

    def __init__(self, width: int, *, slots: int, stretch: float) -> None:
        """Build for windows of this width; the rest is as `Slots` has it."""
        super().__init__()
        self.carried = Slots(width, slots, stretch=stretch)
        self.place = nn.Parameter(0.02 * torch.randn(slots, width))

    def forward(
        self, windows: Float[Tensor, "E M D"], videos: Int[Tensor, " E"], *, number: int
    ) -> Float[Tensor, "E rows D"]:
        """Return the windows, each with the slots as rows beside its own.

        Args:
            windows: states of and around each event.
            videos: which video each event is of; a video's events lie together, in their order.
            number: of videos.
        """
        if not len(windows):
            return windows.new_zeros(0, windows.shape[1] + len(self.place), windows.shape[2])
        offsets = torch.searchsorted(videos, torch.arange(number + 1, device=videos.device))
        before = self.carried(windows.mean(dim=1).unsqueeze(0), offsets=offsets) + self.place
        return torch.cat([windows, before.to(windows.dtype)], dim=1)
