"""Orders of actions are placed in videos, by nothing but features and orders."""

from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest

from vidmamba.benchmark.recipes import Settings, WeakConfig
from vidmamba.benchmark.weak import place_orders
from vidmamba.datasets.records import LabelledSet, VideoItem
from vidmamba.models.augment import AugmentConfig
from vidmamba.models.segmenter import SegmenterConfig
from vidmamba.nn.stack import StackConfig
from vidmamba.tasks.optim import OptimConfig
from vidmamba.training import TrainerConfig, seed_everything

SETTINGS = Settings(
    model=SegmenterConfig(
        stack=StackConfig(width=16), augment=AugmentConfig(channel_dropout=0.0), refinements=1
    ),
    optim=OptimConfig(lr=1e-2),
    trainer=TrainerConfig(batch_size=4, ema=0.9, accelerator="cpu"),
    weak=WeakConfig(rounds=6, epochs=4, duration_weight=1),
)


def order_of(labels: np.ndarray) -> list[int]:
    return [label for label, _ in groupby(labels.tolist())]


def videos() -> LabelledSet:
    """Eight videos of four classes, their segments of very different lengths."""
    random = np.random.default_rng(1)
    items = []
    for number in range(8):
        order = [random.permutation(4) for _ in range(2)]
        labels = np.concatenate(order).repeat(random.integers(4, 40, 8))
        features = np.eye(4)[labels] + random.normal(0, 0.3, (len(labels), 4))
        items.append(
            VideoItem(
                name=f"v{number}",
                features=features.astype(np.float32),
                labels=labels,
                timestamps=np.arange(len(labels)) / 5.0,
            )
        )
    return LabelledSet(
        class_names=tuple("abcd"),
        background=(),
        train=tuple(items),
        validation=(),
        test=tuple(items),
        feature_key={"width": 4},
    )


def placed(data: LabelledSet, settings: Settings = SETTINGS) -> list[np.ndarray]:
    seed_everything(0)
    return [item.labels for item in place_orders(data, settings, seed=0, device="cpu")]


def test_actions_are_found_though_no_frame_is_labelled() -> None:
    data = videos()
    found = placed(data)
    true = [item.labels for item in data.train]
    assert [order_of(labels) for labels in found] == [order_of(labels) for labels in true]
    even = placed(data, replace(SETTINGS, weak=WeakConfig(rounds=0)))
    for labels in even:
        lengths = [len([*group]) for _, group in groupby(labels.tolist())]
        assert max(lengths) - min(lengths) <= 1

    def right(labels: list[np.ndarray]) -> float:
        return float(np.mean(np.concatenate(labels) == np.concatenate(true)))

    assert right(found) > 0.97
    assert right(even) < 0.7


def test_nothing_of_a_frames_label_is_read_but_the_order() -> None:
    data = videos()
    elsewhere = tuple(
        replace(item, labels=np.repeat(order, [item.num_frames - len(order) + 1] + [1] * 7))
        for item in data.train
        for order in [order_of(item.labels)]
        if len(order) == 8
    )
    same = tuple(item for item in data.train if len(order_of(item.labels)) == 8)
    assert len(same) > 3
    # a shifted view tells where actions lie as well
    same = tuple(
        replace(item, shifted=(replace(item, timestamps=item.timestamps + 0.09),)) for item in same
    )
    one = placed(replace(data, train=same))
    other = placed(replace(data, train=elsewhere))
    for labels, again in zip(one, other, strict=True):
        np.testing.assert_array_equal(labels, again)
    seed_everything(0)
    for item in place_orders(replace(data, train=same), SETTINGS, seed=0, device="cpu"):
        for view in item.views:
            np.testing.assert_array_equal(view.labels, item.labels)
    later = tuple(
        replace(item, shifted=(replace(item, timestamps=item.timestamps + 0.11),)) for item in same
    )
    for item in place_orders(replace(data, train=later), SETTINGS, seed=0, device="cpu"):
        np.testing.assert_array_equal(item.shifted[0].labels[:-1], item.labels[1:])


def test_a_video_without_a_label_has_no_order() -> None:
    data = videos()
    blank = replace(data.train[0], labels=np.full(data.train[0].num_frames, -1))
    with pytest.raises(ValueError, match="v0: without a labelled frame"):
        placed(replace(data, train=(blank,)))


@pytest.mark.parametrize("options", [{"rounds": -1}, {"epochs": 0}, {"duration_weight": -1}])
def test_what_cannot_be_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must hold, got"):
        WeakConfig(**options)
