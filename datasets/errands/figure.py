"""Drawing a person in a pose: limbs from joint angles, clothing by kind, a shadow at the feet."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8, UInt16

from vidmamba.datasets.errands.appearance import CLOTHING, Colour, Person, Thing
from vidmamba.datasets.errands.brush import Brush, Point, draw_thing, shade
from vidmamba.datasets.errands.poses import Joints, Pose

# of a body's height
THIGH, SHIN, TRUNK, UPPER_ARM, FOREARM = 0.25, 0.24, 0.31, 0.165, 0.16
HEAD, THING_SIZE = 0.088, 0.4


class Sprite(NamedTuple):
    """A picture to lay over another; (left, top) is where it starts, in pixels from the feet."""

    colours: UInt8[np.ndarray, "H W 3"]
    """Multiplied by their opacity."""
    through: UInt16[np.ndarray, "H W 3"]
    """How much of what is below shows, of 255; once for each channel, which makes pasting fast."""
    left: int
    top: int


@dataclass(frozen=True)
class _Body:
    """Where the joints are; x to the right, feet at y = 0."""

    hip: Point
    neck: Point
    head: Point
    near_leg: list[Point]
    far_leg: list[Point]
    near_arm: list[Point]
    far_arm: list[Point]


def draw_figure(
    person: Person, pose: Pose, thing: Thing | None, *, pixels: float, mirrored: bool
) -> Sprite:
    """Draw a person `pixels` high (were they standing) with what they hold, facing right.

    Args:
        person: the looks.
        pose: where the joints are; where it says that the hand holds something, `thing` is drawn.
        thing: what the person holds, if the pose holds something.
        pixels: the height.
        mirrored: draw the person facing left.
    """
    width, height = round(1.2 * pixels), round(1.42 * pixels)
    foot = 0.08 * pixels
    brush = Brush(width, height, unit=pixels, origin=(width / 2, height - foot))
    body = _place(pose)
    brush.pen.ellipse(_shadow_box(brush, body), fill=(0, 0, 0, 96))
    draw = _draw_side if pose.view == "side" else _draw_front
    draw(brush, person, body, pose)
    if pose.holding and thing is not None:
        draw_thing(brush, thing, body.near_arm[-1], THING_SIZE)
        brush.disc(_below(body.near_arm[-1]), 0.032, person.skin)
    rgba, left, top = brush.cut_out()
    left -= width // 2
    if mirrored:
        rgba, left = rgba[:, ::-1], -left - rgba.shape[1]
    colours = np.ascontiguousarray(rgba[..., :3])
    through = np.repeat(255 - rgba[..., 3:].astype(np.uint16), 3, axis=2)
    return Sprite(colours, through, left, top - round(height - foot))


def _below(hand: Point) -> Point:
    return hand[0], hand[1] - 0.06


def _shadow_box(brush: Brush, body: _Body) -> tuple[float, float, float, float]:
    x, y = brush.pixel((body.hip[0] * 0.5 + 0.02, 0.0))
    wide, high = 0.22 * brush.unit, 0.045 * brush.unit
    return x - wide, y - high, x + wide, y + high


def _chain(start: Point, *bones: tuple[float, float]) -> list[Point]:
    """Return the joints of a limb hanging from `start`: (length, angle from straight down)."""
    points = [start]
    for length, angle in bones:
        x, y = points[-1]
        points.append((x + length * math.sin(angle), y - length * math.cos(angle)))
    return points


def _place(pose: Pose) -> _Body:
    j = pose.joints
    side = pose.view == "side"
    legs = ((j.near_thigh, j.near_shin), (j.far_thigh, j.far_shin))
    hip_height = max(THIGH * math.cos(a) + SHIN * math.cos(b) for a, b in legs) + 0.02
    # crouching and bending move the hip back, so that the body stays over its feet
    hip = (-0.35 * TRUNK * math.sin(j.lean) if side else 0.0, hip_height)
    neck = hip[0] + TRUNK * math.sin(j.lean), hip_height + TRUNK * math.cos(j.lean)
    head = neck[0] + 0.03 * side + 0.02 * j.head, neck[1] + 0.115
    apart = 0.0 if side else 1.0
    mirror = 1.0 if side else -1.0
    shoulder = neck[0], neck[1] - 0.035

    def limb(near: bool, at: Point, half: float, *bones: tuple[float, float]) -> list[Point]:
        outward = 1.0 if near else mirror
        start = at[0] + apart * half * (1 if near else -1), at[1]
        return _chain(start, *((length, outward * angle) for length, angle in bones))

    return _Body(
        hip, neck, head,
        near_leg=limb(True, hip, 0.05, (THIGH, j.near_thigh), (SHIN, j.near_shin)),
        far_leg=limb(False, hip, 0.05, (THIGH, j.far_thigh), (SHIN, j.far_shin)),
        near_arm=limb(True, shoulder, 0.115, (UPPER_ARM, j.near_upper), (FOREARM, j.near_fore)),
        far_arm=limb(False, shoulder, 0.115, (UPPER_ARM, j.far_upper), (FOREARM, j.far_fore)),
    )  # fmt: skip


def _arm(brush: Brush, person: Person, arm: list[Point], light: float) -> None:
    sleeve = shade(CLOTHING[person.clothing], light)
    brush.limb(arm, 0.062 * person.girth, sleeve)
    brush.disc(arm[-1], 0.036, shade(person.skin, light))


def _leg(brush: Brush, person: Person, leg: list[Point], light: float, toes: float) -> None:
    if person.kind == "woman":
        brush.limb(leg, 0.062, shade(person.skin, 0.9 * light))
    elif person.kind == "child":
        brush.limb(leg[1:], 0.07, shade(person.skin, light))
        brush.limb(leg[:2], 0.1, shade(person.legs, light * 1.2))
    else:
        brush.limb(leg, 0.088 * person.girth, shade(person.legs, light))
    x, y = leg[-1]
    brush.limb([(x - 0.01, y + 0.0), (x + toes, y - 0.008)], 0.05, (30, 28, 30))


def _clothes(brush: Brush, person: Person, body: _Body, half: float) -> None:
    """The trunk: a shirt, or a dress down to the knees."""
    colour = CLOTHING[person.clothing]
    dark, lit = shade(colour, 0.68), shade(colour, 1.12)
    (hx, hy), (nx, ny) = body.hip, body.neck
    half *= person.girth
    hem_x, hem_y, hem = hx, hy - 0.02, half * 0.85
    if person.kind == "woman":
        knees = (body.near_leg[1][0] + body.far_leg[1][0]) / 2
        spread = abs(body.near_leg[1][0] - body.far_leg[1][0]) / 2
        hem_x, hem_y, hem = (
            knees,
            min(body.near_leg[1][1], body.far_leg[1][1]) + 0.06,
            half + spread,
        )
        hem_y = min(hem_y, hy - 0.05)
    for light, share, shift in ((dark, 1.0, 0.0), (colour, 0.84, -0.012), (lit, 0.3, -0.035)):
        top, waist = half * share, half * 0.8 * share
        brush.polygon(
            [(nx - top * 0.6 + shift, ny + 0.005), (nx - top + shift, ny - 0.05),
             (hx - waist + shift, hy + 0.06), (hem_x - hem * share + shift, hem_y),
             (hem_x + hem * share + shift, hem_y), (hx + waist + shift, hy + 0.06),
             (nx + top + shift, ny - 0.05), (nx + top * 0.6 + shift, ny + 0.005)], light,
        )  # fmt: skip


def _face(brush: Brush, person: Person, body: _Body, joints: Joints, *, front: bool) -> None:
    x, y = body.head
    look = 0.035 * joints.head if front else 0.03
    if person.kind == "woman" and not front:
        brush.limb([(x - 0.04, y), (x - 0.06, y - 0.12)], 0.13, shade(person.hair, 0.9))
    brush.limb([(x, y - 0.05), (body.neck[0], body.neck[1] - 0.01)], 0.06, shade(person.skin, 0.8))
    brush.disc((x, y), HEAD, shade(person.skin, 0.78))
    brush.disc((x - 0.008, y + 0.008), HEAD * 0.92, person.skin)
    hair = CLOTHING[person.clothing] if person.kind == "child" else person.hair  # a cap
    brush.polygon(_cap(x, y, look), hair)
    eyes = (look - 0.03, look + 0.03) if front else (look + 0.035,)
    for eye in eyes:
        brush.disc((x + eye, y + 0.0), 0.012, (30, 26, 26))
    if person.kind == "child" and not front:
        brush.limb([(x + 0.05, y + 0.03), (x + 0.12, y + 0.025)], 0.03, shade(hair, 0.8))


def _cap(x: float, y: float, look: float) -> list[Point]:
    """The outline of hair: the top of the head, further down on the side that is turned away."""
    back = math.pi + max(look, 0.0) * 14
    start = -min(look, 0.0) * -14
    angles = np.linspace(start, back, 15)
    return [(x + HEAD * 1.06 * math.cos(a), y + 0.02 + HEAD * math.sin(a)) for a in angles]


def _draw_side(brush: Brush, person: Person, body: _Body, pose: Pose) -> None:
    _arm(brush, person, body.far_arm, 0.7)
    _leg(brush, person, body.far_leg, 0.72, 0.06)
    _leg(brush, person, body.near_leg, 1.0, 0.06)
    _clothes(brush, person, body, 0.098)
    _face(brush, person, body, pose.joints, front=False)
    _satchel(brush, person, body, (body.hip[0] - 0.03, body.hip[1] + 0.0))
    _arm(brush, person, body.near_arm, 1.0)


def _draw_front(brush: Brush, person: Person, body: _Body, pose: Pose) -> None:
    _leg(brush, person, body.far_leg, 0.94, -0.02)
    _leg(brush, person, body.near_leg, 1.0, 0.02)
    if person.kind == "woman":  # long hair falls behind the neck
        x, y = body.head
        brush.limb([(x, y), (x, y - 0.1)], 0.21, shade(person.hair, 0.9))
    _clothes(brush, person, body, 0.135)
    _face(brush, person, body, pose.joints, front=True)
    _satchel(brush, person, body, (body.hip[0] + 0.14, body.hip[1] + 0.02))
    _arm(brush, person, body.far_arm, 0.94)
    _arm(brush, person, body.near_arm, 1.0)


def _satchel(brush: Brush, person: Person, body: _Body, at: Point) -> None:
    strap: Colour = shade(person.satchel, 0.7)
    brush.limb([(body.neck[0] - 0.07, body.neck[1] - 0.02), at], 0.022, strap)
    x, y = at
    brush.box(x - 0.07, y - 0.1, x + 0.07, y + 0.02, strap)
    brush.box(x - 0.06, y - 0.09, x + 0.06, y + 0.015, person.satchel)
    brush.box(x - 0.06, y - 0.035, x + 0.06, y + 0.015, shade(person.satchel, 1.25))
