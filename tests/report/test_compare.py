from itertools import pairwise

import numpy as np
import pytest

from vidmamba.report.compare import stretches, true_labels
from vidmamba.timeline import Segment, labels_at


def _random(generator: np.random.Generator, duration: float) -> list[Segment]:
    edges = np.sort(generator.integers(0, int(duration), generator.integers(2, 9)))
    return [
        Segment(start=float(a), end=float(b), label="abc"[generator.integers(3)])
        for a, b in pairwise(edges)
        if a < b and generator.random() < 0.8
    ]


@pytest.mark.parametrize("seed", range(20))
def test_stretches_agree_exactly_where_the_labels_do(seed: int) -> None:
    generator = np.random.default_rng(seed)
    predicted, truth = _random(generator, 30.0), _random(generator, 30.0)
    parts = stretches(predicted, truth, 30.0)
    times = np.arange(0.5, 30.0)
    mine, real = (labels_at(s, times, "abc", default=-1) for s in (predicted, truth))
    for time, same in zip(times, mine == real, strict=True):
        (part,) = [p for p in parts if p.start <= time < p.end]
        assert part.agrees == same


@pytest.mark.parametrize("seed", range(20))
def test_the_true_label_is_the_one_with_most_seconds_inside(seed: int) -> None:
    generator = np.random.default_rng(seed)
    predicted, truth = _random(generator, 30.0), _random(generator, 30.0)
    found = true_labels(stretches(predicted, truth, 30.0), len(predicted))
    for segment, label in zip(predicted, found, strict=True):
        inside = np.arange(segment.start + 0.5, segment.end)
        counts = np.bincount(labels_at(truth, inside, "abc", default=3), minlength=4)
        assert counts["abc".index(label) if label else 3] == counts.max()
