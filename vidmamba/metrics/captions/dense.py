"""Scores of captions with times, as the ActivityNet Captions challenge and SODA take them.

Krishna, Hata, Ren, Fei-Fei and Niebles, Dense-Captioning Events in Videos, ICCV 2017; its evaluator
of 2018, which PDVC and most tables use. A predicted event is scored against each sentence, of any
reference set, whose tIoU reaches a threshold, one at a time; one that has none is scored against a
text that nothing matches. Scores are of a video (CIDEr's rarities too), then the mean over videos,
then over thresholds.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from vidmamba.metrics.captions.clips import (
    FIELD_METRICS,
    bleu_names,
    check_metrics,
    names_of,
    score_sentences,
)
from vidmamba.metrics.captions.overlap import overlaps
from vidmamba.metrics.captions.sentence import Sentence, read_sentences
from vidmamba.metrics.captions.soda import soda_c
from vidmamba.timeline import Caption

logger = logging.getLogger(__name__)

UNMATCHED = "abc123!@#"
"""The evaluator's reference for an event that is about no reference's time: one token."""
MOST_CAPTIONS = 1000
"""Captions a video that the evaluator takes."""

CaptionSet = Mapping[str, Sequence[Caption]]
"""The captions of each video, in any order."""


class _Video(NamedTuple):
    """One video's sentences, sorted by start, and the tIoU with those of each reference set."""

    predicted: list[Sentence]
    references: list[list[Sentence]]
    overlaps: list[Float64[np.ndarray, "P R"]]


def score_dense_captions(
    predicted: CaptionSet,
    references: Sequence[CaptionSet],
    *,
    thresholds: Sequence[float | int] = (0.3, 0.5, 0.7, 0.9),
    metrics: Collection[str] = FIELD_METRICS,
) -> dict[str, float]:
    """Return the scores of dense captions, 0 to 1, and CIDEr 0 to 10; tables print them times 100.

    - `score_captions`' metrics, `precision`, `recall` and their `f1`: means over thresholds; with
      `@0.3` and so on, at one. Precision and recall are the best of any reference set.
    - `soda_c`, the mean over reference sets, as PDVC reports it; `soda_c_best`, with the best set
      for each video, as SODA's authors do for several references.
    - `videos`; `videos_without_prediction`, which score 0; `videos_without_reference`, which are
      left out. Both kinds are named in the log.

    Args:
        predicted: captions of each video, by any model.
        references: each person's captions; one need not have those of all videos.
        thresholds: tIoU that a reference must reach, for precision and recall exceed, to count.
        metrics: some of ALL_METRICS.

    Raises:
        ValueError: there is no video, no threshold, or a threshold outside (0, 1]; a video has too
            many captions, or a reference set has a video without any.
    """
    _check(predicted, references, thresholds, metrics)
    names = list(dict.fromkeys(video for captions in references for video in captions))
    _report(names, predicted)
    videos = [
        _read(predicted.get(name, ()), [own[name] for own in references if name in own])
        for name in names
    ]
    rows = [_at(videos, threshold, metrics) for threshold in thresholds]
    scores = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    scores["f1"] = _harmonic_mean(scores["precision"], scores["recall"])
    scores |= _soda(videos, [[name in own for own in references] for name in names])
    for threshold, row in zip(thresholds, rows, strict=True):
        scores |= {f"{name}@{threshold:g}": value for name, value in row.items()}
    scores["videos"] = float(len(names))
    scores["videos_without_prediction"] = float(len(set(names) - set(predicted)))
    scores["videos_without_reference"] = float(len(set(predicted) - set(names)))
    return scores


def best_captions(captions: Sequence[Caption]) -> tuple[Caption, ...]:
    """Return as many of a video's captions as the evaluator takes, those of the highest scores."""
    best = sorted(range(len(captions)), key=lambda place: -captions[place].score)[:MOST_CAPTIONS]
    return tuple(captions[place] for place in sorted(best))


def _read(predicted: Sequence[Caption], references: Sequence[Sequence[Caption]]) -> _Video:
    own, *others = (
        sorted(events, key=lambda event: event.start) for events in (predicted, *references)
    )
    sentences = read_sentences(event.text for events in (own, *others) for event in events)
    return _Video(
        [sentences[event.text] for event in own],
        [[sentences[event.text] for event in other] for other in others],
        [overlaps(own, other) for other in others],
    )


def _at(
    videos: Sequence[_Video], threshold: float | int, metrics: Collection[str]
) -> dict[str, float]:
    """Return the means over videos at one threshold."""
    names = [
        name for metric in metrics for name in (bleu_names() if metric == "bleu" else [metric])
    ]
    names += ["precision", "recall"]
    total = dict.fromkeys(names, 0.0)
    unmatched = read_sentences([UNMATCHED])[UNMATCHED]
    for video in videos:
        if not video.predicted:
            continue
        pairs = [
            (own, [other])
            for place, own in enumerate(video.predicted)
            for other in _matching(video, place, threshold) or [unmatched]
        ]
        for name, value in (score_sentences(pairs, metrics) | _found(video, threshold)).items():
            total[name] += value
    return {name: value / len(videos) for name, value in total.items()}


def _matching(video: _Video, place: int, threshold: float | int) -> list[Sentence]:
    return [
        sentence
        for sentences, overlap in zip(video.references, video.overlaps, strict=True)
        for sentence, value in zip(sentences, overlap[place], strict=True)
        if value >= threshold
    ]


def _found(video: _Video, threshold: float | int) -> dict[str, float]:
    """Return how much of the predicted events, and of the references, the others cover."""
    covered = [overlap > threshold for overlap in video.overlaps]
    return {
        "precision": max(float(found.any(axis=1).mean()) for found in covered),
        "recall": max(float(found.any(axis=0).mean()) for found in covered),
    }


def _soda(videos: Sequence[_Video], present: Sequence[Sequence[bool]]) -> dict[str, float]:
    """Return SODA_c's two ways with several reference sets; `present`: each video's in each set."""
    sums, counts = np.zeros(len(present[0])), np.sum(present, axis=0)
    best = 0.0
    for video, sets in zip(videos, present, strict=True):
        scores = [
            soda_c(video.predicted, references, overlap)
            for references, overlap in zip(video.references, video.overlaps, strict=True)
        ]
        sums[np.flatnonzero(sets)] += scores
        best += max(scores)
    return {
        "soda_c": float(np.mean(sums / counts)),
        "soda_c_best": best / len(videos),
    }


def _harmonic_mean(first: float, second: float) -> float:
    return 2 * first * second / (first + second) if first + second else 0.0


def _report(names: Collection[str], predicted: CaptionSet) -> None:
    if missing := set(names) - set(predicted):
        logger.warning("%d videos have no prediction: %s", len(missing), names_of(missing))
    if extra := set(predicted) - set(names):
        logger.warning("%d videos have no reference: %s", len(extra), names_of(extra))


def _check(
    predicted: CaptionSet,
    references: Sequence[CaptionSet],
    thresholds: Sequence[float | int],
    metrics: Collection[str],
) -> None:
    check_metrics(metrics)
    if not thresholds or not all(0 < threshold <= 1 for threshold in thresholds):
        raise ValueError(f"thresholds must be above 0 and at most 1, got {[*thresholds]}")
    if not references or not all(references):
        raise ValueError("each reference set must have videos")
    for number, captions in enumerate(references, 1):
        if empty := [video for video, own in captions.items() if not own]:
            raise ValueError(f"reference set {number}: no captions for {names_of(empty)}")
    if many := [video for video, own in predicted.items() if len(own) > MOST_CAPTIONS]:
        raise ValueError(f"more than {MOST_CAPTIONS} captions for {names_of(many)}")
    if not set(predicted) & {video for captions in references for video in captions}:
        raise ValueError("none of the predicted videos has a reference; are their names the same?")
