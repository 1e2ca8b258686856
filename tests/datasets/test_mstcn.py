import json
import logging
from pathlib import Path

import numpy as np
import pytest

from vidmamba.datasets.feature_file import FeatureFile
from vidmamba.datasets.mstcn import load_mstcn
from vidmamba.datasets.records import LabelledSet, VideoItem

CLASSES = ("background", "take_cup", "pour")
WIDTH = 6


class Folder:
    """A data set of six videos, v0 to v5, on disk; 4 train and 2 test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        random = np.random.default_rng(0)
        self.labels = {f"v{i}": random.integers(0, 3, 40 + 7 * i) for i in range(6)}
        self.features = {
            name: random.standard_normal((len(labels), WIDTH)).astype(np.float32)
            for name, labels in self.labels.items()
        }
        for folder in ("features", "groundTruth", "splits"):
            (root / folder).mkdir()
        self.write("mapping.txt", "".join(f"{i} {name}\n" for i, name in enumerate(CLASSES)))
        self.write("splits/train.split1.bundle", "v0.txt\nv1.txt\nv2.txt\nv3.txt\n")
        self.write("splits/test.split1.bundle", "v4.txt\nv5.txt\n")
        for name, labels in self.labels.items():
            lines = [CLASSES[label] + "\n" for label in labels]
            self.write(f"groundTruth/{name}.txt", "".join(lines))
        self.save_features(frames_first=False)

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_bytes(text.encode())

    def save_features(self, *, frames_first: bool, folder: str = "features") -> None:
        (self.root / folder).mkdir(exist_ok=True)
        for name, features in self.features.items():
            np.save(self.root / folder / f"{name}.npy", features if frames_first else features.T)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def _all(data: LabelledSet) -> dict[str, VideoItem]:
    return {item.name: item for item in (*data.train, *data.validation, *data.test)}


@pytest.mark.parametrize("frames_first", [True, False])
@pytest.mark.parametrize("stride", [1, 3])
def test_every_video_comes_with_its_features_labels_and_times(
    folder: Folder, frames_first: bool, stride: int
) -> None:
    folder.save_features(frames_first=frames_first)
    data = load_mstcn(folder.root, split=1, stride=stride, validation=0)
    assert data.class_names == CLASSES
    assert [item.name for item in data.train] == ["v0", "v1", "v2", "v3"]
    assert [item.name for item in data.test] == ["v4", "v5"]
    assert data.feature_key["width"] == WIDTH
    for name, item in _all(data).items():
        np.testing.assert_array_equal(item.read_features(), folder.features[name][::stride])
        np.testing.assert_array_equal(item.labels, folder.labels[name][::stride])
        np.testing.assert_allclose(item.timestamps, np.arange(len(item.labels)) * stride / 15)


@pytest.mark.parametrize("frames_first", [True, False])
def test_averaged_frames_are_the_means_of_those_around_them(
    folder: Folder, frames_first: bool
) -> None:
    folder.save_features(frames_first=frames_first)
    plain = load_mstcn(folder.root, split=1, stride=2, validation=0)
    data = load_mstcn(folder.root, split=1, stride=2, average=5, validation=0)
    assert data.feature_key == plain.feature_key | {"average": 5}
    for name, item in _all(data).items():
        stored = folder.features[name]
        expected = [stored[max(t - 2, 0) : t + 3].mean(axis=0) for t in range(0, len(stored), 2)]
        np.testing.assert_allclose(item.read_features(), expected, rtol=1e-5, atol=1e-6)
        assert item.read_features().dtype == stored.dtype
    with pytest.raises(ValueError, match="average odd"):
        load_mstcn(folder.root, split=1, average=4)


@pytest.mark.parametrize("stride", [3, 60])
def test_a_random_start_shows_training_each_stored_frame_in_one_of_a_videos_views(
    folder: Folder, stride: int
) -> None:
    plain = load_mstcn(folder.root, split=1, stride=stride, average=3, validation=1)
    data = load_mstcn(
        folder.root, split=1, stride=stride, average=3, validation=1, random_start=True
    )
    assert len(data.train) == 3
    for item, unmoved in zip(data.train, plain.train, strict=True):
        frames, labels = folder.features[item.name], folder.labels[item.name]
        assert len(item.views) == min(stride, len(labels))
        assert item.shifted == item.views[1:]
        for start, view in enumerate(item.views):
            np.testing.assert_array_equal(view.labels, labels[start::stride])
            np.testing.assert_allclose(view.timestamps * 15, np.arange(start, len(labels), stride))
            # a view is one of the frames from its first on: its own first has none before it
            around = [range(max(t - 1, start), t + 2) for t in range(start, len(labels), stride)]
            means = [frames[[t for t in times if t < len(frames)]].mean(axis=0) for times in around]
            np.testing.assert_allclose(view.read_features(), means, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(item.read_features(), unmoved.read_features())
    for item in (*data.validation, *data.test):
        assert item.views == (item,)


def test_each_view_of_a_video_is_of_the_videos_own_class(folder: Folder) -> None:
    data = load_mstcn(
        folder.root, split=1, stride=3, random_start=True, video_class_pattern=r"v(\d)$"
    )
    for item in data.train:
        assert item.shifted
        named = {tuple(data.video_class_names[k] for k in v.video_labels) for v in item.views}
        assert named == {(item.name[1:],)}


def test_features_stay_on_disk_until_they_are_read(folder: Folder) -> None:
    items = _all(load_mstcn(folder.root, split=1))
    folder.features["v2"] += 1
    folder.save_features(frames_first=False)
    assert isinstance(items["v2"].features, FeatureFile)
    np.testing.assert_array_equal(items["v2"].read_features(), folder.features["v2"])


def test_a_splits_own_features_win_over_shared_ones(folder: Folder) -> None:
    shared = load_mstcn(folder.root, split=1)
    folder.features = {name: features + 1 for name, features in folder.features.items()}
    folder.save_features(frames_first=False, folder="features/split1")
    own = load_mstcn(folder.root, split=1)
    np.testing.assert_array_equal(_all(own)["v1"].read_features(), folder.features["v1"])
    assert own.feature_key["folder"] == "features/split1"
    assert own.feature_key["sample"] != shared.feature_key["sample"]


def test_a_square_file_is_read_as_the_other_files_are(folder: Folder) -> None:
    folder.labels["v4"] = folder.labels["v4"][:WIDTH]
    folder.write("groundTruth/v4.txt", "".join(CLASSES[i] + "\n" for i in folder.labels["v4"]))
    folder.features["v4"] = folder.features["v4"][:WIDTH]
    for frames_first in (True, False):
        folder.save_features(frames_first=frames_first)
        item = _all(load_mstcn(folder.root, split=1))["v4"]
        np.testing.assert_array_equal(item.read_features(), folder.features["v4"])


def test_a_lower_rate_is_scored_at_the_full_one(folder: Folder) -> None:
    data = load_mstcn(folder.root, split=1, stride=3)
    for name, item in _all(data).items():
        predicted = np.arange(item.num_frames)
        shown, true = item.scored(predicted)
        np.testing.assert_array_equal(true, folder.labels[name])
        # MS-TCN repeats each prediction for the frames until the next one
        np.testing.assert_array_equal(shown, np.repeat(predicted, 3)[: len(true)])
        shown, true = item.scored(predicted, stride=5)
        np.testing.assert_array_equal(true, folder.labels[name][::5])
        np.testing.assert_array_equal(
            shown, np.repeat(predicted, 3)[: len(folder.labels[name])][::5]
        )


def test_lists_may_come_from_windows_and_without_suffixes(folder: Folder) -> None:
    folder.write("splits/train.split1.bundle", "v0\r\nv1\r\n\r\nv2.txt\r\nv3\r\n\r\n\r\n")
    folder.write("mapping.txt", "\ufeff0 background\r\n1 take_cup\r\n2 pour\r\n\r\n")
    lines = [CLASSES[label] for label in folder.labels["v4"]]
    folder.write("groundTruth/v4.txt", "\r\n".join(lines))
    data = load_mstcn(folder.root, split=1, validation=0)
    assert [item.name for item in data.train] == ["v0", "v1", "v2", "v3"]
    np.testing.assert_array_equal(_all(data)["v4"].labels, folder.labels["v4"])


def test_videos_are_held_out_from_training_by_seed_and_never_from_test(folder: Folder) -> None:
    def held_out(validation: float | int, seed: int = 0) -> list[str]:
        data = load_mstcn(folder.root, split=1, validation=validation, seed=seed)
        assert [item.name for item in data.test] == ["v4", "v5"]
        parts = sorted(item.name for item in (*data.train, *data.validation))
        assert parts == ["v0", "v1", "v2", "v3"]
        return [item.name for item in data.validation]

    assert [len(held_out(part)) for part in (0, 0.0, 1, 2, 0.01, 0.5, 0.75)] == [
        0,
        0,
        1,
        2,
        1,
        2,
        3,
    ]
    assert held_out(2, seed=1) == held_out(2, seed=1)
    assert len({tuple(held_out(2, seed=seed)) for seed in range(8)}) > 1
    before = held_out(2)
    folder.write("splits/train.split1.bundle", "v3.txt\nv1.txt\nv2.txt\nv0.txt\n")
    assert sorted(held_out(2)) == sorted(before)
    for validation in (4, 1.0, -1):
        with pytest.raises(ValueError, match=f"4 training videos, got {validation}"):
            load_mstcn(folder.root, split=1, validation=validation)


def test_background_is_the_argument_or_the_protocol_or_the_class_of_that_name(
    folder: Folder,
) -> None:
    assert load_mstcn(folder.root, split=1).background == (0,)
    assert load_mstcn(folder.root, split=1, background=()).background == ()
    assert load_mstcn(folder.root, split=1, background=("pour",)).background == (2,)
    folder.write(
        "protocol.json",
        json.dumps({"fps": 3.0, "evaluation_stride": 5, "background_class": "take_cup"}),
    )
    data = load_mstcn(folder.root, split=1)
    assert data.background == (1,)
    assert data.evaluation_stride == 5
    assert data.train[0].timestamps[3] == pytest.approx(1.0)
    assert load_mstcn(folder.root, split=1, fps=30).train[0].timestamps[3] == pytest.approx(0.1)
    with pytest.raises(ValueError, match=r"background classes \['SIL'\] are not in .*mapping\.txt"):
        load_mstcn(folder.root, split=1, background=("SIL",))


def test_a_few_frames_more_or_fewer_than_labels_are_cut_and_said_once(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    full = dict(folder.features)
    folder.features["v0"] = full["v0"][:-2]
    folder.features["v5"] = np.concatenate([full["v5"], full["v5"][:4]])
    folder.save_features(frames_first=False)
    with caplog.at_level(logging.WARNING):
        items = _all(load_mstcn(folder.root, split=1))
    assert [record.getMessage() for record in caplog.records] == [
        "2 of 6 videos have more frames than labels, or fewer, by up to 4 (v5): cut"
    ]
    for name, missing in (("v0", 2), ("v5", 0)):
        frames = len(folder.labels[name]) - missing
        np.testing.assert_array_equal(items[name].labels, folder.labels[name][:frames])
        np.testing.assert_array_equal(items[name].read_features(), full[name][:frames])


def test_features_of_another_length_or_width_are_refused_by_both_files(folder: Folder) -> None:
    np.save(folder.root / "features/v1.npy", np.zeros((WIDTH, 100)))
    with pytest.raises(ValueError, match=r"v1\.npy has shape \[6, 100\], but groundTruth/v1\.txt"):
        load_mstcn(folder.root, split=1)
    np.save(folder.root / "features/v1.npy", np.zeros((WIDTH + 1, len(folder.labels["v1"]))))
    with pytest.raises(ValueError, match=r"v1\.npy has shape \[7, 47\]"):
        load_mstcn(folder.root, split=1)
    np.save(folder.root / "features/v1.npy", np.zeros((1, WIDTH, 47)))
    with pytest.raises(ValueError, match=r"v1\.npy: expected 2 axes, got shape \[1, 6, 47\]"):
        load_mstcn(folder.root, split=1)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("mapping.txt", "0 background\nyes\n", r"mapping\.txt:2: expected `id name`, got 'yes'"),
        ("mapping.txt", "0 a\n1 b\n1 c\n", r"mapping\.txt:3: '1 c' repeats"),
        ("mapping.txt", "0 a\n2 b\n", r"mapping\.txt: ids must be .*got \[0, 2\]"),
        ("groundTruth/v3.txt", "pour\npuor\n", r"v3\.txt:2: unknown class 'puor'; .*take_cup"),
        ("groundTruth/v3.txt", "pour\n\npour\n", r"v3\.txt:2: unknown class ''"),
        ("groundTruth/v3.txt", "\n", r"v3\.txt labels no frame"),
        ("groundTruth/v3.txt", "\xff", r"v3\.txt:1: unknown class"),
        ("splits/test.split1.bundle", "v4\nv5\nv4\n", r"split1\.bundle:3: v4 is listed twice"),
        ("splits/test.split1.bundle", "v4\nv0\n", r"trains on its test videos v0"),
        ("splits/test.split1.bundle", "\r\n", r"test\.split1\.bundle lists no video"),
        ("splits/test.split1.bundle", "v9\n", r"groundTruth.v9\.txt is missing"),
        ("protocol.json", "{fps: 3}", r"protocol\.json is no JSON"),
        ("protocol.json", '{"fps": 0}', r"fps must be above 0 .*got fps 0"),
        ("features/v2.npy", "PK", r"v2\.npy is no \.npy file"),
    ],
)
def test_a_broken_file_is_named_with_its_line(
    folder: Folder, name: str, text: str, message: str
) -> None:
    folder.write(name, text)
    with pytest.raises(ValueError, match=message):
        load_mstcn(folder.root, split=1)


def test_missing_files_are_named(folder: Folder) -> None:
    with pytest.raises(ValueError, match=r"train\.split2\.bundle is missing"):
        load_mstcn(folder.root, split=2)
    (folder.root / "features/v2.npy").unlink()
    with pytest.raises(ValueError, match=r"v2\.npy is missing"):
        load_mstcn(folder.root, split=1)
    for path in (folder.root / "features").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"no \.npy files in .*features.split1"):
        load_mstcn(folder.root, split=1)


def test_the_name_of_a_video_may_hold_its_class(folder: Folder) -> None:
    data = load_mstcn(folder.root, split=1, video_class_pattern=r"v(.)")
    assert data.video_class_names == ("0", "1", "2", "3", "4", "5")
    assert {name: item.video_labels for name, item in _all(data).items()} == {
        f"v{k}": (k,) for k in range(6)
    }
    strided = load_mstcn(folder.root, split=1, stride=2, video_class_pattern=r"^(v)")
    assert strided.video_class_names == ("v",)
    assert not strided.multi_label
    for pattern, message in (
        ("[024]$", r"needs one group, has 0"),
        ("([024])$", r"finds no class in v[135], v[135], v[135]$"),
        ("(", r"pattern '\(': missing \)"),
    ):
        with pytest.raises(ValueError, match=message):
            load_mstcn(folder.root, split=1, video_class_pattern=pattern)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "splits", "videos", "classes"), [("50salads_mid", 5, 50, 18), ("gtea", 4, 28, 11)]
)
def test_the_real_data_sets_load(
    real_data: Path, name: str, splits: int, videos: int, classes: int
) -> None:
    tested = []
    for split in range(1, splits + 1):
        data = load_mstcn(real_data / "tas" / name, split=split, validation=0.2)
        assert len(data.class_names) == classes
        assert data.background == (0,)
        assert data.evaluation_stride == 5
        assert len(data.train) + len(data.validation) + len(data.test) == videos
        assert data.test[0].read_features().shape == (data.test[0].num_frames, 128)
        tested += [item.name for item in data.test]
        if name == "gtea":
            whole = load_mstcn(
                real_data / "tas" / name, split=split, video_class_pattern=r"^S\d_(.+)_C\d$"
            )
            assert len(whole.video_class_names) == 7
    assert len(set(tested)) == len(tested) == videos
