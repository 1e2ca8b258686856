"""Search and alignment, against all labellings of small videos."""

from collections.abc import Iterator
from functools import cache
from itertools import combinations, groupby, product

import numpy as np
import pytest

from vidmamba.decoding import Durations, Grammar, align, learn_durations, learn_grammar
from vidmamba.decoding.align import settle
from vidmamba.decoding.search import Found, search

Segments = list[tuple[int, int, int]]

ORDERS = [[0, 1, 2], [0, 2, 1], [1, 2], [0, 1, 2, 1]]


def noise(seed: int, num_frames: int, num_classes: int) -> np.ndarray:
    raw = np.random.default_rng(seed).normal(size=(num_frames, num_classes))
    return raw - np.log(np.exp(raw).sum(axis=1, keepdims=True))


def lengths(seed: int) -> Durations:
    draw = np.random.default_rng(seed)
    videos = [np.repeat(np.arange(3), draw.integers(1, 5, size=3)) for _ in range(3)]
    return learn_durations(videos, 3)


def score_order(grammar: Grammar, transcript: tuple[int, ...]) -> float:
    """Walk the only states that do this order."""
    arcs, score, state = grammar.arcs, 0.0, -1
    for place, label in enumerate(transcript):
        if place == 0:
            (state,) = np.flatnonzero(
                (grammar.labels == label) & (grammar.start > -np.inf)
            ).tolist()
            score = grammar.start[state]
        else:
            (step,) = np.flatnonzero(
                (arcs.sources == state) & (grammar.labels[arcs.targets] == label)
            )
            score, state = score + arcs.log_probabilities[step], int(arcs.targets[step])
    return float(score + grammar.final[state])


def score_segments(
    x: np.ndarray,
    segments: Segments,
    durations: Durations | None,
    costs: np.ndarray,
) -> float:
    score = 0.0
    for start, end, label in segments:
        score += x[start:end, label].sum() - (costs[start] if start else 0)
        if durations is not None:
            score += durations.log_probabilities(np.array([label]), np.array([end - start]))[0, 0]
    return float(score)


def labellings(
    num_frames: int, num_classes: int, stride: int
) -> Iterator[list[tuple[int, int, int]]]:
    """All segmentations with starts at multiples of the stride."""
    for blocks in product(range(num_classes), repeat=-(-num_frames // stride)):
        segments, at = [], 0
        for label, group in groupby(blocks):
            end = min(at + stride * len([*group]), num_frames)
            segments.append((at, end, label))
            at = end
        yield segments


def frames_of(segments: Segments) -> list[int]:
    return [label for start, end, label in segments for _ in range(start, end)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("num_frames", "stride"), [(1, 1), (6, 1), (11, 2), (12, 2), (13, 3), (2, 3)]
)
@pytest.mark.parametrize("timed", [True, False])
def test_no_segments_are_better(seed: int, num_frames: int, stride: int, timed: bool) -> None:
    T = num_frames
    x = noise(seed, T, 3)
    costs = np.random.default_rng(seed + 1).random(T)
    durations = lengths(seed) if timed else None
    grammar = learn_grammar(ORDERS, 3, order=1 + seed % 4)
    # an edge costs what the cheapest of the frames nearest to it does
    edge_costs = np.full(T, np.inf)
    for t in range(T):
        nearest = min((t + stride // 2) // stride, (T - 1) // stride) * stride
        edge_costs[nearest] = min(edge_costs[nearest], costs[t])
    by_order = cache(lambda transcript: score_order(grammar, transcript))
    scored = [
        (
            by_order(tuple(label for _, _, label in segments))
            + score_segments(x, segments, durations, edge_costs),
            frames_of(segments),
        )
        for segments in labellings(T, 3, stride)
    ]
    best, labels = max(scored)
    found = search(x, grammar, durations, costs, stride=stride)
    assert found.frames(T).tolist() == labels
    assert found.score == pytest.approx(best)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("timed", [True, False])
def test_no_alignment_is_better(seed: int, timed: bool) -> None:
    draw = np.random.default_rng(seed)
    T, N = int(draw.integers(4, 9)), int(draw.integers(1, 5))
    x, transcript = noise(seed, T, 3), draw.integers(0, 3, size=N).tolist()
    durations = lengths(seed) if timed else None
    scored = []
    for cuts in combinations(range(1, T), N - 1):
        segments = [*zip([0, *cuts], [*cuts, T], transcript, strict=True)]
        scored.append((score_segments(x, segments, durations, np.zeros(T)), frames_of(segments)))
    assert align(x, transcript, durations).tolist() == max(scored)[1]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("timed", [True, False])
def test_starts_settle_where_no_place_around_is_better(seed: int, timed: bool) -> None:
    x = noise(seed, 12, 3)
    costs = np.random.default_rng(seed + 1).random(12)
    durations = lengths(seed) if timed else None
    found = Found(np.array([0, 3, 6, 9]), np.array([0, 2, 1, 0]), 0.0)
    scored = []
    for moves in product(range(-2, 3), repeat=3):
        starts = [0, 3 + moves[0], 6 + moves[1], 9 + moves[2]]
        if starts == sorted(set(starts)):
            segments = [*zip(starts, [*starts[1:], 12], found.labels.tolist(), strict=True)]
            scored.append((score_segments(x, segments, durations, costs), starts))
    settled = settle(x, found, durations, costs, stride=3)
    best, starts = max(scored)
    assert settled.starts.tolist() == starts
    assert settled.score == pytest.approx(best)


def test_alignment_by_hand() -> None:
    x = np.log(np.array([[0.9, 0.1]] * 3 + [[0.2, 0.8]] * 4 + [[0.6, 0.4]]))
    assert align(x, [0, 1]).tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert align(x, [0, 1, 0]).tolist() == [0, 0, 0, 1, 1, 1, 1, 0]
    assert align(x, [1, 0]).tolist() == [1, 1, 1, 1, 1, 1, 1, 0]
    assert align(x, [1] * 8).tolist() == [1] * 8


def test_lengths_decide_where_frames_do_not() -> None:
    durations = learn_durations([np.repeat([0, 1, 2], [2, 20, 8])] * 40, 3)
    labels = align(np.zeros((30, 3)), [0, 1, 2], durations)
    counts = np.bincount(labels)
    np.testing.assert_allclose(counts, [2, 20, 8], atol=1)
    # where any length is as good, the frames have no say and the first actions hold on
    assert np.bincount(align(np.zeros((30, 3)), [0, 1, 2])).tolist() != counts.tolist()


def test_a_stride_finds_what_all_frames_find_where_frames_are_clear() -> None:
    true = np.repeat([0, 2, 1, 2], [17, 31, 9, 44])
    x = np.log(np.where(np.eye(3, dtype=bool)[true], 0.8, 0.1))
    for stride in (1, 2, 5, 8):
        np.testing.assert_array_equal(align(x, [0, 2, 1, 2], stride=stride), true)
        np.testing.assert_array_equal(align(x, [0, 2, 1, 2], lengths(0), stride=stride), true)


@pytest.mark.parametrize(
    ("transcript", "stride", "message"),
    [
        ([0, 1, 0, 1], 1, "4 actions do not fit into 3 frames, one a stride of 1"),
        ([0, 1], 3, "2 actions do not fit into 3 frames, one a stride of 3"),
        ([], 1, r"one class or more, each from 0 to 1, got \[\]"),
        ([0, 2], 1, r"each from 0 to 1, got \[0, 2\]"),
        ([-1], 1, r"got \[-1\]"),
        ([0], 0, "stride must be 1 or more, got 0"),
    ],
)
def test_a_transcript_that_cannot_be_is_refused(
    transcript: list[int], stride: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        align(np.zeros((3, 2)), transcript, stride=stride)
