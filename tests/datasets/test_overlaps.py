import numpy as np
import pytest

from vidmamba.datasets.overlaps import flatten_segments
from vidmamba.timeline import Segment


def _segments(*spans: tuple[float | int, float | int, str]) -> list[Segment]:
    return [Segment(start=float(s), end=float(e), label=label) for s, e, label in spans]


def test_the_segment_that_starts_last_wins_and_the_long_one_goes_on_after_it() -> None:
    flat = flatten_segments(_segments((0, 10, "stir"), (3, 5, "pour"), (8, 12, "serve")))
    assert [(s.start, s.end, s.label) for s in flat.segments] == [
        (0, 3, "stir"),
        (3, 5, "pour"),
        (5, 8, "stir"),
        (8, 12, "serve"),
    ]
    assert (flat.overlaid, flat.hidden, flat.seconds) == (1, 0, 4.0)


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_that_start_together_the_shorter_wins_then_the_first(turned: bool) -> None:
    pair = _segments((1, 9, "long"), (1, 4, "short"))
    flat = flatten_segments(pair[::-1] if turned else pair)
    assert [(s.start, s.end, s.label) for s in flat.segments] == [(1, 4, "short"), (4, 9, "long")]
    twins = _segments((2, 3, "b"), (2, 3, "a"))
    flat = flatten_segments(twins[::-1] if turned else twins)
    assert [s.label for s in flat.segments] == ["a" if turned else "b"]
    assert (flat.overlaid, flat.hidden, flat.seconds) == (1, 1, 1.0)


def test_segments_that_follow_one_another_stay_as_they_are() -> None:
    given = _segments((0, 1, "a"), (1, 2, "a"), (5, 6, "b"))
    assert flatten_segments(given) == (tuple(given), 0, 0, 0.0)
    assert flatten_segments([]) == ((), 0, 0, 0.0)


def test_every_moment_has_the_class_of_the_last_start_before_it() -> None:
    random = np.random.default_rng(0)
    for _ in range(30):
        starts = random.integers(0, 40, 8)
        ends = starts + random.integers(1, 15, 8)
        given = _segments(*zip(starts.tolist(), ends.tolist(), "abcdefgh", strict=True))
        flat = flatten_segments(given).segments
        for moment in np.arange(0.5, 56):
            on = [s for s in given if s.start <= moment < s.end]
            # the definition itself: later start, then shorter, then first listed
            best = max(on, key=lambda s: (s.start, -s.end, -given.index(s)), default=None)
            shown = [s.label for s in flat if s.start <= moment < s.end]
            assert shown == ([best.label] if best else [])
