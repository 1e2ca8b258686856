"""Score a trained model on videos that it was not chosen by."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from rich import box
from rich.table import Table

from vidmamba.datasets.records import LabelledSet, VideoItem
from vidmamba.metrics import score_videos
from vidmamba.metrics.videos import COMPATS, CompatName
from vidmamba.tasks.classification import ClassificationTask, class_metrics
from vidmamba.tasks.segmentation import SegmentationTask

Convention = Literal["per_video", "pooled"]
Part = Literal["train", "validation", "test"]
Decode = Callable[[Float[np.ndarray, "T C"], Float[np.ndarray, " T"] | None], Int[np.ndarray, " T"]]
"""From a video's log-probabilities, and the probabilities that segments begin (None where the model
does not say), to its labels."""

LEAST = 1e-8
"""Probabilities below count as this in their logarithms."""

MOST_COLUMNS = 8
"""Scores that stand side by side on a terminal of 80 columns."""

HEADINGS = {
    "top1": "Top-1",
    "top5": "Top-5",
    "map": "mAP",
    "ranking": "Ranking AP",
    "accuracy": "Acc",
    "edit": "Edit",
    "f1@10": "F1@10",
    "f1@25": "F1@25",
    "f1@50": "F1@50",
    "memory_accuracy": "Memory",
    "bleu1": "BLEU-1",
    "bleu2": "BLEU-2",
    "bleu3": "BLEU-3",
    "bleu4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "cider_d": "CIDEr-D",
    "meteor_exact_stem": "METEOR (exact, stem)",
    "soda_c": "SODA_c",
    "soda_c_best": "SODA_c, best",
}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores in percent, and the frame labels behind them."""

    scores: dict[str, float]
    """accuracy, edit, f1@10, f1@25, f1@50; memory_accuracy where the data names such classes."""

    predicted: dict[str, np.ndarray]
    """Each video's predicted labels, at the scored frames."""

    true: dict[str, np.ndarray]
    """Each video's true labels, at the same frames."""

    background: tuple[int, ...]
    """Labels that Edit and F1 leave out."""

    def as_dict(self) -> dict[str, Any]:
        """Return scores and per-video scores, JSON-able."""
        return {"scores": self.scores, "videos": {name: self.of_video(name) for name in self.true}}

    def of_video(self, name: str) -> dict[str, float]:
        """Return the scores of one video."""
        return score_videos([(self.predicted[name], self.true[name])], background=self.background)


def evaluate_set(
    task: SegmentationTask,
    data: LabelledSet,
    *,
    part: Part,
    convention: Convention = "per_video",
    compat: CompatName | None = None,
    decode: Decode | None = None,
) -> Evaluation:
    """Predict every video of a part and score it at the frames that the data's protocol names.

    A video of which none of those is labelled has no score, and is left out.

    Args:
        task: the trained model.
        data: holds the part's videos.
        part: which videos are scored.
        convention: how videos' scores are brought together.
        compat: a published evaluator, by name; it settles the convention, the frames that are
            scored, the background and the last segment's end.
        decode: labels a video by what the model says of its frames; by default each frame gets
            its likeliest class.

    Raises:
        ValueError: the data is not what the model was trained for, or the part is empty, or none
            of its videos is labelled.
    """
    task.check_data(data)
    items: Sequence[VideoItem] = getattr(data, part)
    if not items:
        raise ValueError(f"there is nothing to evaluate: the {part} part has no videos")
    rules = COMPATS[compat] if compat else None
    stride = rules.stride(data.evaluation_stride) if rules else data.evaluation_stride
    background = rules.background(task.class_names, task.background) if rules else task.background
    predicted, true = {}, {}
    for item in items:
        frames = task.predict_frames(item.read_features())
        labels = (
            decode(log_probabilities(frames.probabilities), frames.boundaries)
            if decode
            else frames.probabilities.argmax(axis=-1)
        )
        found, expected = item.scored(labels, stride=stride)
        if len(expected):
            predicted[item.name], true[item.name] = found, expected
    if not true:
        raise ValueError(f"there is nothing to evaluate: no video of the {part} part is labelled")
    scores = score_videos(
        [(predicted[name], true[name]) for name in true],
        convention=rules.convention if rules else convention,
        background=background,
        last_segment_end=rules.last_segment_end if rules else None,
    )
    if task.memory_classes:
        scores["memory_accuracy"] = _accuracy_on(task.memory_classes, predicted, true)
    return Evaluation(scores=scores, predicted=predicted, true=true, background=background)


@dataclass(frozen=True, kw_only=True)
class ClassEvaluation:
    """Scores of whole videos in percent, and what they rest on."""

    scores: dict[str, float]
    """top1, top5 and map; with several labels a video map and ranking (`class_metrics`)."""

    probabilities: dict[str, dict[str, float]]
    """Each video's class probabilities, by name."""

    true: dict[str, list[str]]
    """Each video's true classes."""

    def as_dict(self) -> dict[str, Any]:
        """Return scores and what was said of each video, JSON-able."""
        videos = {
            name: {"true": self.true[name], "probabilities": self.probabilities[name]}
            for name in self.true
        }
        return {"scores": self.scores, "videos": videos}


def evaluate_classes(task: ClassificationTask, data: LabelledSet, *, part: Part) -> ClassEvaluation:
    """Classify every video of a part.

    Raises:
        ValueError: the data is not what the model was trained for, or the part is empty.
    """
    task.check_data(data)
    items: Sequence[VideoItem] = getattr(data, part)
    if not items:
        raise ValueError(f"there is nothing to evaluate: the {part} part has no videos")
    names = task.video_class_names
    rows = [task.probabilities(item.read_features()) for item in items]
    targets = torch.zeros(len(items), len(names), dtype=torch.long)
    for row, item in enumerate(items):
        targets[row, list(item.video_labels)] = 1
    metrics = class_metrics(len(names), multi_label=task.multi_label)
    predicted = torch.from_numpy(np.stack(rows))
    found = metrics(predicted, targets if task.multi_label else targets.argmax(dim=1))
    return ClassEvaluation(
        scores={name: 100 * float(value) for name, value in found.items()},
        probabilities={
            item.name: {name: float(p) for name, p in zip(names, row, strict=True)}
            for item, row in zip(items, rows, strict=True)
        },
        true={item.name: [names[label] for label in item.video_labels] for item in items},
    )


def log_probabilities(probabilities: Float[np.ndarray, "T C"]) -> Float[np.ndarray, "T C"]:
    """Return logarithms, finite ones, as decoders take them."""
    return np.log(np.maximum(probabilities, LEAST))


def score_table(rows: Mapping[str, Mapping[str, float]], *, title: str | None = None) -> Table:
    """Lay out scores in percent, one row a model; many scores, one row a score."""
    names = [*{name: None for scores in rows.values() for name in scores}]
    headings = [HEADINGS.get(name, name.replace("_", " ")) for name in names]
    cells = [
        [f"{scores[name]:.1f}" if name in scores else "" for name in names]
        for scores in rows.values()
    ]
    labels = [*rows]
    if len(names) > MOST_COLUMNS:
        labels, headings = headings, labels
        cells = [[*column] for column in zip(*cells, strict=True)]
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("")
    for heading in headings:
        table.add_column(heading, justify="right")
    for label, row in zip(labels, cells, strict=True):
        table.add_row(label, *row)
    return table


def _accuracy_on(
    classes: Sequence[int], predicted: dict[str, np.ndarray], true: dict[str, np.ndarray]
) -> float:
    """Percentage of right frames among those whose true class is one of ``classes``."""
    all_predicted = np.concatenate([predicted[name] for name in true])
    all_true = np.concatenate([*true.values()])
    counted = np.isin(all_true, classes)
    return float(100 * (all_predicted == all_true)[counted].mean()) if counted.any() else 0.0
