"""The one entry: each kind does what its function does, and survives what videos bring."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import pytest
import torch

from vidmamba.decoding import (
    Decoder,
    DecodingConfig,
    decode_boundaries,
    decode_switch,
    learn_decoder,
)

KINDS = ("argmax", "switch", "boundary", "grammar")
TRAINING = [
    np.repeat(order, [20, 35, 15, 30][: len(order)])
    for order in ([0, 1, 2, 3], [0, 2, 1, 3], [0, 1, 2], [0, 1, 2, 3])
]
CLASSES = 6  # 4 and 5 are never seen


def order_of(labels: np.ndarray) -> list[int]:
    return [label for label, _ in groupby(labels.tolist())]


def seen(true: np.ndarray, *, noise: float, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    raw = 2 * np.eye(CLASSES)[true] + noise * draw.normal(size=(len(true), CLASSES))
    return raw - np.log(np.exp(raw).sum(axis=1, keepdims=True))


def learned(**options: Any) -> Decoder:
    return learn_decoder(DecodingConfig(**options), TRAINING, CLASSES)


def test_each_kind_is_its_function() -> None:
    x = seen(np.repeat([0, 1, 3], 30), noise=2)
    starts = np.random.default_rng(1).random(90)
    expected = {
        "argmax": x.argmax(axis=1),
        "switch": decode_switch(x, cost=2, boundaries=starts),
        "boundary": decode_boundaries(x, starts, threshold=0.5),
    }
    for kind, labels in expected.items():
        np.testing.assert_array_equal(learned(kind=kind)(x, starts), labels)
    np.testing.assert_array_equal(
        learned(kind="switch", boundary_weight=0, switch_cost=3)(x, starts),
        decode_switch(x, cost=3),
    )
    allowed = np.zeros((CLASSES, CLASSES), dtype=bool)
    for a, b in ((0, 1), (0, 2), (1, 2), (1, 3), (2, 1), (2, 3)):
        allowed[a, b] = True
    np.testing.assert_array_equal(
        learned(kind="switch", only_seen_transitions=True)(x),
        decode_switch(x, cost=2, allowed=allowed),
    )


def test_the_grammar_repairs_what_frames_get_wrong() -> None:
    true = np.repeat([0, 1, 2, 3], [22, 30, 18, 28])
    x = seen(true, noise=0.5)
    # for a while, frames are sure of a class that never follows
    x[30:36] = np.log(np.eye(CLASSES)[5] * 0.9 + 0.01)
    wrong = learned(kind="switch", switch_cost=2)(x)
    assert 5 in wrong
    found = learned(kind="grammar", grammar_weight=4, duration_weight=2)(x)
    assert order_of(found) == [0, 1, 2, 3]
    assert (found == true).mean() > 0.95


def test_an_order_that_nobody_showed_is_found_where_frames_are_sure() -> None:
    true = np.repeat([3, 5, 0, 4, 1, 0], 25)
    found = learned(kind="grammar", grammar_order=4)(seen(true, noise=0.5))
    assert order_of(found) == [3, 5, 0, 4, 1, 0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_frames", [1, 2, 3, 40])
def test_no_video_is_too_short(kind: str, num_frames: int) -> None:
    for seed in range(5):
        x = seen(np.arange(num_frames) % CLASSES, noise=1, seed=seed)
        for options in ({}, {"stride": 7}, {"stride": 1, "duration_weight": 0}):
            found = learned(kind=kind, **options)(x, np.linspace(0, 1, num_frames))
            assert found.shape == (num_frames,)
            assert found.dtype == np.int64
            assert 0 <= found.min() <= found.max() < CLASSES


def test_a_costlier_segment_never_makes_more_segments() -> None:
    x = seen(np.repeat([0, 1, 2, 3, 1, 0], 20), noise=2)
    segments = [
        len(order_of(learned(kind="grammar", stride=1, switch_cost=cost)(x)))
        for cost in (0, 1, 3, 10, 1e5)
    ]
    assert segments == sorted(segments, reverse=True)
    assert segments[0] > segments[-1] == 1


def test_without_grammar_and_lengths_the_search_is_the_switch() -> None:
    x = seen(np.repeat([0, 1, 2, 3, 1, 0], 20), noise=2)
    starts = np.random.default_rng(1).random(120)
    options = {"switch_cost": 3, "grammar_weight": 0, "duration_weight": 0}
    for order in (1, 3):
        np.testing.assert_array_equal(
            learned(kind="grammar", grammar_order=order, stride=1, **options)(x, starts),
            learned(kind="switch", switch_cost=3)(x, starts),
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_carries_it(kind: str, tmp_path: Any) -> None:
    decoder = learned(kind=kind, grammar_weight=3, duration_weight=0.5, stride=2)
    torch.save(decoder.to_plain(), tmp_path / "decoder.pt")
    again = Decoder.from_plain(torch.load(tmp_path / "decoder.pt", weights_only=True))
    x = seen(np.repeat([0, 1, 3, 5], 20), noise=3)
    starts = np.random.default_rng(1).random(80)
    np.testing.assert_array_equal(again(x, starts), decoder(x, starts))
    assert again.to_plain() == decoder.to_plain()


def test_values_of_another_version_are_refused() -> None:
    values = learned().to_plain()
    with pytest.raises(ValueError, match="log_means"):
        Decoder.from_plain({key: value for key, value in values.items() if key != "log_means"})
    with pytest.raises(ValueError, match="speed"):
        Decoder.from_plain(values | {"config": values["config"] | {"speed": 3}})


def test_a_video_without_frames_teaches_nothing() -> None:
    empty = np.zeros(0, dtype=np.int64)
    assert learn_decoder(DecodingConfig(), [*TRAINING, empty], CLASSES).to_plain() == (
        learn_decoder(DecodingConfig(), TRAINING, CLASSES).to_plain()
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([np.array([0, 1]), np.array([2, 6])], "classes from 0 to 5, .* got 6 in video 1"),
        ([np.array([-1, -100])], "labels of one frame or more, got none"),
        ([], "one frame or more, got none"),
        ([np.zeros(0, dtype=np.int64)], "one frame or more, got none"),
    ],
)
def test_labels_that_teach_nothing_are_refused(labels: Sequence[np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learn_decoder(DecodingConfig(), labels, CLASSES)


def test_what_does_not_fit_the_decoder_is_refused() -> None:
    with pytest.raises(ValueError, match="learned for 6 classes, got 5"):
        learned()(np.zeros((4, 5)))
    with pytest.raises(ValueError, match="needs boundary probabilities, got none: train a model"):
        learned(kind="boundary")(np.zeros((4, 6)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"switch_cost": -1}, "switch_cost must be a number from 0 up, got -1"),
        ({"duration_weight": np.inf}, "duration_weight must be a number from 0 up, got inf"),
        ({"boundary_weight": 1.5}, r"boundary_weight must lie in \[0, 1\], got 1.5"),
        ({"stride": 0}, "stride must be 1 or more, got 0"),
        ({"grammar_order": 0}, "grammar_order must be 1 or more, got 0"),
        ({"kind": "grammar", "only_seen_transitions": True}, "for kind switch, got kind grammar"),
    ],
)
def test_configs_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(DecodingConfig(), **options)
