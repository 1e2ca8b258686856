from collections.abc import Callable
from functools import lru_cache
from math import sqrt

import numpy as np
import pytest

from vidmamba.metrics.captions import (
    ALL_METRICS,
    KNOWN_DIFFERENCES,
    score_captions,
    score_each_caption,
    tokenize,
)
from vidmamba.metrics.captions.corpus import _common_length

from .oracles import field_ciders, field_scores

WORDS = "a the man dog dogs runs in red t-shirt don't is 10 mr. (x) é 😀 , .".split()  # noqa: SIM905


def _drawn(seed: int, shortest: int = 0) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Captions and references of 40 videos; some of them empty where `shortest` is 0."""
    random = np.random.default_rng(seed)
    videos = [f"v{number}" for number in range(40)]
    text: Callable[[], str] = lambda: " ".join(  # noqa: E731
        random.choice(WORDS, random.integers(shortest, 12))
    )
    return (
        {video: text() for video in videos},
        {video: [text() for _ in range(random.integers(1, 6))] for video in videos},
    )


def _tokens(
    predicted: dict[str, str], references: dict[str, list[str]]
) -> tuple[dict[str, str], dict[str, list[str]]]:
    own = {video: " ".join(tokenize(text)) for video, text in predicted.items()}
    others = {
        video: [" ".join(tokenize(text)) for text in texts] for video, texts in references.items()
    }
    return own, others


def _theirs(predicted: dict[str, str], references: dict[str, list[str]]) -> dict[str, float]:
    return field_scores(*_tokens(predicted, references))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shortest", [0, 1])
def test_scores_are_pycocoevalcaps(seed: int, shortest: int) -> None:
    predicted, references = _drawn(seed, shortest)
    theirs = _theirs(predicted, references)
    ours = score_captions(predicted, references, metrics=["bleu", "rouge_l", "cider_d"])
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-6), name


def test_one_video_and_no_words_at_all_are_scored_as_pycocoevalcap_does() -> None:
    for predicted in ({"v": "a dog"}, {"v": ""}):
        references = {"v": ["a dog runs", "a cat"]}
        theirs = _theirs(predicted, references)
        ours = score_captions(predicted, references)
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, abs=1e-6), name


def test_each_video_has_the_score_that_pycocoevalcap_takes_the_mean_of() -> None:
    predicted, references = _drawn(0)
    found = score_each_caption(predicted, references)
    theirs = field_ciders(*_tokens(predicted, references))
    for video, scores in found.items():
        assert scores["cider_d"] == pytest.approx(theirs[video], abs=1e-6), video
        alone = score_captions({video: predicted[video]}, {video: references[video]})
        assert scores["bleu4"] == alone["bleu4"]
    assert max(scores["cider_d"] for scores in found.values()) > 0


def test_plain_cider_worked_by_hand() -> None:
    # of two videos: `dog` is in both and weighs nothing; `red` and `big` are in one, log 2 each
    predicted = {"v": "red dog", "w": "big dog"}
    references = {"v": ["red dog red"], "w": ["small dog"]}
    # unigrams of v: (red 1) against (red 2): cosine 1. Bigrams: {red dog} in {red dog, dog red}
    first = (1 + 1 / sqrt(2)) / 4
    score = score_captions(predicted, references, metrics=["cider_plain"])["cider_plain"]
    assert score == pytest.approx(10 * (first + 0) / 2, abs=1e-12)


def test_the_clipped_cider_is_lower_where_a_word_is_repeated() -> None:
    predicted = {"v": "red red red red", "w": "a dog"}
    references = {"v": ["red"], "w": ["a dog"]}
    scores = score_captions(predicted, references, metrics=["cider_d", "cider_plain"])
    assert scores["cider_d"] < scores["cider_plain"]


def test_the_references_own_words_score_highest() -> None:
    references = {"v": ["a man runs in the park"], "w": ["two dogs play with a red ball"]}
    predicted = {video: texts[0] for video, texts in references.items()}
    scores = score_captions(predicted, references, metrics=ALL_METRICS)
    for name, value in scores.items():
        assert value == pytest.approx(10 if name.startswith("cider") else 1, abs=1e-6), name


def test_neither_the_order_of_videos_nor_of_references_matters() -> None:
    predicted, references = _drawn(5)
    expected = score_captions(predicted, references, metrics=ALL_METRICS)
    turned = dict(reversed(predicted.items()))
    assert score_captions(turned, references, metrics=ALL_METRICS) == pytest.approx(expected)
    references = {video: texts[::-1] for video, texts in references.items()}
    scores = score_captions(turned, references, metrics=ALL_METRICS)
    # METEOR counts, of references with equal scores, the first; their lengths may differ
    del scores["meteor_exact_stem"], expected["meteor_exact_stem"]
    assert scores == pytest.approx(expected)


def test_the_common_length_is_that_of_the_textbook() -> None:
    random = np.random.default_rng(0)
    for _ in range(100):
        first, second = (tuple(random.choice([*"abcd"], random.integers(0, 9))) for _ in range(2))

        @lru_cache
        def length(i: int, j: int, a: tuple[str, ...] = first, b: tuple[str, ...] = second) -> int:
            if i == len(a) or j == len(b):
                return 0
            if a[i] == b[j]:
                return 1 + length(i + 1, j + 1)
            return max(length(i + 1, j), length(i, j + 1))

        assert _common_length(first, second) == length(0, 0)


def test_emoji_count_as_words() -> None:
    references = {"v": ["😀 😀"], "w": ["日本"]}
    same = score_captions({"v": "😀 😀", "w": "日本"}, references)
    none = score_captions({"v": "🙁 🙁", "w": "中国"}, references)
    assert same["bleu1"] == pytest.approx(1)
    assert same["meteor_exact_stem"] == pytest.approx(1)
    assert none["bleu1"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("predicted", "references", "message"),
    [
        ({}, {}, "no video"),
        ({"v": "a"}, {"v": ["a"], "w": ["b"]}, "without a prediction: w"),
        ({"v": "a", "w": "b"}, {"v": ["a"]}, "without references: w"),
        ({"v": "a"}, {"v": []}, "no reference: v"),
    ],
)
def test_videos_of_one_side_alone_are_refused_and_named(
    predicted: dict[str, str], references: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        score_captions(predicted, references)


def test_an_unknown_metric_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"cider_plain, got \['cider'\]"):
        score_captions({"v": "a"}, {"v": ["a"]}, metrics=["cider"])


def test_every_metric_that_differs_from_the_fields_is_explained() -> None:
    assert any(line.startswith("meteor_exact_stem") for line in KNOWN_DIFFERENCES)
    assert any(line.startswith("soda_c: made with that METEOR") for line in KNOWN_DIFFERENCES)
    assert "meteor" not in score_captions({"v": "a"}, {"v": ["a"]})
