"""Which way of decoding, and its numbers."""

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True, kw_only=True)
class DecodingConfig:
    """How a video's frames are labelled by their probabilities."""

    kind: Literal["argmax", "switch", "boundary", "grammar"] = "argmax"
    """argmax: each frame's likeliest class; switch: changes of label cost; boundary: cuts at likely
    boundaries (the model needs a boundary head); grammar: orders and lengths of training videos."""

    switch_cost: float | int = 2
    """Log-probability that a change of label costs: switch, and grammar beside its own."""

    boundary_weight: float | int = 1
    """How much of its cost a change is spared where a boundary is certain, 0 to 1, if the model
    tells boundaries: switch, grammar."""

    only_seen_transitions: bool = False
    """Whether a label may follow another only where it did in training: switch."""

    boundary_threshold: float | int = 0.5
    """Least probability of a boundary that cuts: boundary."""

    stride: int | None = None
    """Frames between places where a segment may start, before each start is moved to the best frame
    around; null for 1000 places or fewer: grammar. Time grows with the square of the places."""

    grammar_order: int = 3
    """Actions that a probability is of, its own among them: grammar."""

    grammar_weight: float | int = 1
    """Factor of the order's log-probability: grammar."""

    duration_weight: float | int = 1
    """Factor of the lengths' log-probabilities, 0 for any length: grammar."""

    count_weight: float | int = 0
    """Factor of the log-probability of how often each action is done in a video, 0 to do without:
    grammar."""

    def __post_init__(self) -> None:
        if self.kind not in (kinds := ("argmax", "switch", "boundary", "grammar")):
            raise ValueError(f"kind must be one of {', '.join(kinds)}, got {self.kind!r}")
        for name in ("switch_cost", "grammar_weight", "duration_weight", "count_weight"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be a number from 0 up, got {getattr(self, name)}")
        for name in ("boundary_weight", "boundary_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        for name in ("stride", "grammar_order"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")
        if self.only_seen_transitions and self.kind != "switch":
            raise ValueError(f"only_seen_transitions is for kind switch, got kind {self.kind}")
