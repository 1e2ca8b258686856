"""One look a class: colour, pattern and number, so that no class is told by its hue alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Pattern = Literal["solid", "stripes", "dots", "bars", "grid"]

# found by annealing over OKLCH: each pair, and each with the grey, is at least 14 CIEDE2000 apart
# as trichromats, protanopes and deuteranopes see them (tests/report/test_palette.py), 12 as
# tritanopes do
_FILLS = (
    "#0939c5",  # blue
    "#d59c28",  # amber
    "#75254e",  # plum
    "#a7f3df",  # mint
    "#d25452",  # coral
    "#0e5715",  # green
    "#fb9df8",  # pink
    "#247486",  # teal
    "#d1f339",  # lime
    "#8a75f1",  # violet
)
_GREY = "#a3a8af"
_PATTERNS: tuple[Pattern, ...] = ("solid", "stripes", "dots", "bars", "grid")
# what data sets call the frames in which nothing of theirs happens
_NEUTRAL = frozenset({"background", "bg", "sil", "none", "action_start", "action_end"})


@dataclass(frozen=True)
class Look:
    """How one class is drawn."""

    number: int
    """Printed in the segments and in the legend, from 1."""
    fill: str
    """#rrggbb."""
    ink: str
    """Black or white, whichever reads better on `fill`: 4.5 to 1 at least."""
    pattern: Pattern
    """Drawn over `fill` in a shade of `ink`."""


def looks(class_names: Iterable[str]) -> tuple[Look, ...]:
    """A look for each class, in order; backgrounds are grey.

    The ten colours come round again with another pattern: 50 classes differ in colour or pattern,
    all differ in number.
    """
    result: list[Look] = []
    coloured = grey = 0
    for number, name in enumerate(class_names, 1):
        if name.lower() in _NEUTRAL:
            fill, turn = _GREY, grey
            grey += 1
        else:
            fill, turn = _FILLS[coloured % len(_FILLS)], coloured // len(_FILLS)
            coloured += 1
        result.append(Look(number, fill, _ink(fill), _PATTERNS[turn % len(_PATTERNS)]))
    return tuple(result)


def mark(look: Look) -> tuple[int, int, int]:
    """RGB of the pattern's marks: a little over a third of the way from the fill to the ink."""
    ink = 0 if look.ink == "#000000" else 255
    red, green, blue = (round(value + 0.38 * (ink - value)) for value in rgb(look.fill))
    return red, green, blue


def rgb(colour: str) -> tuple[int, int, int]:
    """0..255 each, from #rrggbb."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _ink(fill: str) -> str:
    # WCAG 2.2's relative luminance; black reads better above 0.179
    linear = [
        v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
        for v in (value / 255 for value in rgb(fill))
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if luminance > 0.179 else "#ffffff"
