"""How a body moves: poses as joint angles, and programs of key poses that actions play."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

View = Literal["side", "front"]

WALK_STEPS = 8
"""Drawn phases of one stride of two steps."""

PROGRAM_STEPS = 12
"""Drawn phases of an action that plays once."""


class Joints(NamedTuple):
    """Angles in radians from straight down; positive is forward (side view) or outward (front).

    `near` is the side towards the camera (in front view: the picture's right).
    """

    lean: float = 0.0
    near_thigh: float = 0.0
    near_shin: float = 0.0
    far_thigh: float = 0.0
    far_shin: float = 0.0
    near_upper: float = 0.05
    near_fore: float = 0.12
    far_upper: float = -0.05
    far_fore: float = 0.08
    head: float = 0.0


@dataclass(frozen=True)
class Pose:
    """A body at one moment: where the joints are and whether the near hand holds the thing."""

    view: View
    joints: Joints
    holding: bool = False


class Key(NamedTuple):
    """A pose that a program reaches at `time` in 0..1; `holding` lasts until the next key."""

    time: float
    joints: Joints
    holding: bool = False


_STAND = Joints()
_FRONT = Joints(
    near_thigh=0.1, near_shin=0.06, far_thigh=0.1, far_shin=0.06,
    near_upper=0.18, near_fore=0.1, far_upper=0.18, far_fore=0.1,
)  # fmt: skip
_REACH = Joints(
    lean=0.1, near_thigh=0.12, near_shin=0.0, far_thigh=-0.22, far_shin=-0.3,
    near_upper=2.4, near_fore=2.7, far_upper=-0.35, far_fore=-0.1,
)  # fmt: skip
_HOLD = Joints(near_upper=0.25, near_fore=1.65, far_upper=0.1, far_fore=1.3)
_CROUCH = Joints(
    lean=0.55, near_thigh=1.6, near_shin=-0.55, far_thigh=0.75, far_shin=-1.25,
    near_upper=1.1, near_fore=1.25, far_upper=0.5, far_fore=0.9, head=0.2,
)  # fmt: skip
_BEND = Joints(
    lean=0.5, near_thigh=0.05, near_shin=-0.12, far_thigh=-0.2, far_shin=-0.32,
    near_upper=0.85, near_fore=1.3, far_upper=0.7, far_fore=1.2, head=0.25,
)  # fmt: skip
_SHOW = _FRONT._replace(near_upper=0.55, near_fore=-0.9, far_upper=0.5, far_fore=-1.0)
_STUFF = _FRONT._replace(near_upper=0.95, near_fore=-0.25, far_upper=0.15, far_fore=-1.25, head=0.6)
_CROSSED = _FRONT._replace(near_upper=0.3, near_fore=-1.75, far_upper=0.3, far_fore=-1.6)
_HIPS = _FRONT._replace(near_upper=0.8, near_fore=-0.7, far_upper=0.8, far_fore=-0.7)
_PHONE = _FRONT._replace(near_upper=0.35, near_fore=-2.1, far_upper=0.25, far_fore=-1.3, head=-0.2)
_VISOR = _FRONT._replace(near_upper=1.75, near_fore=3.9, far_upper=1.45, far_fore=1.6)

PROGRAMS: dict[str, tuple[View, tuple[Key, ...]]] = {
    "take": (
        "side",
        (Key(0.0, _STAND), Key(0.25, _REACH), Key(0.45, _REACH, True), Key(0.75, _HOLD, True)),
    ),
    "put_back": (
        "side",
        (Key(0.0, _HOLD, True), Key(0.25, _CROUCH, True), Key(0.6, _CROUCH), Key(0.85, _CROUCH)),
    ),
    "put_on_table": (
        "side",
        (Key(0.0, _HOLD, True), Key(0.25, _BEND, True), Key(0.6, _BEND), Key(0.85, _BEND)),
    ),
    "pocket": (
        "front",
        (Key(0.0, _SHOW, True), Key(0.2, _SHOW, True), Key(0.45, _STUFF), Key(1.0, _STUFF)),
    ),
    "look_around": (
        "front",
        (
            Key(0.0, _VISOR._replace(head=-1.0)),
            Key(0.3, _VISOR._replace(head=-1.0)),
            Key(0.6, _VISOR._replace(head=1.0)),
            Key(1.0, _VISOR._replace(head=1.0)),
        ),
    ),
    "wait_crossed": ("front", (Key(0.0, _CROSSED), Key(0.5, _CROSSED._replace(head=0.3)))),
    "wait_hips": ("front", (Key(0.0, _HIPS), Key(0.5, _HIPS._replace(head=-0.3)))),
    "wait_phone": ("front", (Key(0.0, _PHONE), Key(0.5, _PHONE._replace(far_upper=0.3)))),
}
WAITS = ("wait_crossed", "wait_hips", "wait_phone")


def walk_pose(step: int) -> Pose:
    """Return phase `step` of `WALK_STEPS` of a walk, seen from the side."""
    phase = 2 * math.pi * step / WALK_STEPS
    swing, lift = math.sin(phase), math.cos(phase)
    joints = Joints(
        lean=0.06,
        near_thigh=0.5 * swing,
        near_shin=0.5 * swing - 0.7 * max(lift, 0.0),
        far_thigh=-0.5 * swing,
        far_shin=-0.5 * swing - 0.7 * max(-lift, 0.0),
        near_upper=-0.55 * swing,
        near_fore=-0.4 * swing + 0.35,
        far_upper=0.55 * swing,
        far_fore=0.4 * swing + 0.35,
    )
    return Pose("side", joints)


def program_pose(program: str, step: int) -> Pose:
    """Return phase `step` of `PROGRAM_STEPS` of a program, between its key poses."""
    view, keys = PROGRAMS[program]
    time = step / (PROGRAM_STEPS - 1)
    before = max((key for key in keys if key.time <= time), key=lambda key: key.time)
    after = min((key for key in keys if key.time > time), key=lambda key: key.time, default=before)
    share = (time - before.time) / (after.time - before.time) if after is not before else 0.0
    share = share * share * (3 - 2 * share)  # ease in and out
    pairs = zip(before.joints, after.joints, strict=True)
    return Pose(view, Joints(*(a + share * (b - a) for a, b in pairs)), before.holding)
