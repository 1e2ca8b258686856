import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vidmamba.datasets.feature_file import FeatureFile, npy_shape
from vidmamba.datasets.records import LabelledSet, VideoItem


def _item(frames: int = 4, *, labels: list[int] | None = None) -> VideoItem:
    return VideoItem(
        name="a",
        features=np.arange(frames * 3, dtype=np.float16).reshape(frames, 3),
        labels=np.array(labels if labels is not None else [0] * frames),
        timestamps=np.arange(frames, dtype=np.float64),
    )


def test_a_video_whose_labels_miss_frames_is_refused() -> None:
    file = FeatureFile(path=Path("a.npy"), frames_first=True, num_frames=4, width=2)
    with pytest.raises(ValueError, match=r"a: .*got 4, 3, 3"):
        VideoItem(name="a", features=file, labels=np.zeros(3, np.int64), timestamps=np.arange(3.0))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_no_numbers_are_refused_with_their_frame_and_file(
    value: float, tmp_path: Path
) -> None:
    features = np.ones((4, 3), dtype=np.float16)
    features[2, 1] = value
    item = replace(_item(4), features=features)
    with pytest.raises(ValueError, match=r"^a: features of 1 of 4 frames .* first of frame 2"):
        item.read_features()
    np.save(tmp_path / "a.npy", features)
    file = FeatureFile(path=tmp_path / "a.npy", frames_first=True, num_frames=4, width=3)
    with pytest.raises(ValueError, match=r"a\.npy: features of 1 of 4 frames"):
        replace(item, features=file).read_features()


def test_an_unlabelled_frame_is_not_scored() -> None:
    predicted, true = _item(4, labels=[0, -1, 1, 1]).scored(np.array([0, 5, 1, 0]))
    assert predicted.tolist() == [0, 1, 0]
    assert true.tolist() == [0, 1, 1]


def test_as_many_predictions_as_frames_are_needed() -> None:
    with pytest.raises(ValueError, match="3 predicted labels for 4 frames"):
        _item(4).scored(np.array([0, 0, 0]))


def test_a_protocol_that_scores_frames_that_are_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="4 frames, but scored are 0 to 4"):
        VideoItem(
            name="a",
            features=np.zeros((4, 3), dtype=np.float32),
            labels=np.zeros(4, dtype=np.int64),
            timestamps=np.arange(4.0),
            scored_frames=np.array([0, 4]),
            scored_labels=np.array([0, 0]),
        )


def test_a_set_refuses_labels_without_a_name() -> None:
    with pytest.raises(ValueError, match="2 classes, but labels from 0 to 2"):
        LabelledSet(
            class_names=("x", "y"),
            background=(),
            train=(_item(3, labels=[0, 1, 2]),),
            validation=(),
            test=(),
            feature_key={},
        )
    with pytest.raises(ValueError, match=r"background \[2\]: there are 2 classes"):
        LabelledSet(
            class_names=("x", "y"),
            background=(2,),
            train=(),
            validation=(),
            test=(),
            feature_key={},
        )


def _set(*items: VideoItem, multi_label: bool = False, names: int = 3) -> LabelledSet:
    return LabelledSet(
        class_names=(),
        background=(),
        train=items,
        validation=(),
        test=(),
        feature_key={},
        video_class_names=("x", "y", "z")[:names],
        multi_label=multi_label,
    )


def _whole(*labels: int) -> VideoItem:
    return replace(_item(2, labels=[-1, -1]), video_labels=labels)


def test_videos_may_have_labels_of_their_own_and_none_for_their_frames() -> None:
    data = _set(_whole(2), _whole(0))
    assert [item.video_labels for item in data.train] == [(2,), (0,)]
    assert [item.video_labels for item in _set(_whole(0, 1), _whole(), multi_label=True).train] == [
        (0, 1),
        (),
    ]


@pytest.mark.parametrize(
    ("labels", "names", "multi_label", "message"),
    [
        ((3,), 3, False, r"a: 3 video classes, each named once, but video labels \[3\]"),
        ((-1,), 3, True, r"but video labels \[-1\]"),
        ((1, 1), 3, True, r"each named once, but video labels \[1, 1\]"),
        ((0,), 0, False, r"a: 0 video classes"),
        ((), 3, False, r"a: one video label a video, got \[\]"),
        ((0, 1), 3, False, r"a: one video label a video, got \[0, 1\]"),
    ],
)
def test_a_video_has_one_known_label_unless_the_set_says_otherwise(
    labels: tuple[int, ...], names: int, multi_label: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _set(_whole(*labels), multi_label=multi_label, names=names)


@pytest.mark.parametrize("frames_first", [True, False])
def test_a_feature_file_is_the_strided_array_and_pickles_as_a_path(
    tmp_path: Path, frames_first: bool
) -> None:
    stored = np.random.default_rng(0).standard_normal((11, 3)).astype(np.float32)
    path = tmp_path / "a.npy"
    np.save(path, stored if frames_first else stored.T)
    assert sorted(npy_shape(path)) == [3, 11]
    file = FeatureFile(path=path, frames_first=frames_first, num_frames=5, width=3, stride=2)
    item = VideoItem(
        name="a", features=file, labels=np.zeros(5, dtype=np.int64), timestamps=np.arange(5.0)
    )
    restored = pickle.loads(pickle.dumps(item))
    np.testing.assert_array_equal(restored.read_features(), stored[0:10:2])
    assert len(pickle.dumps(file)) < 1000
    middle = FeatureFile(
        path=path, frames_first=frames_first, num_frames=3, width=3, stride=2, start=4, average=3
    )
    expected = [stored[4:6].mean(axis=0), stored[5:8].mean(axis=0), stored[7:10].mean(axis=0)]
    np.testing.assert_allclose(np.asarray(middle), expected, rtol=1e-6)  # none of before 4


def test_a_file_that_is_no_array_is_named(tmp_path: Path) -> None:
    for name, content in (("text.npy", b"not an array"), ("empty.npy", b"")):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match=name):
            npy_shape(path)
