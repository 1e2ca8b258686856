"""Log-normal lengths, against sums and against the standard library's normal distribution."""

from statistics import NormalDist

import numpy as np
import pytest

from vidmamba.decoding import learn_durations
from vidmamba.decoding.durations import PSEUDO_SEGMENTS


def test_a_length_is_as_likely_as_its_logarithm() -> None:
    durations = learn_durations([np.repeat([0, 1, 0], [10, 40, 30])], 2)
    table = durations.log_probabilities(np.array([1, 0]), np.array([1, 7, 300]))
    for row, label in enumerate((1, 0)):
        normal = NormalDist(durations.log_means[label], durations.log_deviations[label])
        for column, frames in enumerate((1, 7, 300)):
            expected = np.log(normal.pdf(np.log(frames)) / frames)
            assert table[row, column] == pytest.approx(expected)
    # over all numbers of frames the density comes to about 1
    every = durations.log_probabilities(np.array([0, 1]), np.arange(1, 20_000))
    np.testing.assert_allclose(np.exp(every).sum(axis=1), 1, atol=2e-3)


def test_a_class_is_drawn_to_all_where_it_has_few_segments() -> None:
    draw = np.random.default_rng(0)
    many = np.exp(draw.normal(5, 0.3, size=400)).round().astype(int)
    lengths = np.concatenate([many, [1000]])
    labels = np.repeat(np.array([*([0, 2] * 200), 1]), lengths)
    durations = learn_durations([labels], 4)
    logs = np.log(lengths)
    assert durations.log_means[0] == pytest.approx(np.log(many[::2]).mean(), abs=0.02)
    assert durations.log_deviations[0] == pytest.approx(0.3, abs=0.05)
    # one segment beside the five of all
    assert durations.log_means[1] == pytest.approx(
        (np.log(1000) + PSEUDO_SEGMENTS * logs.mean()) / (1 + PSEUDO_SEGMENTS)
    )
    # a class never seen is all of them
    assert durations.log_means[3] == pytest.approx(logs.mean())
    assert durations.log_deviations[3] == pytest.approx(logs.std())


def test_equal_lengths_keep_some_spread() -> None:
    durations = learn_durations([np.repeat([0, 1, 0], 20)], 2)
    assert (durations.log_deviations > 0).all()
    assert np.isfinite(durations.log_probabilities(np.array([0]), np.array([1, 20]))).all()


def test_frames_without_a_label_end_a_segment() -> None:
    cut = np.repeat([0, 1, -1, 1, -100], [10, 8, 3, 40, 2])
    apart = [np.repeat([0, 1], [10, 8]), np.repeat([1], 40)]
    one, other = learn_durations([cut], 2), learn_durations(apart, 2)
    np.testing.assert_array_equal(one.log_means, other.log_means)
    np.testing.assert_array_equal(one.log_deviations, other.log_deviations)
    # of 8 and 40 frames, not of 48
    logs = np.log([10, 8, 40])
    drawn = np.log([8, 40]).sum() + PSEUDO_SEGMENTS * logs.mean()
    assert one.log_means[1] == pytest.approx(drawn / (2 + PSEUDO_SEGMENTS))


def test_no_frame_is_nothing_to_learn_from() -> None:
    with pytest.raises(ValueError, match="one frame or more, got none"):
        learn_durations([np.zeros(0, dtype=np.int64)], 2)
