"""From a script to what stands where in a frame."""

from typing import NamedTuple

from vidmamba.datasets.errands.appearance import Person, Thing
from vidmamba.datasets.errands.grammar import SPEED
from vidmamba.datasets.errands.poses import (
    PROGRAM_STEPS,
    WALK_STEPS,
    Pose,
    program_pose,
    walk_pose,
)
from vidmamba.datasets.errands.room import DOOR, DOOR_HALF, FLOOR, Doors
from vidmamba.datasets.errands.script import PASSER_SPEED, Act, Errand, Passer, Script, Spot

STRIDE = 0.36
"""Frame heights that two steps of a grown-up carry."""
_PERIODS = {"look_around": 16, "wait": 28}
_SCALES = 4
"""Figures are drawn in this many sizes between the wall and the front."""


class Placed(NamedTuple):
    """A figure in a frame: feet at (x, y), in frame heights from the middle of the bottom edge."""

    person: Person
    pose: Pose
    thing: Thing | None
    mirrored: bool
    height: float
    """Of the frame's height."""
    x: float
    y: float
    left: float = -2.0
    """Hidden further left than this, by the wall beside a door."""
    right: float = 2.0


def doors_at(script: Script, frame: int) -> Doors:
    """Return which doors are open: those that people come and go by, while they do."""
    sides = set()
    for errand in script.errands:
        first, last = errand.acts[0], errand.acts[-1]
        sides |= {errand.door_in} if first.start <= frame < first.end else set()
        sides |= {errand.door_out} if last.start <= frame < last.end else set()
    return Doors(-1 in sides, 1 in sides)


def figures_at(script: Script, frame: int) -> list[Placed]:
    """Return the figures of a frame, those further away first."""
    placed = []
    for errand in script.errands:
        for act in errand.acts:
            if act.start <= frame < act.end:
                placed.append(_place_visitor(errand, act, frame))
    placed += [_place_passer(p, frame) for p in script.passers if p.start <= frame < p.end]
    return placed


def _place_visitor(errand: Errand, act: Act, frame: int) -> Placed:
    share = (frame - act.start + 0.5) / (act.end - act.start)
    spot = _between(act, share)
    near = round(spot.depth * (_SCALES - 1)) / (_SCALES - 1)
    wall = DOOR + DOOR_HALF
    side = {"enter": errand.door_in}.get(act.label, errand.door_out)
    at_door = act in (errand.acts[0], errand.acts[-1])
    return Placed(
        person=errand.person,
        pose=_pose(act, frame, share),
        thing=errand.thing,
        mirrored=act.facing < 0,
        height=errand.person.height * (0.88 + 0.12 * near),
        x=spot.x,
        y=FLOOR - 0.015 - 0.2 * spot.depth,
        left=-wall if at_door and side < 0 else -2.0,
        right=wall if at_door and side > 0 else 2.0,
    )


def _between(act: Act, share: float) -> Spot:
    (x0, depth0), (x1, depth1) = act.origin, act.target
    x = x0 + share * (x1 - x0)
    # through a door one walks along the wall, and the way to the front lies in the room
    moved = {"enter": 1.6 * share - 0.6}.get(act.label, 1.6 * share if depth1 == 0 else share)
    return Spot(x, depth0 + min(max(moved, 0.0), 1.0) * (depth1 - depth0))


def _pose(act: Act, frame: int, share: float) -> Pose:
    if act.program == "walk":
        way = share * max(abs(act.target.x - act.origin.x), SPEED * (act.end - act.start) / 2)
        return walk_pose(int(way / STRIDE * WALK_STEPS) % WALK_STEPS)
    period = _PERIODS.get(act.label)
    if period is None:
        return program_pose(act.program, int(share * PROGRAM_STEPS))
    phase = (frame - act.start) % (2 * period) / period  # there and back
    there = phase if phase < 1 else 2 - phase
    return program_pose(act.program, min(int(there * PROGRAM_STEPS), PROGRAM_STEPS - 1))


def _place_passer(passer: Passer, frame: int) -> Placed:
    frames = passer.end - passer.start
    way = PASSER_SPEED * (frame - passer.start + 0.5 - frames / 2)
    return Placed(
        person=passer.person,
        pose=walk_pose(int((frame - passer.start) * PASSER_SPEED / 0.5 * WALK_STEPS) % WALK_STEPS),
        thing=None,
        mirrored=passer.facing < 0,
        height=passer.person.height * 1.4,
        x=passer.facing * way,
        y=-0.3,
    )
