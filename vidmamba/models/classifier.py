"""The video classifier: frame features in, one vector of class logits a video out."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vidmamba.models.augment import AugmentConfig
from vidmamba.models.encoder import Encoder
from vidmamba.models.heads import AttentionPool, MeanPool
from vidmamba.nn.stack import StackConfig


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """Shape of a `Classifier`."""

    stack: StackConfig = StackConfig()
    """The temporal model."""

    augment: AugmentConfig = AugmentConfig()
    """How training changes the features."""

    crop: float = 1.0
    """Least share of a video that training looks at: one stretch of it, drawn anew each time; 1 is
    all of it. For classes that show all along, not for those that one moment decides."""

    pool: Literal["attention", "mean"] = "attention"
    """How frames become one state: weighed by what they say, or alike, which overfits less."""

    attention_width: int = 64
    """Width of the layer that weighs the frames (attention)."""

    dropout: float = 0.0
    """Share of a video's state that training drops before it is named."""

    def __post_init__(self) -> None:
        if self.attention_width < 1:
            raise ValueError(f"attention_width must be at least 1, got {self.attention_width}")
        if not 0 < self.crop <= 1 or not 0 <= self.dropout < 1:
            raise ValueError(f"0 < crop <= 1 and 0 <= dropout < 1 must hold, got {self}")


class Classifier(nn.Module):
    """Encode, pool the frames, name the video."""

    def __init__(self, config: ClassifierConfig, *, num_features: int, num_classes: int) -> None:
        super().__init__()
        width = config.stack.width
        self.crop = config.crop
        self.encoder = Encoder(config.stack, config.augment, num_features=num_features)
        self.pool = (
            MeanPool() if config.pool == "mean" else AttentionPool(width, config.attention_width)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.classify = nn.Linear(width, num_classes)

    def forward(
        self, features: Float[Tensor, "B T F"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B L"]:
        """Return one logit a video and class; padding (mask False) changes nothing."""
        if self.training and self.crop < 1:
            mask = stretch_of(mask, self.crop)
        states = self.pool(self.encoder(features, mask), mask)
        return self.classify(self.dropout(states))


def stretch_of(mask: Bool[Tensor, "B T"], least: float | int) -> Bool[Tensor, "B T"]:
    """Return a mask of one stretch of each video, of `least` to all of its frames, one or more.

    Args:
        mask: True where a frame is real, from the first frame on.
        least: the smallest share of its frames; lengths and places are equally likely.
    """
    frames = mask.sum(dim=1)
    shortest = (least * frames).ceil().long().clamp(min=1)
    length = shortest + _below(frames - shortest + 1)
    start = _below(frames - length + 1)
    place = torch.arange(mask.shape[1], device=mask.device)
    inside = (place >= start[:, None]) & (place < (start + length)[:, None])
    return mask & inside


def _below(count: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
    """Draw a whole number from 0 to below each count."""
    drawn = (torch.rand(len(count), device=count.device) * count).long()
    return drawn.minimum(count - 1)  # a product may be rounded up
