"""Drawing in metres of our own: shaded limbs, patches and things on a supersampled picture."""

import math

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from vidmamba.datasets.errands.appearance import THING_COLOURS, Colour, Thing

OVERSAMPLE = 3
"""Pictures are drawn this many times larger, then averaged down."""

Point = tuple[float, float]


def shade(colour: Colour, light: float) -> Colour:
    """Return the colour at `light` times its brightness; above 1 it moves towards white."""
    if light <= 1:
        r, g, b = (round(light * channel) for channel in colour)
    else:
        r, g, b = (round(255 - (255 - channel) * (2 - light)) for channel in colour)
    return r, g, b


class Brush:
    """A transparent picture with its own axes: x to the right, y up from the floor.

    Args:
        width, height: pixels of the finished picture.
        unit: pixels of the finished picture to one unit of the axes.
        origin: pixel (from the left, from the top) of the point (0, 0).
    """

    def __init__(self, width: int, height: int, *, unit: float, origin: Point) -> None:
        self.unit = unit * OVERSAMPLE
        self.origin = origin[0] * OVERSAMPLE, origin[1] * OVERSAMPLE
        self.picture = Image.new("RGBA", (width * OVERSAMPLE, height * OVERSAMPLE))
        self.pen = ImageDraw.Draw(self.picture)

    def paste(self, other: "Brush") -> None:
        """Start from what another brush of the same size has drawn."""
        self.picture.paste(other.picture)

    def pixel(self, point: Point) -> Point:
        """Where a point of the axes lies on the large picture."""
        x, y = point
        return self.origin[0] + x * self.unit, self.origin[1] - y * self.unit

    def disc(self, centre: Point, radius: float, colour: Colour, *, squash: float = 1.0) -> None:
        """Fill a circle, or an ellipse `squash` as high as it is wide."""
        x, y = self.pixel(centre)
        r = radius * self.unit
        self.pen.ellipse((x - r, y - r * squash, x + r, y + r * squash), fill=colour)

    def polygon(self, points: list[Point], colour: Colour) -> None:
        """Fill a polygon."""
        self.pen.polygon([self.pixel(point) for point in points], fill=colour)

    def box(self, left: float, bottom: float, right: float, top: float, colour: Colour) -> None:
        """Fill an upright rectangle."""
        self.polygon([(left, bottom), (left, top), (right, top), (right, bottom)], colour)

    def limb(self, points: list[Point], width: float, colour: Colour) -> None:
        """Draw a bent limb with round ends: its dark edge, its colour, a lit stripe."""
        for light, share, shift in ((0.62, 1.0, 0.0), (1.0, 0.74, 0.06), (1.16, 0.3, 0.14)):
            moved = [(x - shift * width, y + shift * width) for x, y in points]
            tone = shade(colour, light)
            size = max(1, round(width * share * self.unit))
            self.pen.line([self.pixel(p) for p in moved], fill=tone, width=size, joint="curve")
            for point in moved:
                self.disc(point, width * share / 2, tone)

    def finished(self) -> UInt8[np.ndarray, "H W 4"]:
        """Return the picture averaged down, its colours multiplied by their opacity."""
        return np.asarray(self.picture.convert("RGBa").reduce(OVERSAMPLE))

    def cut_out(self) -> tuple[UInt8[np.ndarray, "H W 4"], int, int]:
        """Return what is drawn, finished, without the empty margin, and its left and top pixel."""
        left, top, right, bottom = self.picture.getbbox() or (0, 0, 1, 1)
        left, top = left // OVERSAMPLE, top // OVERSAMPLE
        right, bottom = -(-right // OVERSAMPLE), -(-bottom // OVERSAMPLE)
        left, top, right, bottom = (edge * OVERSAMPLE for edge in (left, top, right, bottom))
        cut = self.picture.crop((left, top, right, bottom)).convert("RGBa").reduce(OVERSAMPLE)
        return np.asarray(cut), left // OVERSAMPLE, top // OVERSAMPLE


def draw_thing(
    brush: Brush, thing: Thing, centre: Point, size: float, *, brightness: float = 1.0
) -> None:
    """Draw a thing `size` high around its centre; in the shade, its brightness is below 1."""
    colour = shade(THING_COLOURS[thing.colour], brightness)
    dark, light = shade(colour, 0.6), shade(colour, 1.35)
    x, y = centre
    half = size / 2
    if thing.kind == "box":
        wide, top = half * 1.25, y + half * 0.2  # flat: in a small picture, kinds are outlines
        brush.box(x - wide, y - half * 0.75, x + wide, top, colour)
        brush.polygon(
            [(x - wide, top), (x - wide * 0.6, y + half * 0.65),
             (x + wide * 1.3, y + half * 0.65), (x + wide, top)], light,
        )  # fmt: skip
        brush.box(x - half * 0.15, y - half * 0.75, x + half * 0.15, top, dark)
    elif thing.kind == "bag":
        handle = [(x + half * 0.45 * math.cos(a), y + half * (0.3 + 0.7 * math.sin(a)))
                  for a in np.linspace(0, math.pi, 9)]  # fmt: skip
        brush.limb(handle, size * 0.12, dark)
        brush.polygon(
            [(x - half * 0.95, y - half), (x - half * 0.7, y + half * 0.4),
             (x + half * 0.7, y + half * 0.4), (x + half * 0.95, y - half)], colour,
        )  # fmt: skip
        brush.box(x - half * 0.8, y - half * 0.1, x + half * 0.8, y + half * 0.12, light)
    elif thing.kind == "bottle":
        brush.limb([(x, y - half * 0.6), (x, y + half * 0.1)], size * 0.52, colour)
        brush.limb([(x, y), (x, y + half * 0.75)], size * 0.22, colour)
        brush.box(x - size * 0.13, y + half * 0.7, x + size * 0.13, y + half, (240, 240, 240))
        brush.box(x - size * 0.24, y - half * 0.55, x + size * 0.24, y - half * 0.1, light)
    elif thing.kind == "book":
        brush.box(x - half * 0.6, y - half * 1.15, x + half * 0.6, y + half * 1.15, colour)
        brush.box(x - half * 0.6, y - half * 1.15, x - half * 0.4, y + half * 1.15, dark)
        brush.box(
            x + half * 0.45, y - half * 1.05, x + half * 0.6, y + half * 1.05, (244, 240, 226)
        )
        brush.box(x - half * 0.25, y + half * 0.3, x + half * 0.35, y + half * 0.75, light)
    else:
        brush.disc(centre, half, dark)
        brush.disc((x - half * 0.1, y + half * 0.1), half * 0.85, colour)
        brush.disc((x - half * 0.35, y + half * 0.38), half * 0.25, light)
