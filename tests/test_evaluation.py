import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from vidmamba.datasets.records import LabelledSet, VideoItem
from vidmamba.evaluation import evaluate_set, score_table
from vidmamba.models.segmenter import SegmenterConfig
from vidmamba.nn.stack import StackConfig
from vidmamba.tasks.optim import OptimConfig
from vidmamba.tasks.segmentation import FramePrediction, LossConfig, SegmentationTask, make_task


class Oracle(SegmentationTask):
    """Says what the features say: column c is the score of class c."""

    def predict_frames(self, features: np.ndarray) -> FramePrediction:
        return FramePrediction(features, features[:, 1])


def item(name: str, predicted: list[int], true: list[int]) -> VideoItem:
    return VideoItem(
        name=name,
        features=np.eye(3, dtype=np.float32)[predicted],
        labels=np.array(true, dtype=np.int64),
        timestamps=np.arange(len(true), dtype=np.float64),
    )


def data_of(*items: VideoItem, memory: tuple[int, ...] = ()) -> LabelledSet:
    return LabelledSet(
        class_names=("background", "stir", "pour"),
        background=(0,),
        train=items,
        validation=(),
        test=items,
        feature_key={"width": 3},
        memory_classes=memory,
    )


def oracle(data: LabelledSet) -> SegmentationTask:
    model = SegmenterConfig(stack=StackConfig(width=4, depth=0))
    task = make_task(data, model=model, optim=OptimConfig(), loss=LossConfig(), data_config={})
    task.__class__ = Oracle
    return task


def test_per_video_means_weigh_videos_and_pooled_ones_frames() -> None:
    data = data_of(item("right", [1, 1], [1, 1]), item("half", [1] * 4 + [2] * 4, [1] * 8))
    task = oracle(data)
    per_video = evaluate_set(task, data, part="test", convention="per_video")
    pooled = evaluate_set(task, data, part="test", convention="pooled")
    assert per_video.scores["accuracy"] == pytest.approx((100 + 50) / 2)
    assert pooled.scores["accuracy"] == pytest.approx(100 * 6 / 10)


def test_memory_accuracy_counts_frames_of_the_memory_classes_alone() -> None:
    data = data_of(item("v", [0, 1, 2, 2], [1, 1, 1, 2]), memory=(2,))
    assert evaluate_set(oracle(data), data, part="test").scores["memory_accuracy"] == 100
    data = data_of(item("v", [0, 1, 2, 2], [1, 1, 1, 2]), memory=(1, 2))
    assert evaluate_set(oracle(data), data, part="test").scores["memory_accuracy"] == 50


def test_only_every_nth_frame_is_scored_where_the_protocol_says_so() -> None:
    data = replace(data_of(item("v", [1, 2, 2, 1], [1, 1, 1, 1])), evaluation_stride=3)
    evaluation = evaluate_set(oracle(data), data, part="test")
    assert evaluation.true["v"].tolist() == [1, 1]
    assert evaluation.scores["accuracy"] == 100


def test_a_decoder_labels_what_is_scored() -> None:
    data = data_of(item("v", [1, 2, 1, 1], [1, 1, 1, 1]))

    def decode(log_probabilities: np.ndarray, boundaries: np.ndarray | None) -> np.ndarray:
        assert log_probabilities.max() == 0.0  # the oracle is sure
        assert boundaries is not None
        assert boundaries.tolist() == [1, 0, 1, 1]
        return np.full(len(log_probabilities), log_probabilities.sum(axis=0).argmax())

    assert evaluate_set(oracle(data), data, part="test").scores["accuracy"] == 75
    assert evaluate_set(oracle(data), data, part="test", decode=decode).scores["accuracy"] == 100


def test_a_published_evaluator_settles_frames_pooling_and_background() -> None:
    data = replace(
        data_of(item("a", [0, 0, 0, 1], [1, 0, 0, 1]), item("b", [2] * 6, [2] * 6)),
        evaluation_stride=2,
        background=(0, 1),
    )
    task = oracle(data)
    lea = evaluate_set(task, data, part="test", compat="lea")
    assert lea.scores["accuracy"] == 75  # frames 0 and 2 of a: half, and all of b
    assert lea.scores["edit"] == 100  # neither frame of a is an action
    family = evaluate_set(task, data, part="test", compat="asformer")
    assert family.scores["accuracy"] == 90  # 9 of 10 frames
    assert family.scores["edit"] == 75  # of a's actions 1 1, one was found
    # found: b's; a's last segment is one short, so without a frame, and its first is missed
    assert family.scores["f1@10"] == pytest.approx(200 / (2 + 3))


def test_an_empty_part_is_refused_by_name() -> None:
    data = data_of(item("v", [1], [1]))
    with pytest.raises(ValueError, match="validation part has no videos"):
        evaluate_set(oracle(data), data, part="validation")


def test_a_video_without_a_label_has_no_score() -> None:
    labelled, blank = item("v", [1, 2, 2, 1], [1, -1, 2, 2]), item("w", [1, 2], [-1, -1])
    data = data_of(blank, labelled)
    evaluation = evaluate_set(oracle(data), data, part="test")
    assert evaluation.scores["accuracy"] == pytest.approx(200 / 3)
    assert [*evaluation.as_dict()["videos"]] == ["v"]
    with pytest.raises(ValueError, match="no video of the test part is labelled"):
        evaluate_set(oracle(data), replace(data, test=(blank,)), part="test")


def test_the_table_shows_each_score_and_leaves_gaps_where_there_is_none() -> None:
    rows = {"ours": {"accuracy": 91.234, "edit": 80.0}, "probe": {"accuracy": 54.9}}
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(score_table(rows))
    text = console.export_text()
    assert "91.2" in text
    assert "80.0" in text
    assert "54.9" in text
    assert text.count("80.0") == 1
