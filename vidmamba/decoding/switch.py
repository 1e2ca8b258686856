"""Viterbi over frames with a constant cost a change of label."""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from vidmamba.decoding.arcs import Arcs
from vidmamba.decoding.checks import boundary_costs, checked_log_probabilities


def decode_switch(
    log_probabilities: Float[np.ndarray, "T C"],
    *,
    cost: float | int,
    allowed: Bool[np.ndarray, "C C"] | None = None,
    boundaries: Float[np.ndarray, " T"] | None = None,
) -> Int64[np.ndarray, " T"]:
    """Return the labels with the highest sum of log-probabilities less the cost of their changes.

    In time O(T C) where every change is allowed, O(T (C + changes allowed)) elsewhere. Of equally
    good labels a path keeps its own as long as it can.

    Args:
        log_probabilities: of each class at each frame.
        cost: of a change, from 0 (each frame's likeliest class) up.
        allowed: row a, column b: whether b may follow a. Staying is always allowed.
        boundaries: probability that a segment starts at a frame; a change costs 1 less it times
            `cost` there.

    Raises:
        ValueError: as `checked_log_probabilities` and `boundary_costs`.
    """
    emissions = checked_log_probabilities(log_probabilities)
    costs = boundary_costs(cost, len(emissions), boundaries).tolist()
    free = allowed is None or bool((allowed | np.eye(len(allowed), dtype=bool)).all())
    changes = _AnyChange() if allowed is None or free else _arcs(allowed)
    scores = np.empty_like(emissions)
    changed = np.zeros(emissions.shape, dtype=bool)
    scores[0] = emissions[0]
    for t in range(1, len(emissions)):
        before = scores[t - 1]
        by_change = changes.best(before) - costs[t]
        np.less(before, by_change, out=changed[t])
        np.maximum(before, by_change, out=scores[t])
        scores[t] += emissions[t]
    return _trace(scores, changed, changes)


class _AnyChange:
    """From the best of all; where that is the class itself, staying is as good and counts."""

    def best(self, scores: Float64[np.ndarray, " C"]) -> np.float64:
        return scores.max()

    def origin(self, scores: Float64[np.ndarray, " C"], state: int) -> int:
        return int(scores.argmax())


def _arcs(allowed: Bool[np.ndarray, "C C"]) -> Arcs:
    sources, targets = np.nonzero(allowed & ~np.eye(len(allowed), dtype=bool))
    return Arcs(sources, targets, np.zeros(len(sources)), len(allowed))


def _trace(
    scores: Float64[np.ndarray, "T C"],
    changed: Bool[np.ndarray, "T C"],
    changes: "_AnyChange | Arcs",
) -> Int64[np.ndarray, " T"]:
    labels = np.empty(len(scores), dtype=np.int64)
    label = int(scores[-1].argmax())
    for t in range(len(scores) - 1, 0, -1):
        labels[t] = label
        if changed[t, label]:
            label = changes.origin(scores[t - 1], label)
    labels[0] = label
    return labels
