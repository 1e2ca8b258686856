"""Which clip goes into which part, and how its errands end."""

from typing import Literal, NamedTuple

import numpy as np

from vidmamba.datasets.errands.config import ErrandsConfig
from vidmamba.datasets.errands.script import Outcome

Part = Literal["train", "validation", "test"]

PARTS: tuple[Part, ...] = ("train", "validation", "test")


class ClipPlan(NamedTuple):
    """What is fixed of a clip before anything of it is drawn."""

    part: Part
    outcomes: tuple[Outcome, ...]
    """Of its errands, in their order."""
    gap: tuple[int, int]
    """Fewest and most frames between the last sight of the thing and leaving."""


def plan_clips(config: ErrandsConfig) -> list[ClipPlan]:
    """Return each clip's plan: in each part, as many leave with a thing as without."""
    random = np.random.default_rng([config.seed, 0xE77A])
    counts: dict[Part, int] = {
        "validation": _count(config, config.validation),
        "test": _count(config, config.test),
    }
    counts["train"] = config.videos - sum(counts.values())
    parts = [part for part in PARTS for _ in range(counts[part])]
    parts = [parts[index] for index in random.permutation(config.videos)]
    drawn = {part: _draw_outcomes(random, counts[part] * config.errands) for part in PARTS}
    return [
        ClipPlan(
            part,
            tuple(drawn[part].pop() for _ in range(config.errands)),
            config.train_gap or config.gap if part == "train" else config.gap,
        )
        for part in parts
    ]


def _draw_outcomes(random: np.random.Generator, count: int) -> list[Outcome]:
    # with and without a thing alternate; of those without, the two ways alternate
    ways: list[Outcome] = ["pocket", "put_back", "pocket", "put_on_table"]
    outcomes = [ways[index % len(ways)] for index in range(count)]
    return [outcomes[index] for index in random.permutation(count)]


def _count(config: ErrandsConfig, share: float) -> int:
    return 0 if share == 0 or config.videos < len(PARTS) else max(1, round(share * config.videos))
