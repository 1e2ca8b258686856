"""What validation scores captions by: a number for all videos, and the same of each."""

from collections.abc import Mapping, Sequence
from itertools import islice

from vidmamba.metrics.captions import (
    best_captions,
    score_captions,
    score_dense_captions,
    score_each_caption,
)
from vidmamba.timeline import Caption

CaptionPairs = dict[str, tuple[tuple[Caption, ...], tuple[Caption, ...]]]
"""Predicted and true captions of videos, by name."""


def score_pairs(told: CaptionPairs, *, dense: bool) -> dict[str, float]:
    """Return SODA_c, of clips CIDEr-D, in percent; after it what explains it.

    Raises:
        ValueError: no video has a true caption.
    """
    told = {name: pair for name, pair in told.items() if pair[1]}
    if not told:
        raise ValueError("no validation video has a caption; choose by the loss: score=loss")
    if dense:
        # an untrained model may say any number
        found = {name: best_captions(own) for name, (own, _) in told.items()}
        true = {name: true for name, (_, true) in told.items()}
        scores = score_dense_captions(found, [true], metrics=())
        return _percent({name: scores[name] for name in ("soda_c", "precision", "recall")})
    scores = score_captions(*_texts(told), metrics=("cider_d", "bleu"))
    return _percent({name: scores[name] for name in ("cider_d", "bleu4")})


def score_each(told: CaptionPairs, *, dense: bool, most: int) -> dict[str, dict[str, float]]:
    """Return `score_pairs`' scores of each video that has true captions, the first ``most`` alone.

    Words of clips are as rare as in all of them: those of one clip alone would score 0.
    """
    told = {name: pair for name, pair in told.items() if pair[1]}
    if not told:
        return {}
    shown = dict(islice(told.items(), most))
    if dense:
        return {name: score_pairs({name: pair}, dense=True) for name, pair in shown.items()}
    each = score_each_caption(*_texts(told))
    return {name: _percent(each[name]) for name in shown}


def best_text(captions: Sequence[Caption]) -> str:
    """Return what is said of a clip: the sentence of the highest score, "" where there is none."""
    return max(captions, key=lambda caption: caption.score).text if captions else ""


def _texts(told: CaptionPairs) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return what is said of each clip, and what people said of it."""
    said = {name: best_text(own) for name, (own, _) in told.items()}
    return said, {name: [caption.text for caption in true] for name, (_, true) in told.items()}


def _percent(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: 100 * score for name, score in scores.items()}
