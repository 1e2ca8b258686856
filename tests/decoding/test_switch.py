"""Viterbi with a switch cost, against all labellings of small videos."""

import time
from itertools import pairwise, product

import numpy as np
import pytest

from vidmamba.decoding import decode_switch


def noise(seed: int, num_frames: int, num_classes: int) -> np.ndarray:
    raw = np.random.default_rng(seed).normal(size=(num_frames, num_classes))
    return raw - np.log(np.exp(raw).sum(axis=1, keepdims=True))


def best_of_all(
    log_probabilities: np.ndarray,
    cost: float,
    allowed: np.ndarray | None,
    boundaries: np.ndarray | None,
) -> list[int]:
    """Score every labelling there is."""
    T, C = log_probabilities.shape
    scored = []
    for labels in product(range(C), repeat=T):
        score = sum(log_probabilities[t, c] for t, c in enumerate(labels))
        for t, (before, after) in enumerate(pairwise(labels), start=1):
            if before != after:
                score -= cost * (1 - (0 if boundaries is None else boundaries[t]))
                if allowed is not None and not allowed[before, after]:
                    score = -np.inf
        scored.append((score, [*labels]))
    return max(scored)[1]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("cost", [0.3, 1.0, 2.0])
def test_no_labelling_is_better(seed: int, cost: float) -> None:
    draw = np.random.default_rng(seed + 100)
    T, C = int(draw.integers(1, 7)), int(draw.integers(1, 4))
    x = noise(seed, T, C)
    boundaries = draw.random(T)
    allowed = draw.random((C, C)) < 0.5
    for only in (None, allowed):
        for starts in (None, boundaries):
            labels = decode_switch(x, cost=cost, allowed=only, boundaries=starts)
            assert labels.tolist() == best_of_all(x, cost, only, starts)


def test_by_hand() -> None:
    x = np.array([[0.0, -3.0], [-1.0, 0.0], [0.0, -3.0], [-3.0, 0.0], [-3.0, 0.0]])
    # the blip at frame 1 is worth 1, the last change 6 against all 0, 5 against all 1
    assert decode_switch(x, cost=1).tolist() == [0, 0, 0, 1, 1]
    assert decode_switch(x, cost=0.4).tolist() == [0, 1, 0, 1, 1]
    assert decode_switch(x, cost=4.9).tolist() == [0, 0, 0, 1, 1]
    assert decode_switch(x, cost=5.1).tolist() == [1, 1, 1, 1, 1]
    assert decode_switch(x, cost=2).tolist() == [0, 0, 0, 1, 1]
    # sure boundaries at frames 1 and 2 make the blip free
    sure = np.array([0.0, 1.0, 1.0, 0.0, 0.0])
    assert decode_switch(x, cost=2, boundaries=sure).tolist() == [0, 1, 0, 1, 1]


def test_a_forbidden_change_is_gone_around() -> None:
    x = np.full((6, 3), -9.0)
    x[:3, 0] = x[3:, 2] = 0
    x[2, 1] = -1
    allowed = np.zeros((3, 3), dtype=bool)
    allowed[0, 1] = allowed[1, 2] = True
    assert decode_switch(x, cost=0.1).tolist() == [0, 0, 0, 2, 2, 2]
    assert decode_switch(x, cost=0.1, allowed=allowed).tolist() == [0, 0, 1, 2, 2, 2]
    # where no change is allowed, the best single class is left
    assert set(decode_switch(x, cost=0, allowed=np.zeros((3, 3), dtype=bool))) == {0}


@pytest.mark.parametrize("seed", range(5))
def test_no_cost_is_each_frames_best_and_a_large_one_a_single_segment(seed: int) -> None:
    x = noise(seed, 80, 5)
    np.testing.assert_array_equal(decode_switch(x, cost=0), x.argmax(axis=1))
    # a boundary everywhere is no cost, a boundary nowhere the whole
    np.testing.assert_array_equal(
        decode_switch(x, cost=50, boundaries=np.ones(80)), x.argmax(axis=1)
    )
    np.testing.assert_array_equal(
        decode_switch(x, cost=2, boundaries=np.zeros(80)), decode_switch(x, cost=2)
    )
    assert set(decode_switch(x, cost=1e6)) == {int(x.sum(axis=0).argmax())}
    # both ways of computing it agree where everything is allowed but one change nobody makes
    allowed = np.ones((5, 5), dtype=bool)
    labels = decode_switch(x, cost=1.5)
    made = {*pairwise(labels.tolist())}
    unmade = next(pair for pair in product(range(5), repeat=2) if pair not in made)
    allowed[unmade] = False
    np.testing.assert_array_equal(decode_switch(x, cost=1.5, allowed=allowed), labels)


@pytest.mark.parametrize("seed", range(5))
def test_a_higher_cost_never_makes_more_changes(seed: int) -> None:
    x = noise(seed, 200, 4)
    changes = [
        int((np.diff(decode_switch(x, cost=cost)) != 0).sum()) for cost in (0, 0.5, 1, 2, 4, 8)
    ]
    assert changes == sorted(changes, reverse=True)
    assert changes[0] > changes[-1]


def test_impossible_frames_and_low_precision_are_taken() -> None:
    x = np.log(np.array([[1, 1e-5], [1e-5, 1]], dtype=np.float16))
    assert decode_switch(np.full((3, 2), -np.inf), cost=1).tolist() == [0, 0, 0]
    assert decode_switch(np.array([[0, -np.inf], [-np.inf, 0]]), cost=5).tolist() == [0, 1]
    assert decode_switch(x, cost=5).tolist() == [0, 1]
    assert decode_switch(np.zeros((1, 1)), cost=3).tolist() == [0]


@pytest.mark.parametrize(
    ("frame", "cost", "boundary", "message"),
    [
        (np.nan, 1, 0.5, "got nan at frame 1, class 1"),
        (np.inf, 1, 0.5, "got inf at frame 1, class 1"),
        (0.0, -1, 0.5, "from 0 up, got -1"),
        (0.0, np.nan, 0.5, "from 0 up, got nan"),
        (0.0, 1, 1.5, r"in \[0, 1\], got 1.5 at frame 1"),
        (0.0, 1, np.nan, r"in \[0, 1\], got nan at frame 1"),
    ],
)
def test_nonsense_is_refused_with_its_place(
    frame: float, cost: float, boundary: float, message: str
) -> None:
    x = np.array([[0.0, -1.0], [0.0, frame]])
    with pytest.raises(ValueError, match=message):
        decode_switch(x, cost=cost, boundaries=np.array([0.0, boundary]))


def test_a_video_without_frames_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got shape \[0, 3\]"):
        decode_switch(np.zeros((0, 3)), cost=1)


@pytest.mark.slow
def test_an_hour_takes_a_second_or_so() -> None:
    x = noise(0, 54_000, 50)
    allowed = np.random.default_rng(0).random((50, 50)) < 0.2
    for only in (None, allowed):
        start = time.perf_counter()
        labels = decode_switch(x, cost=3, allowed=only)
        assert time.perf_counter() - start < 20  # a second; here every step is type-checked
        assert labels.shape == (54_000,)
