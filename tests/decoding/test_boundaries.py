"""Cutting at boundaries, by hand."""

import numpy as np
import pytest

from vidmamba.decoding import decode_boundaries


def logs(*rows: tuple[float, ...]) -> np.ndarray:
    return np.log(np.array(rows))


def test_each_piece_takes_the_class_of_most_probability_not_of_most_votes() -> None:
    x = logs((0.6, 0.4), (0.6, 0.4), (0.1, 0.9), (0.3, 0.7), (0.9, 0.1), (0.2, 0.8))
    cut = np.array([0.0, 0.1, 0.2, 0.9, 0.3, 0.1])
    # 0..2: 1.3 to 1.7, though two of three frames say 0; 3..5: 1.4 to 1.6
    assert decode_boundaries(x, cut).tolist() == [1, 1, 1, 1, 1, 1]
    cut = np.array([0.0, 0.1, 0.8, 0.3, 0.9, 0.1])
    # 0, 1: 1.2 to 0.8; 2, 3: 0.4 to 1.6; 4, 5: 1.1 to 0.9
    assert decode_boundaries(x, cut).tolist() == [0, 0, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("boundaries", "starts"),
    [
        ([0.9, 0.2, 0.2, 0.2, 0.2, 0.2], [0]),
        ([0.0, 0.6, 0.7, 0.6, 0.0, 0.0], [0, 2]),  # one peak, one cut
        ([0.0, 0.7, 0.6, 0.7, 0.0, 0.0], [0, 1, 3]),
        ([0.0, 0.0, 0.8, 0.8, 0.8, 0.0], [0, 2]),  # a flat peak cuts where it begins
        ([0.0, 0.7, 0.7, 0.8, 0.8, 0.9], [0, 5]),  # no peak on the way up
        ([0.0, 0.4, 0.0, 0.5, 0.0, 0.0], [0, 3]),  # 0.5 is enough, 0.4 not
        ([0.0, 0.8, 0.8, 0.9, 0.8, 0.8], [0, 3]),
        ([0.3, 0.3, 0.3, 0.3, 0.3, 0.3], [0]),
        ([0.8, 0.8, 0.8, 0.8, 0.8, 0.8], [0]),
    ],
)
def test_peaks_cut(boundaries: list[float], starts: list[int]) -> None:
    # frame k says k, so that a piece without a tie breaker shows its first frame's class
    x = np.log(np.eye(6) * np.linspace(0.6, 0.5, 6)[:, None] + 1e-6)
    labels = decode_boundaries(x, np.array(boundaries))
    assert np.flatnonzero(np.diff(labels, prepend=-1)).tolist() == starts


def test_with_boundaries_everywhere_or_nowhere() -> None:
    x = np.random.default_rng(0).normal(size=(9, 4))
    x -= np.log(np.exp(x).sum(axis=1, keepdims=True))
    one = decode_boundaries(x, np.zeros(9))
    assert set(one) == {int(np.exp(x).sum(axis=0).argmax())}
    assert decode_boundaries(x[:1], np.ones(1)).tolist() == [int(x[0].argmax())]
    # no boundary reaches 1, and every peak reaches 0
    peaks = np.array([0.1, 0.5] * 4 + [0.1])
    np.testing.assert_array_equal(decode_boundaries(x, peaks, threshold=1), one)
    pieces = decode_boundaries(x, peaks, threshold=0)
    expected = [int(np.exp(x[a:b]).sum(axis=0).argmax()) for a, b in ((0, 1), (1, 3), (3, 5))]
    assert [pieces[0], pieces[1], pieces[3]] == expected


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got -0.1 at frame 2"):
        decode_boundaries(np.zeros((3, 2)), np.array([0, 0.5, -0.1]))
    with pytest.raises(ValueError, match=r"threshold must lie in \[0, 1\], got 2"):
        decode_boundaries(np.zeros((3, 2)), np.zeros(3), threshold=2)
