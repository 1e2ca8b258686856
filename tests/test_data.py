from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidmamba.config import to_plain
from vidmamba.data import DataConfig, expand_folder, load_data
from vidmamba.datasets.records import LabelledSet, VideoItem
from vidmamba.models.backbone import BackboneConfig
from vidmamba.video.writer import VideoWriter

BACKBONE = BackboneConfig("resnet10t", "random", image_size=32)


def write_mstcn_folder(root: Path, *, frames: int = 12) -> None:
    """Two training videos, one test video, two classes, features of width 3."""
    for folder in ("features", "groundTruth", "splits"):
        (root / folder).mkdir(parents=True)
    (root / "mapping.txt").write_text("0 background\n1 pour\n")
    names = ["a", "b", "c"]
    for number, name in enumerate(names):
        features = np.full((3, frames + number), number, dtype=np.float32)
        np.save(root / "features" / f"{name}.npy", features)
        labels = ["background"] * 4 + ["pour"] * (frames + number - 4)
        (root / "groundTruth" / f"{name}.txt").write_text("\n".join(labels) + "\n")
    (root / "splits" / "train.split1.bundle").write_text("a.txt\nb.txt\n")
    (root / "splits" / "test.split1.bundle").write_text("c.txt\n")


def test_variables_in_the_root_are_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_DATA", str(tmp_path))
    assert expand_folder("$MY_DATA/salads") == tmp_path / "salads"
    assert expand_folder("${MY_DATA}/salads") == tmp_path / "salads"


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_DATA", raising=False)
    with pytest.raises(ValueError, match="MY_DATA is not set"):
        expand_folder("$MY_DATA/salads")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere: no such folder; data\.root"):
        load_data(DataConfig(root=str(tmp_path / "nowhere")))


def test_the_configs_evaluation_stride_overrides_the_data_sets(tmp_path: Path) -> None:
    write_mstcn_folder(tmp_path)
    root = str(tmp_path)
    assert load_data(DataConfig(root=root, validation=0.0)).evaluation_stride == 1
    config = DataConfig(root=root, validation=0.0, evaluation_stride=4)
    assert load_data(config).evaluation_stride == 4


@pytest.mark.parametrize("bad", [{"stride": 0}, {"validation": 1.0}, {"evaluation_stride": -1}])
def test_values_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        DataConfig(root="x", **bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gaps": "background"}, r"gaps: not an option of the format mstcn, which takes .*split"),
        ({"format": "errands", "split": 2}, "split: not an option of the format errands"),
        ({"format": "breakfast", "test": 0.5}, "test: not an option of the format breakfast"),
        ({"format": "ucf101", "stride": 2}, "stride: not an option of the format ucf101, which"),
        ({"format": "video_list", "gaps": "background"}, "gaps: not an option of the format video"),
        ({"format": "segments_csv", "label_separator": ";"}, "label_separator: not an option"),
        (
            {"format": "segments_csv", "features": "f", "store": "s", "backbone": BACKBONE},
            "backbone, store: not an option of the format segments_csv with features",
        ),
        ({"random_start": True}, "random_start draws below the stride, so it needs one above 1"),
        ({"fps": 0.0}, r"fps must be above 0, got 0\.0"),
        ({"format": "kinetics", "test": 1.0}, r"must lie in \[0, 1\), got 0\.2, 1\.0"),
    ],
)
def test_an_option_of_another_format_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataConfig(root="x", **options)


def _film(path: Path, *, seconds: int, level: int) -> None:
    """A grey film at 10 frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, width=32, height=32, fps=10) as writer:
        for _ in range(10 * seconds):
            writer.write(np.full((32, 32, 3), level, dtype=np.uint8))


def _items(data: LabelledSet) -> dict[str, VideoItem]:
    return {item.name: item for item in (*data.train, *data.validation, *data.test)}


def test_raw_videos_and_a_csv_of_segments_become_a_labelled_set(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, name in enumerate(("a", "b", "sub/c")):
        _film(tmp_path / f"films/{name}.mp4", seconds=2, level=60 * number)
    (tmp_path / "films/d.mp4").write_bytes(b"no film")
    (tmp_path / "annotations.csv").write_text(
        "video,start,end,label,subset\n"
        "a.mp4,0,0.5,pour,train\nb,0.5,1,stir,train\nsub/c.mp4,1,2,pour,test\n"
        "d,0,1,stir,train\ne,0,1,stir,train\n"
    )
    config = DataConfig(
        root=str(tmp_path),
        format="segments_csv",
        videos="films",
        backbone=BACKBONE,
        fps=5.0,
        validation=0.0,
    )
    data = load_data(config)
    assert caplog.messages[0].startswith("1 of 5 annotated videos are not in")
    assert caplog.messages[1].startswith("1 of 4 videos are broken and left out: ")
    assert data.class_names == ("background", "pour", "stir")
    assert [item.name for item in data.train] == ["a.mp4", "b"]
    assert {name: item.labels.tolist() for name, item in _items(data).items()} == {
        "a.mp4": [1, 1, 1, 0, 0, 0, 0, 0, 0, 0],
        "b": [0, 0, 0, 2, 2, 0, 0, 0, 0, 0],
        "sub/c.mp4": [0, 0, 0, 0, 0, 1, 1, 1, 1, 1],
    }
    item = data.test[0]
    assert item.media == tmp_path / "films/sub/c.mp4"
    assert item.read_features().shape == (10, data.feature_key["width"])
    np.testing.assert_allclose(item.timestamps, np.arange(10) / 5, atol=1e-3)
    again = load_data(config)
    np.testing.assert_array_equal(again.test[0].read_features(), item.read_features())


def test_class_folders_of_raw_videos_become_a_labelled_set(tmp_path: Path) -> None:
    for number in range(4):
        _film(tmp_path / f"dark/{number}.mp4", seconds=1, level=10 * number)
        _film(tmp_path / f"light/{number}.mp4", seconds=1, level=255 - 10 * number)
    config = DataConfig(
        root=str(tmp_path), format="class_folders", backbone=BACKBONE, fps=2.0, test=0.25
    )
    data = load_data(config)
    assert data.video_class_names == ("dark", "light")
    assert (data.class_names, data.background, data.multi_label) == ((), (), False)
    # every class gives as large a share to the test
    assert sorted(item.video_labels for item in data.test) == [(0,), (1,)]
    assert len(data.train) == 5
    assert all(item.video_labels == (item.name.startswith("light"),) for item in data.train)
    # what was embedded lies in the root now, and is no class
    assert load_data(config).video_class_names == ("dark", "light")


def test_feature_files_and_activitynets_json_become_a_labelled_set(tmp_path: Path) -> None:
    (tmp_path / "i3d").mkdir()
    for name, frames in (("v_a", 8), ("b", 6), ("c", 4)):
        np.save(tmp_path / f"i3d/{name}.npy", np.full((3, frames), frames, dtype=np.float32))
    np.save(tmp_path / "i3d/c.timestamps.npy", np.array([0, 10, 20, 30]))
    segment = '{"segment": [1, 2], "label": "row"}'
    (tmp_path / "annotations.json").write_text(
        '{"database": {'
        f'"a": {{"subset": "training", "annotations": [{segment}]}},'
        f'"b": {{"subset": "training", "annotations": [{segment}]}},'
        '"c": {"subset": "validation", "annotations": [{"segment": [10, 25], "label": "dive"}]}}}'
    )
    options: dict[str, Any] = {"root": str(tmp_path), "format": "activitynet", "features": "i3d"}
    data = load_data(DataConfig(**options, fps=2.0, stride=2, validation=0.0))
    assert data.class_names == ("background", "dive", "row")
    assert {name: item.labels.tolist() for name, item in _items(data).items()} == {
        "a": [0, 2, 0, 0],
        "b": [0, 2, 0],
        "c": [0, 1],
    }
    assert [item.name for item in data.test] == ["c"]
    assert data.test[0].scored(np.array([5, 6]))[1].tolist() == [0, 1, 1, 0]
    assert data.test[0].read_features().tolist() == [[4, 4, 4], [4, 4, 4]]
    assert data.video_class_names == ("dive", "row")
    with pytest.raises(ValueError, match=r"timestamps\.npy is missing: set fps"):
        load_data(DataConfig(**options))
    np.save(tmp_path / "i3d/c.timestamps.npy", np.arange(3))
    with pytest.raises(ValueError, match=r"c\.npy: 4 frames, but 3 timestamps"):
        load_data(DataConfig(**options, fps=2.0))


def test_options_of_a_checkpoint_may_be_lists(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    for number in range(4):
        np.save(tmp_path / f"f/{number}.npy", np.zeros((3 + number, 2)))
    lines = [f"{k},0,1,x,fold{k % 2}\n" for k in range(4)]
    (tmp_path / "list.csv").write_text("video,start,end,label,subset\n" + "".join(lines))
    config = DataConfig(
        root=str(tmp_path),
        format="segments_csv",
        annotations=("list.csv",),
        features="f",
        fps=1.0,
        train_subsets=("fold0",),
        test_subsets=("fold1",),
    )
    plain = to_plain(config)
    for name in ("annotations", "train_subsets", "test_subsets"):
        object.__setattr__(config, name, plain[name])
    data = load_data(config)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [1, 1, 2]


def test_a_set_of_which_no_video_can_be_read_is_refused(tmp_path: Path) -> None:
    for name in ("x/a.mp4", "y/b.mp4"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"no film")
    config = DataConfig(root=str(tmp_path), format="class_folders", backbone=BACKBONE, test=0.0)
    with pytest.raises(ValueError, match=r"no video can be read: .*a\.mp4"):
        load_data(config)


def test_who_breakfast_tests_on_is_never_drawn(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    for person in range(16, 26):  # split 1 tests on persons 3 to 15
        name = f"P{person}_cam01_P{person}_tea"
        path = tmp_path / f"segmentation_coarse/tea/{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1-15 SIL\n16-30 pour\n")
        np.save(tmp_path / f"f/{name}.npy", np.zeros((2 * person, 3)))
    options: dict[str, Any] = {"root": str(tmp_path), "format": "breakfast", "features": "f"}
    data = load_data(DataConfig(**options, fps=15.0))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [8, 2, 0]
    assert (data.class_names, data.background) == (("SIL", "pour"), ())
    # frames after the last label are not labelled
    first = _items(data)["P16_cam01_P16_tea"].labels.tolist()
    assert first == [0] * 15 + [1] * 15 + [-1] * 2
    with pytest.raises(
        ValueError, match=r"P16_tea\.txt:1: of subsets, only \['test'\] are annotated"
    ):
        load_data(DataConfig(**options, fps=15.0, split=2))
