"""Scores of one caption a video against that video's references."""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain

from vidmamba.metrics.captions.cider import cider_d, cider_d_each, cider_plain
from vidmamba.metrics.captions.corpus import bleu, meteor, rouge_l
from vidmamba.metrics.captions.sentence import LONGEST, Scored, read_sentences

FIELD_METRICS = ("bleu", "meteor_exact_stem", "rouge_l", "cider_d")
"""What coco-caption computes: CIDEr-D is what it and most tables call CIDEr."""
ALL_METRICS = (*FIELD_METRICS, "cider_plain")

KNOWN_DIFFERENCES = (
    "meteor_exact_stem: METEOR 1.5 without its synonyms and paraphrases, which need WordNet and "
    "Java; lower than METEOR, and not to be compared with it",
    "soda_c: made with that METEOR, so lower than published SODA_c too",
    "cider_d: what coco-caption and most tables call CIDEr",
    "tokens: Stanford's PTBTokenizer drops emoji, and densevid_eval all that is not ASCII; both "
    "are kept",
)
"""What to say beside every figure: where it is not the field's own."""

_SINGLE: dict[str, Callable[[Scored], float]] = {
    "meteor_exact_stem": meteor,
    "rouge_l": rouge_l,
    "cider_d": cider_d,
    "cider_plain": cider_plain,
}


def score_captions(
    predicted: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    metrics: Collection[str] = FIELD_METRICS,
) -> dict[str, float]:
    """Return the scores that coco-caption prints, on its scale: 0 to 1, and CIDEr 0 to 10.

    The keys are `bleu1` to `bleu4`, and the other metrics' own names. KNOWN_DIFFERENCES says where
    they are not the field's own numbers; all others equal pycocoevalcap's.

    Args:
        predicted: one caption a video; an empty one scores nothing, and counts.
        references: the human captions of each video.
        metrics: some of ALL_METRICS.

    Raises:
        ValueError: the two name different videos, there is none, one has no reference, or a metric
            does not exist.
    """
    check_metrics(metrics)
    return score_sentences(_read(predicted, references), metrics)


def score_each_caption(
    predicted: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, float]]:
    """Return the `cider_d` and `bleu4` of each video, on the scale of `score_captions`.

    N-grams are as rare as in all videos together: among the references of one video alone none is,
    and its CIDEr would be 0 whatever was said of it. The mean of these is the set's CIDEr-D.

    Raises:
        ValueError: as `score_captions`.
    """
    scored = _read(predicted, references)
    ciders = cider_d_each(scored)
    return {
        video: {"cider_d": cider, "bleu4": bleu([own])[-1]}
        for video, cider, own in zip(predicted, ciders, scored, strict=True)
    }


def _read(predicted: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> Scored:
    """Return the sentences of each video, in the order of the predicted ones."""
    _check_videos(predicted, references)
    sentences = read_sentences(chain(predicted.values(), *references.values()))
    return [
        (sentences[text], [sentences[reference] for reference in references[video]])
        for video, text in predicted.items()
    ]


def score_sentences(scored: Scored, metrics: Collection[str]) -> dict[str, float]:
    """Return `score_captions`' dict for sentences that are read already."""
    scores: dict[str, float] = {}
    for metric in metrics:
        if metric == "bleu":
            scores |= dict(zip(bleu_names(), bleu(scored), strict=True))
        else:
            scores[metric] = _SINGLE[metric](scored)
    return scores


def bleu_names() -> list[str]:
    """Return bleu1 to bleu4."""
    return [f"bleu{size}" for size in range(1, LONGEST + 1)]


def names_of(videos: Collection[str]) -> str:
    """Return the videos' names for a message, the first few of many."""
    shown = ", ".join(sorted(videos)[:5])
    return shown if len(videos) <= 5 else f"{shown} and {len(videos) - 5} more"


def check_metrics(metrics: Collection[str]) -> None:
    """Raise ValueError where a metric does not exist."""
    unknown = [metric for metric in metrics if metric not in ALL_METRICS]
    if unknown or isinstance(metrics, str):
        known = ", ".join(ALL_METRICS)
        raise ValueError(f"metrics must be some of {known}, got {unknown or metrics}")


def _check_videos(predicted: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> None:
    if not predicted and not references:
        raise ValueError("there is no video to score")
    if missing := set(references) - set(predicted):
        raise ValueError(f"videos without a prediction: {names_of(missing)}; predict '' for none")
    if extra := set(predicted) - set(references):
        raise ValueError(f"predictions of videos without references: {names_of(extra)}")
    empty = [video for video, own in references.items() if not own]
    if empty:
        raise ValueError(f"videos with no reference: {names_of(empty)}")
    if texts := [video for video, own in references.items() if isinstance(own, str)]:
        raise ValueError(f"references must be lists of captions, not a text: {names_of(texts)}")
