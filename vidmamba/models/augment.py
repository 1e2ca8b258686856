"""Features that vary as those of unseen videos do: what training adds to them."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training changes standardised features; all in their own deviations, 0 is off."""

    channel_dropout: float = 0.3
    """Share of the channels that is dropped, for all of a video."""

    noise: float = 0.0
    """Deviation of white noise."""

    slow_noise: float = 0.0
    """Deviation of noise that drifts, a straight line from knot to knot."""

    knot_frames: int = 30
    """Frames between two knots of the slow noise."""

    offset: float = 0.0
    """Deviation of a shift that is one number a channel and video."""

    borrow: float = 0.0
    """Most of another video's features, less their mean, that is added: a share drawn between 0
    and this for each video. Noise with the structure and the duration of real features."""

    swap: float = 0.0
    """Share of a video's spans that is replaced by spans of other videos."""

    swap_frames: int = 20
    """Frames of a swapped span."""

    def __post_init__(self) -> None:
        for name in ("channel_dropout", "swap"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        for name in ("noise", "slow_noise", "offset", "borrow"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if min(self.knot_frames, self.swap_frames) < 1:
            raise ValueError(f"knot_frames and swap_frames must be at least 1, got {self}")


class Augment(nn.Module):
    """Change features in training, and nothing in evaluation."""

    def __init__(self, config: AugmentConfig) -> None:
        super().__init__()
        self.config = config

    def forward(
        self, x: Float[Tensor, "B T F"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T F"]:
        """Return changed features; what padding (mask False) holds never reaches a real frame."""
        if not self.training:
            return x
        config = self.config
        plain = x
        if config.swap:
            swapped = _spans(mask, config.swap, config.swap_frames)
            x = torch.where(swapped.unsqueeze(-1), _elsewhere(plain, mask), x)
        if config.borrow:
            real = mask.unsqueeze(-1)
            mean = (plain * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp(min=1)
            share = config.borrow * torch.rand(len(x), 1, 1, device=x.device, dtype=x.dtype)
            x = x + share * _elsewhere(plain - mean, mask)
        if config.slow_noise:
            x = x + config.slow_noise * _drift(x, config.knot_frames)
        if config.offset:
            x = x + config.offset * torch.randn_like(x[:, :1])
        # a channel is dropped for all of a video: per-frame dropout would average out over time
        x = x * F.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), config.channel_dropout)
        return x + config.noise * torch.randn_like(x) if config.noise else x


def _elsewhere(x: Float[Tensor, "B T F"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T F"]:
    """Return for each video a stretch of another of the batch, from a random frame on, around."""
    videos, frames = mask.shape
    lengths = mask.sum(dim=1).clamp(min=1)
    other = torch.arange(videos, device=x.device)
    if videos > 1:
        other = (other + torch.randint(1, videos, (videos,), device=x.device)) % videos
    length = lengths[other]
    start = (torch.rand(videos, device=x.device) * length).long()
    time = (start[:, None] + torch.arange(frames, device=x.device)) % length[:, None]
    return x[other[:, None], time]


def _spans(mask: Bool[Tensor, "B T"], share: float, length: int) -> Bool[Tensor, "B T"]:
    """Draw which frames are swapped: whole spans, their borders at random places."""
    videos, frames = mask.shape
    chosen = torch.rand(videos, frames // length + 2, device=mask.device) < share
    phase = torch.randint(length, (videos, 1), device=mask.device)
    span = (torch.arange(frames, device=mask.device) + phase) // length
    return chosen.gather(1, span)


def _drift(x: Float[Tensor, "B T F"], knot_frames: int) -> Float[Tensor, "B T F"]:
    """Noise of deviation 1 at its knots, a straight line between them."""
    videos, frames, width = x.shape
    knots = torch.randn(videos, frames // knot_frames + 2, width, device=x.device, dtype=x.dtype)
    time = torch.arange(frames, device=x.device) / knot_frames
    before = time.long()
    share = (time - before).to(x.dtype).unsqueeze(-1)
    return knots[:, before] * (1 - share) + knots[:, before + 1] * share
