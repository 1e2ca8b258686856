"""Classifying whole videos: it learns, scores as other code does, and refuses what does not fit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vidmamba.datasets.records import UNLABELLED, LabelledSet, VideoItem
from vidmamba.models.augment import AugmentConfig
from vidmamba.models.classifier import ClassifierConfig
from vidmamba.nn.stack import StackConfig
from vidmamba.tasks.checkpoints import load_checkpoint
from vidmamba.tasks.classification import (
    ClassificationTask,
    class_metrics,
    make_classification_task,
)
from vidmamba.tasks.optim import OptimConfig
from vidmamba.training import TrainerConfig, fit, seed_everything


def _video(number: int, *, multi_label: bool) -> VideoItem:
    """Its classes are the channels that flash once."""
    random = np.random.default_rng(number)
    frames = 12 + number % 5
    features = random.normal(0, 0.1, (frames, 3)).astype(np.float32)
    labels: tuple[int, ...] = (number % 3,)
    if multi_label:
        labels = tuple(label for label in range(3) if number >> label & 1)
    for label in labels:
        features[random.integers(frames), label] = 3.0
    return VideoItem(
        name=f"v{number}",
        features=features,
        labels=np.full(frames, UNLABELLED),
        timestamps=np.arange(frames) / 5.0,
        video_labels=labels,
    )


def _set(*, multi_label: bool) -> LabelledSet:
    items = tuple(_video(number, multi_label=multi_label) for number in range(48))
    return LabelledSet(
        class_names=(),
        background=(),
        train=items[:40],
        validation=items[40:],
        test=items[40:],
        feature_key={"width": 3},
        video_class_names=("red", "green", "blue"),
        multi_label=multi_label,
    )


def _task(data: LabelledSet) -> ClassificationTask:
    seed_everything(0)
    return make_classification_task(
        data,
        model=ClassifierConfig(
            stack=StackConfig(width=16, depth=1), augment=AugmentConfig(channel_dropout=0.0)
        ),
        optim=OptimConfig(lr=1e-2),
        data_config={"root": "x"},
    )


@pytest.mark.parametrize("multi_label", [False, True])
def test_it_learns_to_name_held_out_videos(tmp_path: Path, multi_label: bool) -> None:
    data = _set(multi_label=multi_label)
    config = TrainerConfig(epochs=12, batch_size=8, wandb="off")
    run = fit(_task(data), data, config, seed=0, output=tmp_path)
    task = load_checkpoint(run.last, device="cpu")
    assert isinstance(task, ClassificationTask)
    assert task.video_class_names == data.video_class_names
    right = 0
    for item in data.test:
        probabilities = task.probabilities(item.read_features())
        named = np.flatnonzero(probabilities > 0.5) if multi_label else [probabilities.argmax()]
        right += tuple(int(label) for label in named) == item.video_labels
    assert right >= 7


def test_top_1_top_5_and_map_are_what_counting_by_hand_gives() -> None:
    logits = torch.tensor([[9.0, 8, 7, 6, 5, 4], [4, 5, 6, 7, 8, 9]])
    scores = class_metrics(6, multi_label=False)(logits, torch.tensor([0, 0]))
    # of the six classes only the first is there, and in both videos: nothing can rank below them
    found = {name: float(value) for name, value in scores.items()}
    assert found == {"top1": 0.5, "top5": 0.5, "map": 1.0}
    # class 0 ranks its videos right, wrong, right: (1/1 + 2/3) / 2; class 1 ranks its one last
    logits = torch.tensor([[3.0, 3.0], [2.0, 2.0], [1.0, 1.0]])
    targets = torch.tensor([[1, 0], [0, 0], [1, 1]])
    scores = class_metrics(2, multi_label=True)(logits, targets)
    assert float(scores["map"]) == pytest.approx((5 / 6 + 1 / 3) / 2)


def test_one_class_and_other_classes_are_refused_by_name() -> None:
    data = _set(multi_label=False)
    task = _task(data)
    task.check_data(data)
    with pytest.raises(ValueError, match="violet"):
        task.check_data(replace(data, video_class_names=("red", "green", "violet")))
    with pytest.raises(ValueError, match="two classes"):
        _task(replace(data, video_class_names=(), train=(), validation=(), test=()))
