"""The grammar of an errand: enter, look around, take, deal with the thing, wait long, leave.

Whether someone leaves with the thing shows only while they deal with it: they pocket it, or put it
back, or put it on the table, in the same place and in the same time. All that comes after is drawn
from random streams of its own, so that the pictures of the three cases are the same pictures.
"""

import zlib

import numpy as np

from vidmamba.datasets.errands.appearance import draw_person_at_random, draw_thing_at_random
from vidmamba.datasets.errands.config import ErrandsConfig
from vidmamba.datasets.errands.poses import WAITS
from vidmamba.datasets.errands.script import (
    PASSER_SPEED,
    Act,
    Errand,
    Outcome,
    Passer,
    Script,
    Spot,
)

STANCE = 0.12
"""Where one stands to reach the shelf on one side and the table on the other; x as in room.py."""
HIDDEN = 0.62
"""Where one is out of sight behind the wall beside a door."""
SPEED = 0.026
"""Of the frame's height, a frame."""
FEWEST_FRAMES = 8
"""No act is shorter."""


def stream(config: ErrandsConfig, clip: int, *names: str | int) -> np.random.Generator:
    """Return the random stream of a name: what one stream gives never moves another."""
    words = [zlib.crc32(str(name).encode()) for name in names]
    return np.random.default_rng([config.seed, clip, *words])


def write_script(
    config: ErrandsConfig, clip: int, outcomes: tuple[Outcome, ...], gap: tuple[int, int]
) -> Script:
    """Lay out clip number `clip`: one errand for each of the outcomes, with pauses between.

    Args:
        config: the dials.
        clip: fixes, with the seed, all that is drawn.
        outcomes: how each errand ends; it moves nothing else.
        gap: fewest and most frames from the end of the handling to leaving.
    """
    random = stream(config, clip, "pauses")
    errands: list[Errand] = []
    taken: set[tuple[str, str]] = set()
    clock = _pause(config, random)
    for number, outcome in enumerate(outcomes):
        errand = _write_errand(config, clip, number, outcome, gap, clock, frozenset(taken))
        errands.append(errand)
        taken.add((errand.person.kind, errand.person.clothing))
        clock = errand.end + _pause(config, random)
    passers = _write_passers(config, clip, tuple(errands), clock, frozenset(taken))
    return Script(num_frames=clock, errands=tuple(errands), passers=passers)


def _pause(config: ErrandsConfig, random: np.random.Generator) -> int:
    """Frames of an empty room, often with time for a passer-by."""
    passes = config.passers_by > 0 and random.random() < 0.5
    return int(random.integers(8, 18)) + (_crossing_frames(config) if passes else 0)


class _Walker:
    """Adds acts one after the other, from where the person is."""

    def __init__(self, clock: int, spot: Spot) -> None:
        self.clock = clock
        self.spot = spot
        self.acts: list[Act] = []

    def stay(self, label: str, frames: int, *, facing: int, program: str | None = None) -> None:
        self._add(label, frames, program or label, self.spot, facing)

    def go(self, label: str, target: Spot) -> None:
        facing = 1 if target.x >= self.spot.x else -1
        self._add(label, walk_frames(self.spot, target), "walk", target, facing)

    def _add(self, label: str, frames: int, program: str, target: Spot, facing: int) -> None:
        self.acts.append(
            Act(
                label=label,
                start=self.clock,
                end=self.clock + frames,
                program=program,
                origin=self.spot,
                target=target,
                facing=facing,
            )
        )
        self.clock += frames
        self.spot = target


def walk_frames(origin: Spot, target: Spot) -> int:
    """Return how long a walk takes."""
    return max(FEWEST_FRAMES, round(abs(target.x - origin.x) / SPEED))


def _write_errand(
    config: ErrandsConfig,
    clip: int,
    number: int,
    outcome: Outcome,
    gap: tuple[int, int],
    clock: int,
    taken: frozenset[tuple[str, str]],
) -> Errand:
    who = stream(config, clip, number, "who")
    person, thing = draw_person_at_random(who, avoid=taken), draw_thing_at_random(who)
    shelf, door_in, door_out = (int(side) for side in who.choice((-1, 1), 3))
    times = stream(config, clip, number, "times")
    frames = [int(count) for count in times.integers(14, 21, 3)]
    walker = _Walker(clock, Spot(door_in * HIDDEN, 0.0))
    walker.go("enter", Spot(door_in * 0.28, float(times.uniform(0.6, 0.9))))
    if times.random() < 0.5:
        walker.stay("look_around", frames[0], facing=1)
    walker.go("walk", Spot(shelf * STANCE, 0.4))
    walker.stay("take", frames[1], facing=shelf)
    walker.stay(outcome, frames[2], facing=-shelf if outcome == "put_on_table" else shelf)
    later = stream(config, clip, number, "gap")
    _spend(walker, later, int(later.integers(gap[0], gap[1] + 1)))
    leaving = "leave_with_item" if outcome == "pocket" else "leave_empty_handed"
    walker.go(leaving, Spot(door_out * HIDDEN, 0.0))
    return Errand(
        person=person,
        thing=thing,
        shelf=shelf,
        door_in=door_in,
        door_out=door_out,
        outcome=outcome,
        acts=tuple(walker.acts),
    )


def _spend(walker: _Walker, random: np.random.Generator, left: int) -> None:
    """Pass `left` frames: go somewhere, then wait, look around and stroll by turns."""
    wait = WAITS[random.integers(len(WAITS))]
    last = ""
    while left > 0:
        target = Spot(float(random.uniform(-0.3, 0.3)), float(random.uniform(0.7, 1.0)))
        steps = walk_frames(walker.spot, target)
        choices = [name for name in ("walk", "wait", "look_around") if name != last]
        label = choices[random.integers(len(choices))] if last else "walk"
        frames = int(random.integers(*((24, 48) if label == "wait" else (16, 26))))
        if label == "walk" and (
            steps + FEWEST_FRAMES > left or abs(target.x - walker.spot.x) < 0.1
        ):
            label = "wait" if last != "wait" else "look_around"
        frames = steps if label == "walk" else frames
        if left - frames < FEWEST_FRAMES and label != "walk":
            frames = left
        if label == "walk":
            walker.go("walk", target)
        else:
            walker.stay(label, frames, facing=1, program=wait if label == "wait" else None)
        left -= frames
        last = label


def _write_passers(
    config: ErrandsConfig,
    clip: int,
    errands: tuple[Errand, ...],
    num_frames: int,
    taken: frozenset[tuple[str, str]],
) -> tuple[Passer, ...]:
    """Let people pass while the room is empty or someone waits, never during decisive acts."""
    if config.passers_by == 0:
        return ()
    random = stream(config, clip, "passers")
    crossing = _crossing_frames(config)
    edges = [0, *(edge for e in errands for edge in (e.start, e.handled, e.leaves, e.end))]
    passers: list[Passer] = []
    # from `start` to `stop`: by turns the room is empty, and someone spends the gap in it
    for number, (start, stop) in enumerate(
        zip(edges[::2], [*edges[1::2], num_frames], strict=True)
    ):
        # a long pause was made for a passer-by; who waits sees one by chance
        clock = start + (int(random.exponential(100 / config.passers_by)) if number % 2 else 0)
        while clock + crossing <= stop:
            person = draw_person_at_random(random, avoid=taken)
            facing = int(random.choice((-1, 1)))
            passers.append(Passer(person=person, start=clock, end=clock + crossing, facing=facing))
            clock += crossing + int(random.exponential(100 / config.passers_by))
    return tuple(passers)


def _crossing_frames(config: ErrandsConfig) -> int:
    """Return how long it takes to cross the frame, from out of sight to out of sight."""
    return round((config.size[0] / config.size[1] + 0.6) / PASSER_SPEED)
