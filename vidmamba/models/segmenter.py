"""The action segmenter: frame features in, class logits for every frame out."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vidmamba.models.heads import FrameHead
from vidmamba.nn.stack import Stack, StackConfig


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """Shape of a `Segmenter`."""

    stack: StackConfig = StackConfig()
    """The temporal model."""

    feature_dropout: float = 0.3
    """Share of the feature channels that training drops, a whole video at a time."""

    feature_noise: float = 0.0
    """Deviation of the noise that training adds to features, in their own deviations."""

    def __post_init__(self) -> None:
        if self.feature_noise < 0:
            raise ValueError(f"feature_noise must not be negative, got {self.feature_noise}")
        if not 0 <= self.feature_dropout < 1:
            raise ValueError(f"feature_dropout must lie in [0, 1), got {self.feature_dropout}")


class Standardize(nn.Module):
    """Shift and scale every feature channel by statistics of the training frames."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def set_statistics(self, mean: Float[Tensor, " F"], std: Float[Tensor, " F"]) -> None:
        """Take the training frames' mean and standard deviation."""
        self.mean.copy_(mean)
        # a channel that hardly moves in training must not explode on a new video
        self.scale.copy_(1 / std.clamp(min=1e-3 * float(std.mean()) + 1e-12))

    def forward(self, features: Float[Tensor, "B T F"]) -> Float[Tensor, "B T F"]:
        """Return features of mean 0 and deviation 1 over the training frames."""
        return (features - self.mean) * self.scale


class Segmenter(nn.Module):
    """Standardise, narrow, let the stack model time, name every frame."""

    def __init__(self, config: SegmenterConfig, *, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.standardize = Standardize(num_features)
        self.feature_dropout = config.feature_dropout
        self.feature_noise = config.feature_noise
        self.embed = nn.Linear(num_features, config.stack.width)
        self.stack = Stack(config.stack)
        self.head = FrameHead(config.stack.width, num_classes)

    def forward(
        self, features: Float[Tensor, "B T F"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T C"]:
        """Return logits; those of padding (mask False) are zeros.

        Inside, the real frames of all videos lie packed one after another, and the scans restart
        at each video: what a video gets does not depend on the videos beside it.
        """
        x = self.embed(self._augment(self.standardize(features)))
        lengths = mask.sum(dim=1)
        offsets = F.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
        packed = self.head(self.stack(x[mask].unsqueeze(0), offsets=offsets)).squeeze(0)
        logits = packed.new_zeros(*mask.shape, packed.shape[-1])
        return logits.masked_scatter(mask.unsqueeze(-1), packed)

    def _augment(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        # a channel is dropped for all of a video: per-frame dropout would average out over time
        ones = x.new_ones(x.shape[0], 1, x.shape[2])
        x = x * F.dropout(ones, self.feature_dropout)
        return x + self.feature_noise * torch.randn_like(x) if self.feature_noise else x
