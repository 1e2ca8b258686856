"""What a benchmark found: each recipe's scores by split and seed, and what they cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidmamba.benchmark.choose import Choice

Scores = dict[str, float]

METRICS = ("f1@10", "f1@25", "f1@50", "edit", "accuracy", "sequence")
"""The columns of every table, in the order of the field's, and whole orders of actions."""


@dataclass(frozen=True, kw_only=True)
class RecipeResult:
    """A row of the table."""

    name: str
    """The recipe."""

    choices: dict[int, Choice]
    """What was chosen, by split."""

    scores: dict[int, dict[int, Scores]]
    """Test scores in percent, by split and seed."""

    records: tuple[Mapping[str, Any], ...]
    """What the runs behind them wrote of themselves."""

    def of_split(self, split: int) -> Scores:
        """Return a split's mean over seeds."""
        return mean_of([*self.scores[split].values()])

    def of_seed(self, seed: int) -> Scores:
        """Return a seed's mean over splits."""
        return mean_of([by_seed[seed] for by_seed in self.scores.values()])

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds."""
        return tuple(next(iter(self.scores.values())))

    @property
    def mean(self) -> Scores:
        """The mean over splits and seeds."""
        return mean_of([self.of_seed(seed) for seed in self.seeds])

    @property
    def spread(self) -> Scores:
        """Standard deviation, over seeds, of the mean over splits; none of a single seed."""
        if len(self.seeds) < 2:
            return {}
        by_seed = [self.of_seed(seed) for seed in self.seeds]
        return {name: float(np.std([one[name] for one in by_seed], ddof=1)) for name in METRICS}

    @property
    def parameters(self) -> int:
        """Weights of the largest model chosen."""
        return max(int(record["parameters"]) for record in self.records)

    def cost(self, name: str) -> float:
        """Return the mean of a figure of the runs: train_seconds, frames_per_second."""
        return float(np.mean([record[name] for record in self.records]))

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-able."""
        return {
            "mean": self.mean,
            "spread_over_seeds": self.spread,
            "splits": {str(split): self.of_split(split) for split in self.scores},
            "scores": {
                str(split): {str(seed): scores for seed, scores in by_seed.items()}
                for split, by_seed in self.scores.items()
            },
            "choices": {str(split): choice.as_dict() for split, choice in self.choices.items()},
            "parameters": self.parameters,
            "train_seconds": self.cost("train_seconds"),
            "train_frames_per_second": self.cost("train_frames_per_second"),
            "frames_per_second": self.cost("frames_per_second"),
        }


def mean_of(rows: Sequence[Scores]) -> Scores:
    """Return the mean of each metric."""
    return {name: float(np.mean([row[name] for row in rows])) for name in METRICS}
