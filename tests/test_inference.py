from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidmamba.config import to_plain
from vidmamba.data import DataConfig
from vidmamba.features.store import StoredFeatures
from vidmamba.inference import backbone_of, timeline_of
from vidmamba.models.backbone import BackboneConfig
from vidmamba.models.segmenter import SegmenterConfig
from vidmamba.nn.stack import StackConfig
from vidmamba.tasks.optim import OptimConfig
from vidmamba.tasks.segmentation import LossConfig, SegmentationTask


class Oracle(SegmentationTask):
    """Says what the features say: column c is the probability of class c."""

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        return features


def oracle(features: dict[str, Any], data: DataConfig = DataConfig(root="x")) -> Oracle:
    return Oracle(
        model=to_plain(SegmenterConfig(stack=StackConfig(width=4, depth=0))),
        optim=to_plain(OptimConfig()),
        loss=to_plain(LossConfig()),
        labels={"class_names": ["a", "b"], "background": [], "memory_classes": []},
        features=features,
        data=to_plain(data),
    )


def stored(labels: list[int], times: list[float], *, fps: float | None) -> StoredFeatures:
    return StoredFeatures(
        features=np.eye(2, dtype=np.float16)[labels],
        timestamps=np.array(times),
        fps=fps,
        duration=2.0,
        video=Path("folder/clip.mp4"),
        meta={"damage": None},
    )


def spans(timeline: Any) -> list[tuple[str, float, float]]:
    return [(segment.label, segment.start, segment.end) for segment in timeline.segments]


def test_segments_begin_at_the_true_times_of_frames_of_a_variable_rate() -> None:
    features = stored([0, 0, 1, 1], [0.0, 0.1, 0.9, 1.0], fps=None)
    assert spans(timeline_of(oracle({"width": 2}), features)) == [("a", 0, 0.9), ("b", 0.9, 2)]


def test_a_frame_that_stays_on_screen_answers_for_every_tick() -> None:
    features = stored([0, 0, 1, 1], [0.0, 0.0, 0.0, 1.4], fps=2.0)
    assert spans(timeline_of(oracle({"width": 2}), features)) == [("a", 0, 1.0), ("b", 1.0, 2)]


def test_a_video_of_one_frame_has_one_segment() -> None:
    timeline = timeline_of(oracle({"width": 2}), stored([1], [0.0], fps=None))
    assert spans(timeline) == [("b", 0, timeline.duration)]


def test_a_container_that_claims_too_little_does_not_cut_frames_off() -> None:
    features = stored([0, 1], [0.0, 3.0], fps=None)
    timeline = timeline_of(oracle({"width": 2}), features)
    assert timeline.duration > 3.0
    assert timeline.segments[-1].label == "b"


def test_a_checkpoint_trained_on_files_cannot_be_run_on_video() -> None:
    with pytest.raises(ValueError, match="feature files that no backbone of ours made"):
        backbone_of(oracle({"width": 2, "format": "mstcn"}))


def test_a_backbone_with_other_weights_is_refused() -> None:
    backbone = BackboneConfig(name="resnet18", weights="random")
    config = DataConfig(root="x", format="errands", backbone=backbone)
    features = {"width": 512, "fps": None, "backbone": {"name": "resnet18", "weights": "0000"}}
    with pytest.raises(ValueError, match="weights: expected '0000'"):
        backbone_of(oracle(features, config))
