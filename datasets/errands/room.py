"""The room that the camera looks at: doors, shelves, a table with a crate; drawn once a clip."""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from vidmamba.datasets.errands.appearance import Colour, draw_thing_at_random
from vidmamba.datasets.errands.brush import Brush, draw_thing, shade

# The room in units of the frame's height: x from the middle, y up from the bottom edge. All that
# matters lies in |x| < 0.5, so that a backbone's square centre crop of a wide frame loses nothing.
FLOOR = 0.27
"""Where the back wall meets the floor."""
DOOR, DOOR_HALF, DOOR_TOP = 0.41, 0.08, 0.93
SHELF, SHELF_HALF, SHELF_TOP = 0.22, 0.085, 0.9
BOARDS = (0.3, 0.45, 0.6, 0.75)

_WALLS: tuple[Colour, ...] = (
    (205, 200, 186), (190, 202, 204), (204, 194, 196), (196, 204, 186), (214, 206, 178),
)  # fmt: skip
_FLOORS: tuple[Colour, ...] = ((142, 116, 90), (122, 120, 118), (150, 132, 108), (108, 112, 122))
_WOODS: tuple[Colour, ...] = ((156, 112, 70), (124, 86, 56), (178, 140, 96), (116, 110, 104))
_DOORS: tuple[Colour, ...] = ((120, 84, 60), (86, 104, 120), (150, 146, 138), (98, 110, 92))


class Doors(NamedTuple):
    """Which doors stand open."""

    left: bool = False
    right: bool = False


@dataclass(frozen=True)
class _Style:
    wall: Colour
    floor: Colour
    wood: Colour
    door: Colour


def draw_room(
    random: np.random.Generator, width: int, height: int
) -> dict[Doors, UInt8[np.ndarray, "H W 3"]]:
    """Draw one room, with its doors shut and open: the same walls and things in each picture."""
    pick = random.integers
    style = _Style(
        _WALLS[pick(len(_WALLS))], _FLOORS[pick(len(_FLOORS))],
        _WOODS[pick(len(_WOODS))], _DOORS[pick(len(_DOORS))],
    )  # fmt: skip
    brush = Brush(width, height, unit=float(height), origin=(width / 2, float(height)))
    _walls(brush, style, half=width / height / 2)
    _picture(brush, random)
    for side in (-1, 1):
        _shelf(brush, style, random, side)
    _table(brush, style)
    rooms = {}
    for doors in (Doors(a, b) for a in (False, True) for b in (False, True)):
        view = Brush(width, height, unit=float(height), origin=(width / 2, float(height)))
        view.paste(brush)
        _door(view, style, -1, is_open=doors.left)
        _door(view, style, 1, is_open=doors.right)
        rooms[doors] = _lit(view.finished()[..., :3])
    return rooms


def _walls(brush: Brush, style: _Style, half: float) -> None:
    for low, high, light in ((FLOOR, 0.5, 0.95), (0.5, 0.8, 1.0), (0.8, 1.05, 1.06)):
        brush.box(-half - 0.1, low, half + 0.1, high, shade(style.wall, light))
    bands = np.linspace(0, FLOOR, 9)
    for index, (low, high) in enumerate(pairwise(bands)):
        brush.box(-half - 0.1, low, half + 0.1, high, shade(style.floor, 1.12 - 0.04 * index))
    for x in np.linspace(-1.6, 1.6, 15):  # boards run towards the camera
        ends = [brush.pixel((x * 0.62, FLOOR)), brush.pixel((x * 1.25, 0.0))]
        brush.pen.line(ends, fill=shade(style.floor, 0.82), width=2)
    brush.box(-half - 0.1, FLOOR, half + 0.1, FLOOR + 0.022, shade(style.wall, 0.68))
    brush.box(-half - 0.1, FLOOR - 0.012, half + 0.1, FLOOR, shade(style.floor, 0.62))
    for side in (-1, 1):  # a plant beyond each door, where the frame is wide enough
        x = side * 0.6
        for lean in (-0.07, -0.035, 0.0, 0.035, 0.07):
            brush.limb([(x, 0.36), (x + lean, 0.52), (x + 2 * lean, 0.6)], 0.03, (58, 118, 62))
        brush.polygon([(x - 0.035, 0.23), (x - 0.05, 0.37), (x + 0.05, 0.37), (x + 0.035, 0.23)],
                      (168, 96, 66))  # fmt: skip


def _picture(brush: Brush, random: np.random.Generator) -> None:
    """A framed picture above the table."""
    sky, hill = (tuple(int(c) for c in random.integers(90, 220, 3)) for _ in range(2))
    brush.box(-0.085, 0.66, 0.085, 0.86, (70, 56, 44))
    brush.box(-0.07, 0.675, 0.07, 0.845, (sky[0], sky[1], sky[2]))
    brush.polygon([(-0.07, 0.675), (-0.02, 0.77), (0.02, 0.71), (0.07, 0.75), (0.07, 0.675)],
                  (hill[0], hill[1], hill[2]))  # fmt: skip


def _shelf(brush: Brush, style: _Style, random: np.random.Generator, side: int) -> None:
    """A full shelf: it is deep, what is taken is replaced by the next in its row."""
    left, right = side * SHELF - SHELF_HALF, side * SHELF + SHELF_HALF
    brush.box(left - 0.012, FLOOR - 0.02, right + 0.03, SHELF_TOP - 0.02, shade(style.wall, 0.72))
    brush.box(left, FLOOR - 0.02, right, SHELF_TOP, shade(style.wood, 0.42))
    for board in BOARDS:
        for x in np.linspace(left + 0.032, right - 0.032, 3):
            size = float(random.uniform(0.055, 0.07))
            wobble = float(random.uniform(-0.004, 0.004))
            thing, place = draw_thing_at_random(random), (x + wobble, board + size / 2)
            draw_thing(brush, thing, place, size, brightness=0.72)
        brush.box(left, board - 0.022, right, board, style.wood)
        brush.box(left, board - 0.006, right, board, shade(style.wood, 1.3))
    for x in (left, right):
        brush.box(x - 0.011, FLOOR - 0.025, x + 0.011, SHELF_TOP, shade(style.wood, 0.85))
    brush.box(left - 0.011, SHELF_TOP - 0.02, right + 0.011, SHELF_TOP, shade(style.wood, 1.15))


def _table(brush: Brush, style: _Style) -> None:
    """A table, and on it a crate that hides what is put there."""
    brush.pen.ellipse(
        (*brush.pixel((-0.15, FLOOR - 0.005)), *brush.pixel((0.15, FLOOR - 0.085))),
        fill=shade(style.floor, 0.6),
    )
    for x in (-0.105, 0.085):
        brush.box(x, FLOOR - 0.05, x + 0.02, 0.44, shade(style.wood, 0.7))
    brush.box(-0.125, 0.425, 0.125, 0.46, shade(style.wood, 0.9))
    brush.polygon([(-0.125, 0.46), (-0.105, 0.49), (0.105, 0.49), (0.125, 0.46)],
                  shade(style.wood, 1.25))  # fmt: skip
    grey = (92, 98, 108)
    brush.polygon([(-0.075, 0.585), (-0.06, 0.6), (0.06, 0.6), (0.075, 0.585)], (40, 42, 46))
    brush.box(-0.075, 0.47, 0.075, 0.585, grey)
    for y in (0.5, 0.54):
        brush.box(-0.075, y, 0.075, y + 0.012, shade(grey, 0.72))
    brush.box(-0.075, 0.575, 0.075, 0.587, shade(grey, 1.3))


def _door(brush: Brush, style: _Style, side: int, *, is_open: bool) -> None:
    left, right = side * DOOR - DOOR_HALF, side * DOOR + DOOR_HALF
    frame = shade(style.door, 0.66)
    brush.box(left - 0.018, FLOOR, right + 0.018, DOOR_TOP + 0.018, frame)
    if is_open:  # a bright corridor behind
        brush.box(left, FLOOR - 0.012, right, DOOR_TOP, (250, 244, 214))
        brush.box(left, FLOOR - 0.012, right, 0.42, (226, 208, 164))
        brush.polygon([(left, FLOOR), (right, FLOOR), (right - side * 0.12, FLOOR - 0.13),
                       (left - side * 0.12, FLOOR - 0.13)], shade(style.floor, 1.42))  # fmt: skip
        lamp = (70, 225, 90)
    else:
        brush.box(left, FLOOR - 0.012, right, DOOR_TOP, style.door)
        for low, high in ((0.32, 0.56), (0.61, 0.88)):
            brush.box(left + 0.025, low, right - 0.025, high, shade(style.door, 0.82))
            brush.box(left + 0.03, low, right - 0.025, high - 0.008, shade(style.door, 1.1))
        knob = side * DOOR - side * 0.058
        brush.disc((knob, 0.58), 0.013, (222, 196, 110))
        lamp = (190, 50, 45)
    brush.disc((side * DOOR, DOOR_TOP + 0.042), 0.016, lamp)


def _lit(room: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Light from a lamp above the middle: corners are darker."""
    height, width = room.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    far = np.hypot((x - width / 2) / height, (y - 0.42 * height) / height)
    light = np.clip(1.07 - 0.42 * far**2, 0.5, 1.07)
    return np.clip(room * light[..., None], 0, 255).astype(np.uint8)
