"""uint8 frames to the normalised square a backbone was trained on: timm's evaluation transform."""

import math
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

CropMode = Literal["center", "squash", "border"]


class FrameTransform(nn.Module):
    """Resize with antialiasing, crop to a square, normalise.

    Computes what ``timm.data.create_transform(..., is_training=False)`` computes on PIL images, on
    whole batches of frames. The resize works on uint8, like Pillow's, and differs from it by under
    0.1 of 255 levels in the mean; by more than one level in one value of ten thousand at most
    (``tests/models/test_transform.py``).

    Args:
        image_size: Side of the square, in pixels.
        crop_pct: Share of the resized picture's side that the square keeps.
        crop_mode: ``center`` scales the short side and cuts the long one off, ``squash`` scales
            both sides to the square, ``border`` scales the long side and fills with the mean.
        interpolation: ``bilinear`` or ``bicubic``.
        mean: The channels' means, of pixels in [0, 1].
        std: The channels' standard deviations, of pixels in [0, 1].
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        *,
        image_size: int,
        crop_pct: float,
        crop_mode: CropMode,
        interpolation: str,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        super().__init__()
        if image_size < 1:
            raise ValueError(f"image_size must be at least 1, got {image_size}")
        if interpolation not in {"bilinear", "bicubic"}:
            raise ValueError(f"interpolation must be bilinear or bicubic, got {interpolation!r}")
        if crop_mode not in {"center", "squash", "border"}:
            raise ValueError(f"crop_mode must be center, squash or border, got {crop_mode!r}")
        self.image_size = image_size
        self.crop_pct = crop_pct
        self.crop_mode = crop_mode
        self.interpolation = v2.InterpolationMode(interpolation)
        self.mean, self.std = tuple(mean), tuple(std)
        # (x / 255 - mean) / std as one multiplication and one addition
        deviation = torch.tensor(self.std, dtype=torch.float64)
        scale = 1 / (255 * deviation)
        shift = -torch.tensor(self.mean, dtype=torch.float64) / deviation
        self.register_buffer("scale", scale.float()[:, None, None], persistent=False)
        self.register_buffer("shift", shift.float()[:, None, None], persistent=False)

    @property
    def identity(self) -> dict[str, Any]:
        """What the transform does, in JSON's types: a part of the features' key."""
        return {
            "image_size": self.image_size,
            "crop_pct": self.crop_pct,
            "crop_mode": self.crop_mode,
            "interpolation": self.interpolation.value,
            "mean": [*self.mean],
            "std": [*self.std],
        }

    def forward(self, frames: UInt8[Tensor, "T H W 3"]) -> Float[Tensor, "T 3 S S"]:
        """Transform RGB frames; the result is channels-last in memory."""
        if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise ValueError(
                f"frames must be uint8 [T, H, W, 3], got {frames.dtype} {[*frames.shape]}"
            )
        pictures = frames.permute(0, 3, 1, 2)  # T 3 H W, still channels-last in memory
        pictures = F.resize(
            pictures, self._resized(*pictures.shape[-2:]), self.interpolation, antialias=True
        )
        if self.crop_mode == "border":
            pictures = self._pad(pictures)
        side = self.image_size
        # copied: the crop is a view whose strides cost the first convolution more than the copy
        pictures = F.center_crop(pictures, [side, side]).float()
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        return torch.addcmul(self.shift, pictures, self.scale)

    def _resized(self, height: int, width: int) -> list[int]:
        """Height and width before the crop, rounded as timm rounds them."""
        side = math.floor(self.image_size / self.crop_pct)
        if self.crop_mode == "squash":
            return [side, side]
        if self.crop_mode == "border":
            ratio = max(height, width) / side
            return [round(height / ratio), round(width / ratio)]
        if height <= width:
            return [side, int(side * width / height)]
        return [int(side * height / width), side]

    def _pad(self, pictures: Tensor) -> Tensor:
        missing = [max(self.image_size - size, 0) for size in pictures.shape[-2:]]
        top, left = (size // 2 for size in missing)
        bottom, right = missing[0] - top, missing[1] - left
        fill = [round(255 * value) for value in self.mean]
        return F.pad(pictures, [left, top, right, bottom], fill=fill)
