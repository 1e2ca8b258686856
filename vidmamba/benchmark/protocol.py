"""How a benchmark is run: which splits and seeds, how choices are made, how scores are counted."""

from dataclasses import dataclass
from typing import Literal

from vidmamba.metrics.videos import CompatName

ChooseBy = Literal["validation", "other_splits", "nested"]

EXPLAINED: dict[ChooseBy, str] = {
    "validation": "a part cut from the split's own training videos",
    "other_splits": (
        "the test videos of the other splits, as their own models label them; this split's test "
        "videos are never scored for it, but those models were trained on them"
    ),
    "nested": (
        "the test videos of the other splits, as models label them that were trained without this "
        "split's test videos"
    ),
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Splits, seeds, and how the variant and the decoding of each split are chosen."""

    splits: tuple[int, ...] = (1,)
    """Numbers of the splits; every video is tested once if they partition the data."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Each fixes the weights and the order of the videos of one run a split."""

    choose_by: ChooseBy = "validation"
    """validation: a part cut from the training videos (data.validation), which the model then never
    trains on. other_splits: for split k, the mean score of the other splits' models on their test
    videos; no extra training. nested: the same with models trained without split k's test videos,
    so that not even a label of theirs plays a part; K - 1 more runs a split and candidate."""

    choose_seeds: int | None = None
    """Choose by this many of the seeds, the first ones; null for all."""

    compat: CompatName = "lea"
    """The published evaluator whose conventions the scores follow."""

    published: str | None = None
    """Published rows shown beside: 50salads_mid or gtea; null for none."""

    def __post_init__(self) -> None:
        for name in ("splits", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"protocol.{name} must be different numbers, got {[*values]}")
        if self.choose_seeds is not None and not 1 <= self.choose_seeds <= len(self.seeds):
            got = f"{self.choose_seeds} of {len(self.seeds)}"
            raise ValueError(f"protocol.choose_seeds must be 1 or more of the seeds, got {got}")
        if self.choose_by != "validation" and len(self.splits) < 2:
            raise ValueError(
                f"protocol.choose_by {self.choose_by} needs two splits or more, got "
                f"{[*self.splits]}; use validation"
            )

    @property
    def choosing_seeds(self) -> tuple[int, ...]:
        """The seeds whose runs choices are made by."""
        return self.seeds[: self.choose_seeds]
