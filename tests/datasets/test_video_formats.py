"""Each format of labels for whole videos, read from a small data set written in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vidmamba.datasets.annotations import Annotations
from vidmamba.datasets.formats import read_annotations

Sample = Callable[[str], Path]


def _read(name: str, root: Path, **options: Any) -> Annotations:
    return read_annotations(name, root, folder=root, suffixes={".mp4", ".avi"}, options=options)


def _rows(annotations: Annotations) -> list[tuple[str, str | None, tuple[str, ...]]]:
    return [(video.name, video.subset, video.video_labels) for video in annotations.videos]


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    _touch(tmp_path, "pour/a.mp4", "pour/deep/b.avi", "stir it/a.mp4", "stir it/notes.txt")
    found = _read("class_folders", tmp_path)
    assert found.video_class_names == ("pour", "stir it")
    assert _rows(found) == [
        ("pour/a", None, ("pour",)),
        ("pour/deep/b", None, ("pour",)),
        ("stir it/a", None, ("stir it",)),
    ]
    _touch(tmp_path, "c.mp4")
    with pytest.raises(ValueError, match=r"c\.mp4 lies in no folder of a class"):
        _read("class_folders", tmp_path)


def test_class_folders_below_subsets(tmp_path: Path) -> None:
    _touch(tmp_path, "train/pour/a.mp4", "Val/pour/b.mp4", "test/test/c.mp4")
    assert _rows(_read("class_folders", tmp_path)) == [
        ("Val/pour/b", "Val", ("pour",)),
        ("test/test/c", "test", ("test",)),
        ("train/pour/a", "train", ("pour",)),
    ]
    # one folder that is no subset, and all are classes
    _touch(tmp_path, "stir/d.mp4")
    assert _read("class_folders", tmp_path).video_class_names == ("Val", "stir", "test", "train")


@pytest.mark.parametrize(
    "text",
    [
        "path,label\ndance/a.mp4,waltz\ndance/b c.mp4,tango\n",
        "remark,label,path\r\n,waltz,dance/a.mp4\r\n,tango,dance/b c.mp4\r\n",
        "dance/a.mp4,waltz\ndance/b c.mp4,tango\n",
        "dance/a.mp4 waltz\ndance/b c.mp4 tango\n",
        "\ufeffdance/a.mp4\twaltz\n\ndance/b c.mp4\ttango",
    ],
)
def test_a_list_of_paths_and_labels(tmp_path: Path, text: str) -> None:
    (tmp_path / "annotations.csv").write_bytes(text.encode())
    found = _read("video_list", tmp_path)
    assert _rows(found) == [
        ("dance/a.mp4", None, ("waltz",)),
        ("dance/b c.mp4", None, ("tango",)),
    ]
    assert found.video_class_names == ("tango", "waltz")


def test_lists_by_subset_with_numbered_classes(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("0 waltz\n1 tango\n2 polka\n")
    (tmp_path / "train.txt").write_text("a.mp4 0\nb.mp4 1\n")
    (tmp_path / "val.txt").write_text("c.mp4 1\n")
    found = _read(
        "video_list", tmp_path, annotations=("train.txt", "val.txt"), classes="classes.txt"
    )
    assert _rows(found) == [
        ("a.mp4", "train", ("waltz",)),
        ("b.mp4", "train", ("tango",)),
        ("c.mp4", "val", ("tango",)),
    ]
    assert found.video_class_names == ("waltz", "tango", "polka")


def test_a_video_may_have_several_labels_where_a_separator_is_named(tmp_path: Path) -> None:
    text = "path,label,subset\na.mp4,cook; eat,train\nb.mp4,,test\nc.mp4,eat;eat,test\n"
    (tmp_path / "annotations.csv").write_text(text)
    found = _read("video_list", tmp_path, label_separator=";")
    assert _rows(found) == [
        ("a.mp4", "train", ("cook", "eat")),
        ("b.mp4", "test", ()),
        ("c.mp4", "test", ("eat",)),
    ]
    with pytest.raises(ValueError, match=r"annotations\.csv:3: the label is empty"):
        _read("video_list", tmp_path)


def test_ucf101(sample: Sample) -> None:
    root = sample("ucf101")
    found = _read("ucf101", root)
    assert _rows(found) == [
        ("Archery/v_Archery_g08_c01.avi", "train", ("Archery",)),
        ("Bowling/v_Bowling_g08_c01.avi", "train", ("Bowling",)),
        ("Bowling/v_Bowling_g01_c01.avi", "test", ("Bowling",)),
    ]
    assert found.video_class_names == ("Archery", "Bowling")
    with pytest.raises(ValueError, match=r"trainlist02\.txt is missing"):
        _read("ucf101", root, split=2)


def test_kinetics(sample: Sample) -> None:
    root = sample("kinetics")
    found = _read("kinetics", root)
    assert _rows(found) == [
        ("---QUuC4vJs_000084_000094", "train", ("testifying",)),
        ("-0a1b2c3d4e_000005_000015", "train", ("eating cake",)),
        ("---QUuC4vJs_000100_000110", "validate", ("eating cake",)),
    ]
    assert found.videos[0].files == ("---QUuC4vJs_000084_000094", "---QUuC4vJs")
    (root / "test.csv").write_text("youtube_id,time_start,time_end,split\nabcdefghijk,1,2,test\n")
    more = _read("kinetics", root, annotations=("train.csv", "test.csv"))
    assert _rows(more)[-1] == ("abcdefghijk_000001_000002", "test", ())


def test_something_something(sample: Sample) -> None:
    found = _read("something_something", sample("something_something"))
    assert _rows(found) == [
        ("78687", "train", ("Holding something",)),
        ("7", "train", ("Moving something up",)),
        ("9", "validation", ("Holding something",)),
    ]
    # in the order of the file's numbers
    assert found.video_class_names == ("Moving something up", "Holding something")
