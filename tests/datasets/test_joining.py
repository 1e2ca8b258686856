from pathlib import Path

import numpy as np
import pytest

from vidmamba.datasets.annotations import AnnotatedVideo, Annotations
from vidmamba.datasets.feature_file import FeatureFile, open_feature_files
from vidmamba.datasets.joining import VideoFeatures, join_features
from vidmamba.datasets.parts import Part
from vidmamba.datasets.records import LabelledSet, VideoItem
from vidmamba.timeline import Segment


def _video(
    name: str,
    *spans: tuple[float | int, float | int, str],
    labels: tuple[str, ...] = (),
    span: tuple[float, float] | None = None,
) -> AnnotatedVideo:
    return AnnotatedVideo(
        name=name,
        where=f"list.csv:{name}",
        files=(name,),
        segments=tuple(Segment(start=float(s), end=float(e), label=label) for s, e, label in spans),
        video_labels=labels,
        span=span,
    )


class Features:
    """Files of features whose first entry is the number of the frame."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, name: str, frames: int, *, fps: float | int = 1) -> VideoFeatures:
        path = self.root / f"{name}.npy"
        np.save(path, np.arange(frames * 2, dtype=np.float32).reshape(frames, 2) / 2)
        file = FeatureFile(path=path, frames_first=True, num_frames=frames, width=2)
        return VideoFeatures(features=file, timestamps=np.arange(frames) / fps)


@pytest.fixture
def features(tmp_path: Path) -> Features:
    return Features(tmp_path)


def _join(
    videos: list[AnnotatedVideo],
    found: dict[str, VideoFeatures],
    *,
    class_names: tuple[str, ...] = ("cut", "pour"),
    video_class_names: tuple[str, ...] = (),
    parts: dict[str, Part] | None = None,
    **options: object,
) -> LabelledSet:
    annotations = Annotations(
        videos=tuple(videos), class_names=class_names, video_class_names=video_class_names
    )
    every: dict[str, Part] = {video.name: "train" for video in videos}
    chosen = every if parts is None else parts
    return join_features(annotations, chosen, found, feature_key={"width": 2}, **options)  # type: ignore[arg-type]


def _only(data: LabelledSet) -> VideoItem:
    (item,) = data.train
    return item


def test_each_frame_has_the_class_of_its_time(features: Features) -> None:
    video = _video("a", (0.5, 1.5, "cut"), (1.5, 3, "pour"))
    data = _join([video], {"a": features("a", 8, fps=2)})
    assert data.class_names == ("background", "cut", "pour")
    assert data.background == (0,)
    # frames at 0, 0.5, 1, ... s
    assert _only(data).labels.tolist() == [0, 1, 1, 2, 2, 2, 0, 0]
    unlabelled = _join([video], {"a": features("a", 8, fps=2)}, gaps="unlabelled")
    assert unlabelled.class_names == ("cut", "pour")
    assert unlabelled.background == ()
    assert _only(unlabelled).labels.tolist() == [-1, 0, 0, 1, 1, 1, -1, -1]


def test_a_clock_that_runs_early_by_less_than_a_millisecond_changes_nothing(
    features: Features,
) -> None:
    stored = features("a", 4)
    early = VideoFeatures(features=stored.features, timestamps=stored.timestamps - 9e-4)
    video = _video("a", (1, 2, "cut"), (2, 4, "pour"))
    for one in (stored, early):
        assert _only(_join([video], {"a": one})).labels.tolist() == [0, 1, 2, 2]


def test_a_class_called_background_is_the_gaps_own(features: Features) -> None:
    video = _video("a", (1, 2, "cut"), (2, 3, "background"))
    found = {"a": features("a", 4)}
    data = _join([video], found, class_names=("cut", "background"))
    assert data.class_names == ("cut", "background")
    assert _only(data).labels.tolist() == [1, 0, 1, 1]
    assert data.background == (1,)
    named = _join([video], found, class_names=("cut", "background"), background=["cut"])
    assert named.background == (0,)
    with pytest.raises(ValueError, match=r"background classes \['x'\] are not among"):
        _join([video], found, class_names=("cut", "background"), background=["x"])


def test_overlapping_segments_are_counted_in_one_warning(
    features: Features, caplog: pytest.LogCaptureFixture
) -> None:
    videos = [
        _video("a", (0, 6, "cut"), (2, 4, "pour")),
        _video("b", (0, 2, "cut"), (2, 4, "pour")),
        _video("c", (1, 2, "pour"), (1, 2, "cut")),
    ]
    data = _join(videos, {name: features(name, 6) for name in "abc"})
    assert [item.labels.tolist() for item in data.train] == [
        [1, 1, 2, 2, 1, 1],
        [1, 1, 2, 2, 0, 0],
        [0, 2, 0, 0, 0, 0],
    ]
    assert caplog.messages == [
        "segments overlap in 2 of 3 videos (a, c): a frame gets the class of the segment that "
        "starts last, so that 2 segments are covered, 1 of them whole, 3.0 s in all"
    ]


def test_segments_after_the_end_and_unseen_classes_and_empty_parts_are_said(
    features: Features, caplog: pytest.LogCaptureFixture
) -> None:
    videos = [_video("a", (0, 1, "cut"), (5, 6, "pour")), _video("b", (0, 1, "cut"))]
    parts: dict[str, Part] = {"a": "train", "b": "test"}
    _join(videos, {"a": features("a", 3)}, parts=parts)
    assert caplog.messages == [
        "1 segments start after the last frame of their video and are lost (a): is the rate of "
        "the features right?",
        "no video is left for test",
        "1 classes are in no training video: pour",
    ]
    with pytest.raises(ValueError, match="none of the 1 videos that are there is one to train on"):
        _join(videos, {"b": features("b", 3)}, parts=parts)


def test_a_stretch_of_a_file_is_a_video(features: Features) -> None:
    video = _video("a", (3, 4, "cut"), (4, 6, "pour"), span=(3.0, 6.0))
    item = _only(_join([video], {"a": features("a", 20, fps=2)}))
    assert item.labels.tolist() == [1, 1, 2, 2, 2, 2]
    assert item.timestamps.tolist() == [3.0, 3.5, 4.0, 4.5, 5.0, 5.5]
    assert item.read_features()[:, 0].tolist() == [6, 7, 8, 9, 10, 11]
    strided = _only(_join([video], {"a": features("a", 20, fps=2)}, stride=4))
    assert strided.read_features()[:, 0].tolist() == [6, 10]
    late = _video("b", (30, 40, "cut"), span=(30.0, 40.0))
    with pytest.raises(ValueError, match=r"list\.csv:b: .*b\.npy has no frame from 30 to 40 s"):
        _join([late], {"b": features("b", 3)})


def test_a_stride_is_scored_at_every_stored_frame(features: Features) -> None:
    item = _only(_join([_video("a", (1, 4, "cut"))], {"a": features("a", 7)}, stride=3))
    assert item.labels.tolist() == [0, 1, 0]
    predicted, true = item.scored(np.array([5, 6, 7]))
    assert true.tolist() == [0, 1, 1, 1, 0, 0, 0]
    assert predicted.tolist() == [5, 5, 5, 6, 6, 6, 7]


def test_labels_of_whole_videos_need_no_segments(features: Features) -> None:
    videos = [_video("a", labels=("tango",)), _video("b", labels=("waltz",))]
    found = {name: features(name, 3) for name in "ab"}
    names = ("tango", "waltz")
    data = _join(videos, found, class_names=(), video_class_names=names)
    assert (data.class_names, data.video_class_names, data.multi_label) == ((), names, False)
    assert [item.video_labels for item in data.train] == [(0,), (1,)]
    assert all((item.labels == -1).all() for item in data.train)
    for labels in ((), ("waltz", "tango")):
        videos[0] = _video("a", labels=labels)
        data = _join(videos, found, class_names=(), video_class_names=names)
        assert data.multi_label
        assert [item.video_labels for item in data.train] == [(0, 1)[: len(labels)], (1,)]


def _save(root: Path, **shapes: tuple[int, ...]) -> dict[str, Path]:
    paths = {name: root / f"{name}.npy" for name in shapes}
    for name, shape in shapes.items():
        np.save(paths[name], np.zeros(shape, np.float16))
    return paths


def test_the_axis_of_one_width_is_found_where_lengths_differ(tmp_path: Path) -> None:
    for shapes in ({"a": (5, 3), "b": (7, 3)}, {"a": (3, 5), "b": (3, 7)}):
        files = open_feature_files(_save(tmp_path, **shapes))
        assert [(file.num_frames, file.width) for file in files.values()] == [(5, 3), (7, 3)]
    same = _save(tmp_path, a=(5, 3), b=(5, 3))
    with pytest.raises(ValueError, match=r"of either axis: say which it is with layout: .*a\.npy"):
        open_feature_files(same)
    assert open_feature_files(same, layout="TD")["a"].shape == (5, 3)
    assert open_feature_files(same, layout="DT")["a"].shape == (3, 5)
    with pytest.raises(ValueError, match=r"is differing: .*a\.npy \[5, 3\], .*b\.npy \[6, 4\]"):
        open_feature_files(_save(tmp_path, a=(5, 3), b=(6, 4)))
    with pytest.raises(ValueError, match=r"a\.npy: expected 2 axes"):
        open_feature_files(_save(tmp_path, a=(5,)))
