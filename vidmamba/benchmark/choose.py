"""Choose a variant and a decoding for a split, by videos that are not tested in it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from vidmamba.benchmark.evidence import Evidence
from vidmamba.benchmark.options import Option
from vidmamba.datasets.records import VideoItem
from vidmamba.metrics.videos import Compat

Labels = Mapping[str, Int[np.ndarray, " T"]]
"""The label of each frame of each video."""

ScoreBy = Callable[[Option, Evidence, int], Mapping[str, float]]
"""What an option's model and decoding score on the evidence's videos, by seed; percent."""

CHOSEN_BY = ("f1@10", "f1@25", "f1@50", "edit", "accuracy")
"""The scores whose mean an option is chosen by."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen for a split, and why."""

    split: int
    """The split that it is for."""

    option: Option
    """The chosen one."""

    scores: dict[str, float]
    """The mean score of every option that was tried, percent, by its name; none if there was but
    one."""

    scored: tuple[str, ...]
    """The videos that it was chosen by."""

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-able."""
        return {
            "split": self.split,
            "recipe": self.option.candidate.recipe,
            "variant": self.option.candidate.variant,
            "decoding": self.option.decoding,
            "scores": self.scores,
            "chosen_by_videos": [*self.scored],
        }


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """How predicted labels are scored; it knows the classes, and no video."""

    compat: Compat
    """The evaluator's conventions."""

    class_names: tuple[str, ...]
    """The name of each label."""

    background: tuple[int, ...]
    """The labels that the data declares as background."""

    evaluation_stride: int
    """Every how many stored frames the data's protocol scores one."""

    def __call__(self, labels: Labels, items: Sequence[VideoItem]) -> dict[str, float]:
        """Return the scores of some videos, percent; `sequence` is `sequence_accuracy`."""
        stride = self.compat.stride(self.evaluation_stride)
        pairs = [item.scored(labels[item.name], stride=stride) for item in items]
        background = self.compat.background(self.class_names, self.background)
        return self.compat.score(pairs, self.class_names, self.background) | {
            "sequence": sequence_accuracy(pairs, background)
        }


def sequence_accuracy(
    pairs: Sequence[tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]],
    background: Collection[int] = (),
) -> float:
    """Return how many videos' actions are all there and in order, percent.

    What stands on both sides of background is, as for Edit, two segments.

    Args:
        pairs: (predicted, true) labels of each video, one or more of them.
        background: labels that are left out.
    """
    right = [_order(predicted, background) == _order(true, background) for predicted, true in pairs]
    return 100 * sum(right) / len(right)


def _order(labels: Int[np.ndarray, " _"], background: Collection[int]) -> list[int]:
    firsts = labels[np.diff(labels, prepend=-1) != 0].tolist()
    return [label for label in firsts if label not in background]


def choose(
    split: int,
    options: Sequence[Option],
    evidence: Sequence[Evidence],
    score: ScoreBy,
    *,
    seeds: Sequence[int],
) -> Choice:
    """Return the option with the best mean over metrics, models and seeds; of equals, the first.

    Args:
        split: whose choice it is.
        options: at least one.
        evidence: of the split; models whose videos are none are left out.
        score: what an option reaches on them.
        seeds: of the runs that are looked at.
    """
    told = [one for one in evidence if one.items]

    def figure(option: Option) -> float:
        found = [one_figure(score(option, one, seed)) for one in told for seed in seeds]
        return float(np.mean(found))

    scores = {option.name: figure(option) for option in options}
    return Choice(
        split=split,
        option=max(options, key=lambda option: scores[option.name]),
        scores=scores,
        scored=tuple(sorted({item.name for one in told for item in one.items})),
    )


def best_of(choices: Sequence[Choice]) -> Choice:
    """Return the best of several recipes' choices for one split; of equals, the first."""
    found = {name: value for choice in choices for name, value in choice.scores.items()}
    return replace(max(choices, key=lambda choice: found[choice.option.name]), scores=found)


def one_figure(scores: Mapping[str, float]) -> float:
    """Return the mean of the five scores that tables have."""
    return sum(scores[name] for name in CHOSEN_BY) / len(CHOSEN_BY)
