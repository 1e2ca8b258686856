"""Training videos of which the order of actions alone is known: where do the actions lie?"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
import torch
from jaxtyping import Float, Int64

from vidmamba.benchmark.quick import train_quickly
from vidmamba.benchmark.recipes import Settings
from vidmamba.datasets.records import LabelledSet, VideoItem
from vidmamba.decoding import align, learn_durations
from vidmamba.evaluation import log_probabilities
from vidmamba.models.segmenter import SegmenterConfig
from vidmamba.tasks.segmentation import LossConfig, make_task

PLACES = 250
"""Where an action may start at first, in a video, before starts are moved to the best frames."""


def place_orders(
    data: LabelledSet, settings: Settings, *, seed: int, device: torch.device | str
) -> tuple[VideoItem, ...]:
    """Return the training videos with labels that follow from the order of their actions alone.

    Each video is first shared out evenly among its actions. Then, round by round, a frame-wise
    model learns the labels, and the order is placed again where that model, divided by how frequent
    each class is, and the lengths found so far say: hard expectation maximisation, as in Richard,
    Kuehne, Iqbal and Gall, NeuralNetwork-Viterbi (CVPR 2018), sections 3.2 and 3.4, for all videos
    at once. A model that looks around itself learns the even shares by heart; without the division
    background takes all.

    Args:
        data: of its training labels nothing but their order is read.
        settings: `weak` says how long; width, augmentation and optimiser are those of training.
        seed: fixes the order of the videos.
        device: where to train.
    """
    orders = [_order(item) for item in data.train]
    items = [
        replace(
            item,
            features=item.read_features(),
            labels=_shared_out(order, item.num_frames),
            shifted=(),  # they have labels of their own, which nobody may know here
        )
        for item, order in zip(data.train, orders, strict=True)
    ]
    model = SegmenterConfig(
        stack=replace(settings.model.stack, depth=0), augment=settings.model.augment
    )
    task = make_task(
        replace(data, train=tuple(items)),
        model=model,
        optim=settings.optim,
        loss=LossConfig(),
        data_config={},
    )
    trainer = replace(settings.trainer, epochs=settings.weak.epochs)
    for number in range(settings.weak.rounds):
        train_quickly(task, items, trainer, seed=seed + number, device=device)
        said = [
            log_probabilities(task.predict_frames(item.read_features()).probabilities)
            for item in items
        ]
        items = _placed_again(items, orders, said, settings.weak.duration_weight)
    return tuple(
        replace(item, shifted=tuple(_labelled_by(item, view) for view in own.shifted))
        for item, own in zip(items, data.train, strict=True)
    )


def _placed_again(
    items: Sequence[VideoItem],
    orders: Sequence[Sequence[int]],
    said: Sequence[Float[np.ndarray, "_ C"]],
    duration_weight: float | int,
) -> list[VideoItem]:
    num_classes = said[0].shape[1]
    labels = [item.labels for item in items]
    durations = learn_durations(labels, num_classes, weight=duration_weight)
    # one more frame each: a class that nobody shows has no frequency
    counts = np.bincount(np.concatenate(labels), minlength=num_classes) + 1
    rarity = np.log(counts / counts.sum())
    placed = []
    for item, order, frames in zip(items, orders, said, strict=True):
        stride = min(item.num_frames // PLACES, item.num_frames // len(order))
        found = align(frames - rarity, order, durations, stride=max(stride, 1))
        placed.append(replace(item, labels=found))
    return placed


def _labelled_by(item: VideoItem, view: VideoItem) -> VideoItem:
    """Return a shifted view with the labels of the item's frames that are nearest in time."""
    borders = (item.timestamps[1:] + item.timestamps[:-1]) / 2
    return replace(view, labels=item.labels[np.searchsorted(borders, view.timestamps)])


def _order(item: VideoItem) -> list[int]:
    order = [label for label, _ in groupby(item.labels[item.labels >= 0].tolist())]
    if not order:
        raise ValueError(f"{item.name}: without a labelled frame there is no order of actions")
    return order


def _shared_out(order: Sequence[int], num_frames: int) -> Int64[np.ndarray, " T"]:
    place = np.arange(num_frames) * len(order) // num_frames
    return np.array(order, dtype=np.int64)[place]
