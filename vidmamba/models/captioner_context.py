"""A state that is carried from event to event: what a sentence knows of those before its own."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidmamba.nn.stack import Stack, StackConfig


class EventContext(nn.Module):
    """A causal Mamba over the events of a video, one step an event; its state joins their windows.

    Minutes are thousands of frames, but some dozens of events: who is who, and what went into whose
    pocket, is carried over as many steps as things happened. An event comes in as the mean of its
    window and as the words that it mentions, so that names go in as names. The cost of an event is
    a constant.
    """

    def __init__(self, width: int, *, vocabulary: int, blocks: int, dropout: float) -> None:
        """Build for windows of this width and so many words; `blocks` is the Mamba's depth."""
        super().__init__()
        self.seen = nn.Linear(width, width)
        self.named = nn.Linear(vocabulary, width, bias=False)
        self.stack = Stack(
            StackConfig(width=width, depth=blocks, direction="causal", dropout=dropout)
        )
        self.carried = nn.Linear(width, width)

    def forward(
        self,
        windows: Float[Tensor, "E M D"],
        mentions: Float[Tensor, "E V"],
        videos: Int[Tensor, " E"],
    ) -> Float[Tensor, "E rows D"]:
        """Return the windows, each with one more row: what is known by the end of its event.

        Args:
            windows: states of and around each event.
            mentions: logits of the words that its sentence mentions.
            videos: which video each event is of; a video's events lie together, in their order.
        """
        if not len(windows):
            return torch.cat([windows, windows[:, :1]], dim=1)
        events = self.seen(windows.mean(dim=1)) + self.named(mentions.sigmoid())
        counts = torch.bincount(videos)
        offsets = nn.functional.pad(counts.cumsum(0), (1, 0)).to(torch.int32)
        carried = self.carried(self.stack(events.unsqueeze(0), offsets=offsets)[0])
        return torch.cat([windows, carried.unsqueeze(1)], dim=1)
