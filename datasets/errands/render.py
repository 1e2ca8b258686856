"""From a script to pixels: the room, its people, the drifting light, the sensor's noise."""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Int16, UInt8, UInt16

from vidmamba.datasets.errands.config import ErrandsConfig
from vidmamba.datasets.errands.figure import Sprite, draw_figure
from vidmamba.datasets.errands.grammar import stream
from vidmamba.datasets.errands.room import draw_room
from vidmamba.datasets.errands.script import Script
from vidmamba.datasets.errands.staging import Placed, doors_at, figures_at

_NOISE_FRAMES = 8
_NOISE_MARGIN = 32


class _Light(NamedTuple):
    """Two slow waves for each channel, mostly in step."""

    swing: np.ndarray
    period: np.ndarray
    phase: np.ndarray

    def gains(self, frame: int) -> np.ndarray:
        """Return the gain of each channel, in 128ths: white at twice its light fits 16 bits."""
        waves = np.sin(2 * np.pi * frame / self.period + self.phase)
        return np.round(128 * (1 + (self.swing * waves).sum(axis=0))).astype(np.uint16)


def render(
    config: ErrandsConfig, clip: int, script: Script
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Yield the RGB frames of a clip."""
    width, height = config.size
    room = int(stream(config, clip, "room").integers(config.rooms))
    views = draw_room(np.random.default_rng([config.seed, room]), width, height)
    light = _draw_light(config, clip)
    noise = _noise_pool(config.seed, width, height, config.noise)
    shifts = stream(config, clip, "noise")
    sprites = lru_cache(maxsize=512)(draw_figure)
    for frame in range(script.num_frames):
        picture = views[doors_at(script, frame)].copy()
        for placed in figures_at(script, frame):
            sprite = sprites(
                placed.person,
                placed.pose,
                placed.thing if placed.pose.holding else None,
                pixels=placed.height * height,
                mirrored=placed.mirrored,
            )
            _paste(picture, sprite, placed)
        which, down, right = shifts.integers((_NOISE_FRAMES, _NOISE_MARGIN, _NOISE_MARGIN))
        grain = noise[which, down : down + height, right : right + width]
        yield _expose(picture, light.gains(frame), grain)


def _expose(
    picture: UInt8[np.ndarray, "H W 3"],
    gains: UInt16[np.ndarray, " 3"],
    grain: Int16[np.ndarray, "H W 3"],
) -> UInt8[np.ndarray, "H W 3"]:
    height, width, _ = picture.shape
    # whole rows at a time: NumPy is slow where the last axis has only three entries
    lit = picture.reshape(height, 3 * width) * np.tile(gains, width)
    lit >>= 7
    levels = lit.view(np.int16).reshape(height, width, 3)
    levels += grain
    return np.clip(levels, 0, 255, out=levels).astype(np.uint8)


def _paste(picture: UInt8[np.ndarray, "H W 3"], sprite: Sprite, placed: Placed) -> None:
    """Lay a sprite over the picture, in place, cut at the frame's edges and at walls."""
    height, width = picture.shape[:2]
    left = round(width / 2 + placed.x * height) + sprite.left
    top = round((1 - placed.y) * height) + sprite.top
    first = max(left, 0, round(width / 2 + placed.left * height))
    last = min(left + sprite.colours.shape[1], width, round(width / 2 + placed.right * height))
    high, low = max(top, 0), min(top + sprite.colours.shape[0], height)
    if first >= last or high >= low:
        return
    inside = slice(high - top, low - top), slice(first - left, last - left)
    under = picture[high:low, first:last]
    # >> 8, not / 255: faster, and the sum stays within 255
    seen = (under * sprite.through[inside]) >> 8
    under[:] = sprite.colours[inside] + seen.astype(np.uint8)


def _draw_light(config: ErrandsConfig, clip: int) -> _Light:
    random = stream(config, clip, "light")
    common = random.uniform(0.4, 1.0, (2, 1)) * config.light * 0.5
    swing = common * random.uniform(0.85, 1.15, (2, 3))
    period = random.uniform((240.0, 60.0), (600.0, 140.0))[:, None]
    return _Light(swing, period, random.uniform(0, 2 * np.pi, (2, 1)))


@lru_cache(maxsize=2)
def _noise_pool(
    seed: int, width: int, height: int, deviation: float
) -> Int16[np.ndarray, "N H W 3"]:
    """Return frames of noise larger than the picture: each picture gets a cut of one of them."""
    shape = (_NOISE_FRAMES, height + _NOISE_MARGIN, width + _NOISE_MARGIN)
    random = np.random.default_rng([seed, 0xC0FFEE])
    grey = random.normal(0.0, deviation, (*shape, 1))
    colour = random.normal(0.0, 0.5 * deviation, (*shape, 3))
    return np.round(grey + colour).astype(np.int16)
