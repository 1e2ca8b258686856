"""Orders and lengths as people cook: grammar of half of the people, videos of the other half."""

import gzip
import json
import time
from pathlib import Path

import numpy as np
import pytest

from vidmamba.decoding import DecodingConfig, align, learn_decoder
from vidmamba.metrics import score_videos

pytestmark = [pytest.mark.data, pytest.mark.slow]

NUM_CLASSES = 48


@pytest.fixture(scope="module")
def videos(real_data: Path) -> dict[str, np.ndarray]:
    """Frame labels of every video, by name."""
    with gzip.open(real_data / "breakfast" / "segments.json.gz", "rt") as file:
        stored = json.load(file)
    index = {name: label for label, name in enumerate(stored["classes"])}
    assert len(index) == NUM_CLASSES
    return {
        name: np.repeat([index[label] for label, _ in runs], [frames for _, frames in runs])
        for name, runs in stored["videos"].items()
    }


@pytest.fixture(scope="module")
def halves(videos: dict[str, np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Videos of every other person, and of those between."""
    people = sorted({name.split("_")[0] for name in videos})
    taught = {*people[::2]}
    return (
        [labels for name, labels in videos.items() if name.split("_")[0] in taught],
        [labels for name, labels in videos.items() if name.split("_")[0] not in taught],
    )


def guess(true: np.ndarray, seed: int) -> np.ndarray:
    """What a middling model says: noise, and stretches taken for another class."""
    draw = np.random.default_rng(seed)
    raw = 2 * np.eye(NUM_CLASSES)[true] + draw.normal(size=(len(true), NUM_CLASSES))
    for _ in range(max(1, len(true) // 400)):
        start = int(draw.integers(len(true)))
        raw[start : start + int(draw.integers(10, 60)), int(draw.integers(NUM_CLASSES))] += 4
    return raw - np.log(np.exp(raw).sum(axis=1, keepdims=True))


def test_a_grammar_of_other_people_finds_orders_that_frames_and_a_switch_cost_miss(
    halves: tuple[list[np.ndarray], list[np.ndarray]],
) -> None:
    taught, held_out = halves
    some = sorted(held_out, key=len)[: len(held_out) // 2 : 30]
    guesses = [guess(true, seed) for seed, true in enumerate(some)]
    scores = {}
    for kind in ("argmax", "switch", "grammar"):
        # one cost for both: all else is what orders and lengths add
        decode = learn_decoder(DecodingConfig(kind=kind, switch_cost=5), taught, NUM_CLASSES)
        pairs = [(decode(x), true) for x, true in zip(guesses, some, strict=True)]
        scores[kind] = score_videos(pairs)
    for name in ("edit", "f1@50"):
        assert scores["argmax"][name] < scores["switch"][name] < scores["grammar"][name]


def test_the_longest_video_is_decoded_in_seconds(
    halves: tuple[list[np.ndarray], list[np.ndarray]], videos: dict[str, np.ndarray]
) -> None:
    true = max(videos.values(), key=len)
    assert len(true) > 9000
    x = guess(true, 0)
    decode = learn_decoder(DecodingConfig(kind="grammar", switch_cost=5), halves[0], NUM_CLASSES)
    start = time.perf_counter()
    labels = decode(x)
    assert time.perf_counter() - start < 20  # about a second on an idle core
    assert (labels == true).mean() > (x.argmax(axis=1) == true).mean()


def test_a_known_order_is_placed_in_the_longest_video(videos: dict[str, np.ndarray]) -> None:
    true = max(videos.values(), key=len)
    transcript = true[np.flatnonzero(np.diff(true, prepend=-1))].tolist()
    found = align(guess(true, 0), transcript)
    assert found[np.flatnonzero(np.diff(found, prepend=-1))].tolist() == transcript
    assert (found == true).mean() > 0.98
