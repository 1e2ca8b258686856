"""Where two lists of segments agree, and where not."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from vidmamba.timeline import Segment


class Stretch(NamedTuple):
    """A time over which neither list changes."""

    start: float
    end: float
    predicted: int | None
    """Position in the predicted segments, None in a gap."""
    true_label: str | None
    agrees: bool


def stretches(
    predicted: Sequence[Segment], truth: Sequence[Segment], duration: float
) -> list[Stretch]:
    """Cut [0, duration) at every start and end of both lists, which are sorted, in seconds."""
    ends = {edge for s in (*predicted, *truth) for edge in (s.start, s.end)}
    edges = sorted({0.0, duration} | {edge for edge in ends if edge < duration})
    result = []
    p = t = 0
    for start, end in pairwise(edges):
        while p < len(predicted) and predicted[p].end <= start:
            p += 1
        while t < len(truth) and truth[t].end <= start:
            t += 1
        mine = predicted[p].label if p < len(predicted) and predicted[p].start <= start else None
        real = truth[t].label if t < len(truth) and truth[t].start <= start else None
        result.append(Stretch(start, end, None if mine is None else p, real, mine == real))
    return result


def true_labels(parts: Sequence[Stretch], num_predicted: int) -> list[str | None]:
    """For each predicted segment the true label that lasts longest in it, None for a gap."""
    lengths: list[dict[str | None, float]] = [{} for _ in range(num_predicted)]
    for part in parts:
        if part.predicted is not None:
            inside = lengths[part.predicted]
            inside[part.true_label] = inside.get(part.true_label, 0.0) + part.end - part.start
    return [max(inside, key=inside.__getitem__) if inside else None for inside in lengths]
