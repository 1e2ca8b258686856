import gzip
import json
import logging
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from vidmamba.metrics.captions import score_dense_captions, tokenize
from vidmamba.metrics.captions.meteor import MeteorCounts, meteor_counts, meteor_words
from vidmamba.metrics.captions.overlap import overlaps
from vidmamba.metrics.captions.soda import best_in_order
from vidmamba.timeline import Caption

from .oracles import field_scores

THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
METRICS = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider_d", "meteor_exact_stem")
WORDS = ["a", "man", "dog", "runs", "jumps", "over", "the", "red", "ball", "quickly"]

CaptionSet = Mapping[str, Sequence[Caption]]


def _caption(start: float, end: float, text: str) -> Caption:
    return Caption(start=float(start), end=float(end), text=text)


def _drawn(seed: int, videos: Sequence[str]) -> dict[str, list[Caption]]:
    random = np.random.default_rng(seed)
    drawn = {}
    for video in videos:
        starts = random.uniform(0, 8, random.integers(1, 6))
        drawn[video] = [
            _caption(
                start,
                start + random.uniform(1, 9),
                " ".join(random.choice(WORDS, random.integers(3, 9))),
            )
            for start in starts
        ]
    return drawn


def _overlap(first: Caption, second: Caption) -> float:
    shared = max(0.0, min(first.end, second.end) - max(first.start, second.start))
    return shared / (first.end - first.start + second.end - second.start - shared)


def _meteor(pairs: Sequence[tuple[str, str]]) -> float:
    read = [[meteor_words(tokenize(text)) for text in pair] for pair in pairs]
    return sum((meteor_counts(*pair) for pair in read), MeteorCounts()).score()


def _plain(predicted: CaptionSet, references: Sequence[CaptionSet], at: float) -> dict[str, float]:
    """The protocol at one threshold, as its description reads, with the field's own scorers."""
    rows = []
    for video in {name for own in references for name in own}:
        events = predicted.get(video, [])
        sets = [own[video] for own in references if video in own]
        pairs = []
        for event in events:
            near = [other.text for own in sets for other in own if _overlap(event, other) >= at]
            pairs += [(event.text, text) for text in near or ["abc123!@#"]]
        own = {str(place): " ".join(tokenize(pair[0])) for place, pair in enumerate(pairs)}
        other = {str(place): [" ".join(tokenize(pair[1]))] for place, pair in enumerate(pairs)}
        row = dict.fromkeys(METRICS, 0.0)
        if pairs:
            row = field_scores(own, other) | {"meteor_exact_stem": _meteor(pairs)}
        hits = [
            np.array([_overlap(event, ref) > at for event in events for ref in own]).reshape(
                len(events), len(own)
            )
            for own in sets
        ]
        row["precision"] = max(float(hit.any(axis=1).mean()) if events else 0.0 for hit in hits)
        row["recall"] = max(float(hit.any(axis=0).mean()) for hit in hits)
        rows.append(row)
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_the_protocols_with_two_reference_sets(seed: int) -> None:
    predicted = _drawn(seed, ["u", "v", "w"])
    references = [_drawn(seed + 10, ["u", "v", "w", "x"]), _drawn(seed + 20, ["v", "w", "y"])]
    scores = score_dense_captions(predicted, references)
    plain = [_plain(predicted, references, threshold) for threshold in THRESHOLDS]
    for name in plain[0]:
        values = [row[name] for row in plain]
        assert scores[name] == pytest.approx(np.mean(values), abs=1e-6), name
        for threshold, value in zip(THRESHOLDS, values, strict=True):
            assert scores[f"{name}@{threshold}"] == pytest.approx(value, abs=1e-6), name


def test_precision_and_recall_by_hand() -> None:
    # [0, 10) covers [0, 10) whole, and half of [0, 5); nothing is near [90, 99)
    predicted = {"v": [_caption(0, 10, "a dog"), _caption(20, 30, "a cat")]}
    references = {"v": [_caption(0, 10, "a"), _caption(0, 5, "b"), _caption(90, 99, "c")]}
    scores = score_dense_captions(predicted, [references], thresholds=(0.3, 0.7))
    assert scores["precision@0.3"] == scores["precision@0.7"] == pytest.approx(1 / 2)
    assert scores["recall@0.3"] == pytest.approx(2 / 3)
    assert scores["recall@0.7"] == pytest.approx(1 / 3)
    assert scores["f1"] == pytest.approx(1 / 2)


def test_soda_by_hand() -> None:
    # the same sentences in the wrong order: only one of the two pairs can keep the order
    predicted = {"v": [_caption(0, 10, "a red dog"), _caption(0, 10, "two cats sleep")]}
    references = {"v": [_caption(0, 10, "two cats sleep"), _caption(0, 10, "a red dog")]}
    scores = score_dense_captions(predicted, [references])
    assert scores["soda_c"] == pytest.approx(2 * 1 / (2 + 2), abs=1e-6)
    # at their own times, both can
    apart = {"v": [_caption(0, 10, "two cats sleep"), _caption(20, 30, "a red dog")]}
    assert score_dense_captions(apart, [apart])["soda_c"] == pytest.approx(1, abs=1e-6)


def test_sodas_meteor_is_the_references_against_the_prediction_as_its_authors_take_it() -> None:
    predicted, reference = "a red dog runs over the ball", "a dog jumps"
    forth, back = _meteor([(predicted, reference)]), _meteor([(reference, predicted)])
    assert abs(forth - back) > 0.05
    captions = [{"v": [_caption(0, 10, text)]} for text in (predicted, reference)]
    scores = score_dense_captions(captions[0], captions[1:])
    assert scores["soda_c"] == pytest.approx(back, abs=1e-6)
    assert scores["meteor_exact_stem"] == pytest.approx(forth, abs=1e-12)


def test_soda_takes_the_mean_or_the_best_of_reference_sets() -> None:
    right = {"v": [_caption(0, 10, "a red dog")], "w": [_caption(0, 10, "two cats")]}
    wrong = {"v": [_caption(0, 10, "birds fly")], "w": [_caption(0, 10, "nobody here")]}
    mixed = {"v": right["v"], "w": wrong["w"]}
    scores = score_dense_captions(right, [mixed, wrong])
    assert scores["soda_c"] == pytest.approx((1 / 2 + 0) / 2, abs=1e-6)
    assert scores["soda_c_best"] == pytest.approx(1 / 2, abs=1e-6)


def test_the_best_order_is_the_best_of_all() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        value = random.random(random.integers(1, 5, 2))
        rows, columns = (range(size) for size in value.shape)
        every = [
            sum(value[pair] for pair in zip(own, other, strict=True))
            for size in range(min(value.shape) + 1)
            for own in combinations(rows, size)
            for other in combinations(columns, size)
        ]
        assert best_in_order(value) == pytest.approx(max(every), abs=1e-12)


def test_overlap_is_intersection_over_union() -> None:
    first = [_caption(0, 10, "a"), _caption(5, 6, "b")]
    second = [_caption(0, 10, "a"), _caption(5, 15, "b"), _caption(50, 60, "c")]
    expected = [[1, 1 / 3, 0], [1 / 10, 1 / 10, 0]]
    np.testing.assert_allclose(overlaps(first, second), expected, atol=1e-8)


def test_the_order_of_captions_does_not_matter() -> None:
    predicted, references = _drawn(0, ["u", "v"]), _drawn(1, ["u", "v"])
    turned = {video: own[::-1] for video, own in predicted.items()}
    before = {video: sorted(own, key=lambda c: (c.start, c.text)) for video, own in turned.items()}
    after = {
        video: sorted(own, key=lambda c: (c.start, c.text)) for video, own in predicted.items()
    }
    assert score_dense_captions(before, [references]) == pytest.approx(
        score_dense_captions(after, [references])
    )


def test_videos_without_prediction_score_nothing_and_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    references = {name: [_caption(0, 10, "a red dog")] for name in ("seen", "missing")}
    predicted = {name: [_caption(0, 10, "a red dog")] for name in ("seen", "unknown")}
    with caplog.at_level(logging.WARNING):
        scores = score_dense_captions(predicted, [references])
    assert scores["recall"] == pytest.approx(1 / 2)
    assert scores["bleu1"] == pytest.approx(1 / 2)
    assert scores["soda_c"] == pytest.approx(1 / 2, abs=1e-6)
    counted = ("videos", "videos_without_prediction", "videos_without_reference")
    assert [scores[name] for name in counted] == [2, 1, 1]
    assert "no prediction: missing" in caplog.text
    assert "no reference: unknown" in caplog.text


def test_a_video_predicted_to_have_no_events_scores_as_one_that_is_missing() -> None:
    references = {name: [_caption(0, 10, "a red dog")] for name in ("v", "w")}
    predicted = {"v": references["v"]}
    missing = score_dense_captions(predicted, [references])
    empty = score_dense_captions(predicted | {"w": ()}, [references])
    assert empty.pop("videos_without_prediction") == 0
    assert missing.pop("videos_without_prediction") == 1
    assert empty == missing


def test_captions_without_words_and_of_other_scripts_are_scored() -> None:
    references = {"v": [_caption(0, 10, "日本語 😀"), _caption(10, 20, "a dog")]}
    predicted = {"v": [_caption(0, 10, "日本語 😀"), _caption(10, 20, "...")]}
    scores = score_dense_captions(predicted, [references], thresholds=(0.5,))
    assert scores["rouge_l"] == pytest.approx(1 / 2)
    assert scores["soda_c"] == pytest.approx(1 / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("predicted", "references", "thresholds", "message"),
    [
        ("v", [], (0.5,), "must have videos"),
        ("v", ["v"], (), "thresholds must be"),
        ("v", ["v"], (0.5, 30), r"got \[0.5, 30\]"),
        ("w", ["v"], (0.5,), "are their names the same"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    predicted: str, references: list[str], thresholds: tuple[float | int, ...], message: str
) -> None:
    events = [_caption(0, 10, "a dog")]
    with pytest.raises(ValueError, match=message):
        score_dense_captions(
            {predicted: events}, [{name: events} for name in references], thresholds=thresholds
        )


def test_an_empty_reference_or_too_many_captions_are_refused_by_name() -> None:
    events = [_caption(0, 10, "a dog")]
    with pytest.raises(ValueError, match="reference set 2: no captions for v"):
        score_dense_captions({"v": events}, [{"v": events}, {"v": []}])
    with pytest.raises(ValueError, match="more than 1000 captions for v"):
        score_dense_captions({"v": events * 1001}, [{"v": events}])


@pytest.mark.data
@pytest.mark.slow
def test_one_person_scored_against_another_as_the_fields_code_does(real_data: Path) -> None:
    record = json.loads(
        gzip.decompress((real_data / "captions/activitynet_captions.json.gz").read_bytes())
    )
    first, second = (
        {
            video: [
                _caption(start, end, text)
                for (start, end), text in zip(own["timestamps"], own["sentences"], strict=True)
            ]
            for video, own in record[part].items()
        }
        for part in ("val_1", "val_2")
    )
    scores = score_dense_captions(first, [second])
    # measured with PTBTokenizer, pycocoevalcap's scorers, and METEOR's jar with these two stages
    expected = {
        "bleu1": 0.097759,
        "bleu4": 0.008364,
        "rouge_l": 0.094506,
        "cider_d": 0.206373,
        "meteor_exact_stem": 0.051644,
        "soda_c": 0.047714,
    }
    # it drops letters that are not ASCII, which moves the fifth digit
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, abs=5e-5), name
    assert scores["videos_without_reference"] == 32
