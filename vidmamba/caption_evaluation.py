"""Score what a captioner says of videos that it was not chosen by."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vidmamba.caption_inference import caption_items
from vidmamba.datasets.captions import events_of
from vidmamba.datasets.records import LabelledSet, VideoItem
from vidmamba.evaluation import Part
from vidmamba.metrics.captions import (
    KNOWN_DIFFERENCES,
    best_captions,
    score_captions,
    score_dense_captions,
)
from vidmamba.metrics.who_did_what import ERRANDS, score_who_did_what
from vidmamba.tasks.caption_scores import best_text
from vidmamba.tasks.captioning import CaptioningTask
from vidmamba.timeline import Caption

logger = logging.getLogger(__name__)

CaptionsOf = Mapping[str, Sequence[Caption]]


@dataclass(frozen=True, kw_only=True)
class CaptionEvaluation:
    """Scores in percent, and the captions behind them."""

    scores: dict[str, float]
    """Of clips, `score_captions`'; of dense captions, `score_dense_captions`' means and SODA_c."""

    who_did_what: dict[str, float]
    """`score_who_did_what`; empty where the sentences are not of errands' forms."""

    predicted: CaptionsOf
    """Each video's predicted captions."""

    true: CaptionsOf
    """Each video's true captions."""

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, JSON-able, with the differences from the field's code."""
        videos = {
            name: {"predicted": _plain(self.predicted[name]), "true": _plain(self.true[name])}
            for name in self.true
        }
        return {
            "scores": self.scores,
            "who_did_what": self.who_did_what,
            "differences": list(KNOWN_DIFFERENCES),
            "videos": videos,
        }


def evaluate_captions(task: CaptioningTask, data: LabelledSet, *, part: Part) -> CaptionEvaluation:
    """Describe every video of a part that people described, and compare.

    Raises:
        ValueError: the data is not what the model was trained for, or no video has a caption.
    """
    task.check_data(data)
    items: Sequence[VideoItem] = [item for item in getattr(data, part) if item.captions]
    if not items:
        raise ValueError(f"there is nothing to evaluate: the {part} part has no captions")
    predicted = caption_items(task, items)
    true = {item.name: item.captions for item in items}
    dense = any(len(events_of(captions)) > 1 for captions in true.values())
    if dense:
        found = score_dense_captions(as_evaluated(predicted), [true])
        kept = [name for name in found if "@" not in name and not name.startswith("videos")]
    else:
        texts = {name: best_text(own) for name, own in predicted.items()}
        references = {name: [caption.text for caption in own] for name, own in true.items()}
        found = score_captions(texts, references)
        kept = [*found]
    return CaptionEvaluation(
        scores={name: 100 * found[name] for name in kept},
        who_did_what=_who_did_what([(predicted[name], true[name]) for name in true]),
        predicted=predicted,
        true=true,
    )


def as_evaluated(captions: CaptionsOf) -> dict[str, tuple[Caption, ...]]:
    """Return as many captions of each video as ActivityNet's evaluation takes, the surest ones."""
    best = {name: best_captions(own) for name, own in captions.items()}
    if cut := [name for name, own in best.items() if len(own) < len(captions[name])]:
        line = "%s: %d captions, of which the evaluation takes the %d with the highest scores"
        for name in cut:
            logger.warning(line, name, len(captions[name]), len(best[name]))
    return best


def _who_did_what(
    videos: Sequence[tuple[Sequence[Caption], Sequence[Caption]]],
) -> dict[str, float]:
    sentences = (caption.text for _, true in videos for caption in true)
    if any(ERRANDS.parse(text) is None for text in sentences):
        return {}
    return score_who_did_what(videos, ERRANDS)


def _plain(captions: Sequence[Caption]) -> list[dict[str, Any]]:
    return [
        {"start": one.start, "end": one.end, "text": one.text, "score": one.score}
        for one in captions
    ]
