"""What happens in one clip: who does what in which frames."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from vidmamba.datasets.errands.appearance import Person, Thing

CLASS_NAMES = (
    "background",
    "pass_by",
    "enter",
    "walk",
    "look_around",
    "take",
    "pocket",
    "put_back",
    "put_on_table",
    "wait",
    "leave_with_item",
    "leave_empty_handed",
)
MEMORY_CLASSES = ("leave_with_item", "leave_empty_handed")
OUTCOMES = ("pocket", "put_back", "put_on_table")

Outcome = Literal["pocket", "put_back", "put_on_table"]

PASSER_SPEED = 0.06
"""Frame heights that a passer-by goes in a frame."""


class Spot(NamedTuple):
    """A place to stand: x from the middle, in frame heights; depth 0 at the wall, 1 in front."""

    x: float
    depth: float


@dataclass(frozen=True, kw_only=True)
class Act:
    """What one person does in frames [start, end)."""

    label: str
    start: int
    end: int
    program: str
    """`walk`, or one of poses.PROGRAMS."""
    origin: Spot
    target: Spot
    facing: int
    """1: right, -1: left."""


@dataclass(frozen=True, kw_only=True)
class Errand:
    """One person's visit."""

    person: Person
    thing: Thing
    shelf: int
    """-1: the left one, 1: the right one."""
    door_in: int
    door_out: int
    outcome: Outcome
    acts: tuple[Act, ...]

    @property
    def start(self) -> int:
        """The first frame."""
        return self.acts[0].start

    @property
    def handled(self) -> int:
        """The first frame after the thing was seen for the last time."""
        return next(act.end for act in self.acts if act.label == self.outcome)

    @property
    def leaves(self) -> int:
        """The first frame of leaving."""
        return self.acts[-1].start

    @property
    def end(self) -> int:
        """The first frame after it."""
        return self.acts[-1].end


@dataclass(frozen=True, kw_only=True)
class Passer:
    """Someone who crosses in front of the camera in frames [start, end)."""

    person: Person
    start: int
    end: int
    facing: int

    @property
    def seen(self) -> tuple[int, int]:
        """The frames, half-open, in which they are in the picture's middle, a frame height wide."""
        middle, half = (self.start + self.end) / 2, 0.5 / PASSER_SPEED
        return round(middle - half), round(middle + half)


@dataclass(frozen=True, kw_only=True)
class Script:
    """All that happens in one clip."""

    num_frames: int
    errands: tuple[Errand, ...]
    passers: tuple[Passer, ...]


def frame_labels(script: Script) -> Int[np.ndarray, " T"]:
    """Return the label of each frame: what the errand's person does; else who passes; else 0."""
    labels = np.zeros(script.num_frames, dtype=np.int64)
    for passer in script.passers:
        labels[slice(*passer.seen)] = CLASS_NAMES.index("pass_by")
    for errand in script.errands:
        for act in errand.acts:
            labels[act.start : act.end] = CLASS_NAMES.index(act.label)
    return labels
