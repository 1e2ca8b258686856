"""Who and what there is: people told apart by kind and clothing, things by colour and kind."""

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

Colour = tuple[int, int, int]

CLOTHING: dict[str, Colour] = {
    "red": (205, 35, 40),
    "blue": (35, 80, 200),
    "green": (30, 140, 60),
    "yellow": (240, 195, 30),
    "white": (236, 236, 232),
    "black": (38, 38, 44),
    "orange": (240, 120, 25),
    "purple": (125, 50, 165),
}
THING_COLOURS: dict[str, Colour] = {
    "red": (220, 40, 45),
    "blue": (40, 95, 225),
    "green": (40, 165, 75),
    "yellow": (250, 210, 45),
    "pink": (240, 110, 170),
}
THING_KINDS = ("box", "bag", "bottle", "book", "ball")
PERSON_KINDS = ("man", "woman", "child")

_LEGS: tuple[Colour, ...] = ((44, 52, 74), (70, 62, 54), (52, 54, 58), (92, 84, 70), (36, 40, 46))
_SKIN: tuple[Colour, ...] = ((240, 200, 170), (222, 172, 136), (176, 122, 86), (120, 78, 54))
_HAIR: tuple[Colour, ...] = (
    (40, 30, 26),
    (92, 60, 34),
    (150, 100, 50),
    (200, 168, 96),
    (70, 68, 68),
)
_SATCHEL: tuple[Colour, ...] = ((104, 72, 44), (62, 66, 70), (128, 100, 66))


@dataclass(frozen=True, kw_only=True)
class Person:
    """One person's looks; `kind` and `clothing` name them in sentences, and settle the rest."""

    kind: Literal["man", "woman", "child"]
    clothing: str
    legs: Colour
    skin: Colour
    hair: Colour
    satchel: Colour
    height: float
    """Of the frame's height, standing in the middle of the room."""
    girth: float
    """1 is slim."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One thing that can be taken."""

    kind: str
    colour: str

    @property
    def name(self) -> str:
        """As sentences call it."""
        return f"{self.colour} {self.kind}"


def draw_person_at_random(
    random: np.random.Generator, *, avoid: frozenset[tuple[str, str]]
) -> Person:
    """Return a person whose (kind, clothing) is not in `avoid`."""
    names = [(k, c) for k in PERSON_KINDS for c in CLOTHING if (k, c) not in avoid]
    kind, clothing = names[random.integers(len(names))]
    return cast(kind, clothing)


def cast(kind: str, clothing: str) -> Person:
    """Return the person who is called so: one name, one look, in every clip.

    The looks beside the clothing are drawn by the name. Would they vary from clip to clip, a few
    dozens of clips could be told apart by them, and who leaves with what learned by heart.
    """
    random = np.random.default_rng(zlib.crc32(f"{kind} in {clothing}".encode()))
    height = {"man": 0.66, "woman": 0.63, "child": 0.52}[kind] * random.uniform(0.97, 1.03)
    return Person(
        kind=kind,  # type: ignore[arg-type]  # one of PERSON_KINDS
        clothing=clothing,
        legs=_LEGS[random.integers(len(_LEGS))],
        skin=_SKIN[random.integers(len(_SKIN))],
        hair=_HAIR[random.integers(len(_HAIR))],
        satchel=_SATCHEL[random.integers(len(_SATCHEL))],
        height=float(height),
        girth=float(random.uniform(0.95, 1.15)),
    )


def draw_thing_at_random(random: np.random.Generator) -> Thing:
    """Return any of the things."""
    kind = THING_KINDS[random.integers(len(THING_KINDS))]
    colour = [*THING_COLOURS][random.integers(len(THING_COLOURS))]
    return Thing(kind=kind, colour=colour)
