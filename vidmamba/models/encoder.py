"""What every head reads: features standardised, narrowed, and one state a frame made of them."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vidmamba.models.augment import Augment, AugmentConfig
from vidmamba.nn.packing import pack, unpack
from vidmamba.nn.stack import Stack, StackConfig


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


FAINT = 0.1
"""Added to a channel's deviation in a video before it divides: where little moves, noise would."""


def standardize_videos(
    x: Float[Tensor, "B T F"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T F"]:
    """Return each video's channels less their mean in it, over their deviation there.

    Padding (mask False) counts for nothing and stays zero. What a room, a camera or a person adds
    to all of a video goes, and so does how large the features of unseen videos are.
    """
    real = mask.unsqueeze(-1)
    frames = real.sum(dim=1, keepdim=True).clamp(min=1)
    x = torch.where(real, x - (x * real).sum(dim=1, keepdim=True) / frames, 0.0)
    return x / ((x.square().sum(dim=1, keepdim=True) / frames).sqrt() + FAINT)


class Encoder(nn.Module):
    """Standardise, change (in training), narrow, and let the stack model time.

    Inside, the real frames of all videos lie packed one after another, and whatever moves along
    time restarts at each video: what a video gets does not depend on the videos beside it.
    """

    def __init__(
        self,
        stack: StackConfig,
        augment: AugmentConfig,
        *,
        num_features: int,
        each_video: bool = False,
    ) -> None:
        super().__init__()
        self.each_video = each_video
        self.standardize = Standardize(num_features)
        self.augment = Augment(augment)
        self.embed = nn.Linear(num_features, stack.width)
        self.stack = Stack(stack)

    def forward(
        self, features: Float[Tensor, "B T F"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T D"]:
        """Return one state a frame; those of padding (mask False) are zeros."""
        # filled: whatever padding holds, no other video may borrow it
        x = self.standardize(features).masked_fill(~mask.unsqueeze(-1), 0.0)
        if self.each_video:
            x = standardize_videos(x, mask)
        packed, offsets = pack(self.embed(self.augment(x, mask)), mask)
        return unpack(self.stack(packed, offsets=offsets), mask)
