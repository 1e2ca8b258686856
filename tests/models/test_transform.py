"""The batched transform against timm's own, picture by picture through Pillow."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform

from vidmamba.models.transform import CropMode, FrameTransform

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ORDINARY = [(97, 131), (224, 224), (405, 720), (240, 320), (1, 1)]  # height, width
STRETCHED = [(37, 38), (500, 33), (2, 301)]  # by more than any video is


def _picture(height: int, width: int) -> np.ndarray:
    """Smooth colours with edges and noise: what antialiasing is for."""
    generator = np.random.default_rng(height * 1000 + width)
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / 7), np.cos(y / 5), np.sin((x + y) / 3)], axis=-1)
    noise = generator.normal(0, 12, (height, width, 3))
    blocks = 60 * ((x // 11 + y // 13) % 2)[..., None]
    return np.clip(128 + 60 * waves + blocks + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pixels_are_within_one_level_of_timms_transform(
    crop_mode: CropMode, interpolation: str
) -> None:
    for (height, width), (side, crop_pct) in itertools.product(
        ORDINARY + STRETCHED, [(224, 0.875), (96, 0.95), (50, 1.0)]
    ):
        if crop_mode == "border" and min(height, width) * side < max(height, width) / 2:
            continue  # timm asks Pillow for a picture without a row
        picture = _picture(height, width)
        theirs = create_transform(
            (3, side, side),
            is_training=False,
            interpolation=interpolation,
            mean=MEAN,
            std=STD,
            crop_pct=crop_pct,
            crop_mode=crop_mode,
        )(Image.fromarray(picture))
        ours = FrameTransform(
            image_size=side,
            crop_pct=crop_pct,
            crop_mode=crop_mode,
            interpolation=interpolation,
            mean=MEAN,
            std=STD,
        )(torch.from_numpy(picture)[None])[0]
        levels = (ours - theirs).abs() * 255 * torch.tensor(STD)[:, None, None]
        # both round to uint8 between the axes, from sums in fixed point whose last bits differ;
        # where the overshoot of a steep edge is cut off, that can grow to a few levels
        usual = (height, width) in ORDINARY
        assert levels.max() < (2.001 if usual else 5.001), (height, width, side)
        assert (levels > 1.001).float().mean() < (1e-4 if usual else 3e-3), (height, width, side)
        assert levels.mean() < (0.1 if usual else 0.3), (height, width, side)


def test_a_frame_does_not_depend_on_the_other_frames_of_its_batch() -> None:
    transform = FrameTransform(
        image_size=32,
        crop_pct=0.9,
        crop_mode="center",
        interpolation="bicubic",
        mean=MEAN,
        std=STD,
    )
    frames = torch.from_numpy(np.stack([_picture(45, 61 + 0 * k) + k for k in range(3)]))
    together = transform(frames)
    for k in range(3):
        torch.testing.assert_close(together[k], transform(frames[k : k + 1])[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("image_size", 0), ("crop_mode", "letterbox"), ("interpolation", "lanczos")],
)
def test_what_it_cannot_do_is_refused_by_name(name: str, value: object) -> None:
    options = {
        "image_size": 32,
        "crop_pct": 0.9,
        "crop_mode": "center",
        "interpolation": "bicubic",
        "mean": MEAN,
        "std": STD,
    }
    with pytest.raises(Exception, match=f"{value}") as error:
        FrameTransform(**(options | {name: value}))  # type: ignore[arg-type]
    assert name in str(error.value)
