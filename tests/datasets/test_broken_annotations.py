"""What is wrong in a file of annotations is named with the file and the line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vidmamba.datasets.formats import READERS, read_annotations

Sample = Callable[[str], Path]

CEREALS = "segmentation_coarse/cereals/P03_cam01_P03_cereals.txt"
COARSE = "coarse-annotations/coarse_labels/assembly_train-nusar-2021_action_both_9011-a01_9011_user_id_2021-02-01_153724.txt"  # noqa: E501
FINE = "fine-grained-annotations/train.csv"
EPIC = "EPIC_100_train.csv"
UCF = "ucfTrainTestlist/trainlist01.txt"
SOMETHING = "something-something-v2-train.json"

# format, file, what stands in it, what is put in its place, the error
BROKEN = [
    ("segments_csv", "annotations.csv", "start,end", "from,to", r":1: the header lacks start, end"),
    ("segments_csv", "annotations.csv", "12.5", "noon", r":2: expected seconds or .*'noon'"),
    ("segments_csv", "annotations.csv", "10,20", "20,10", r":4: .*start < end, got 20 to 10"),
    (
        "segments_csv",
        "annotations.csv",
        "eat,train",
        "eat,test",
        r":4: a/x\.mp4 is .*'test' here.*",
    ),
    ("segments_csv", "annotations.csv", ",eat,test", ",,test", r":3: the label is empty"),
    ("segments_csv", "annotations.csv", "\ny,", "\n,", r":3: the video has no name"),
    ("breakfast", CEREALS, "31-150", "31:150", r":2: expected `start-end name`, got '31:150 take"),
    ("breakfast", CEREALS, "31-150", "31-15", r":2: frames count from 1 and up, got 31-15"),
    ("breakfast", CEREALS, "1-30", "0-30", r":1: frames count from 1 and up, got 0-30"),
    ("assembly101_coarse", COARSE, "00600\tatt", "6oo\tatt", r":1: expected a whole number"),
    ("assembly101_coarse", COARSE, "000630", "000500", r":2: a segment cannot end before it"),
    ("assembly101_coarse", COARSE, "300\t", "300 ", r":1: expected a whole number"),
    (
        "assembly101_coarse",
        COARSE,
        "\t000000630\tscrew chassis",
        "",
        r":2: expected start, end and",
    ),
    ("assembly101_fine", FINE, "action_cls", "action", r":1: the header lacks action_cls"),
    ("assembly101_fine", FINE, ",84,", ",eighty,", r":2: expected a whole number"),
    ("assembly101_fine", FINE, ",84,", ",112,", r":2: a segment cannot end before it starts"),
    ("activitynet", "annotations.json", '"database"', '"data"', r":1: lacks 'database'"),
    (
        "activitynet",
        "annotations.json",
        '"subset": "training"',
        '"x": 1',
        r":4, abc: lacks 'subset'",
    ),
    ("activitynet", "annotations.json", "1.5,", "18.5,", r":4, abc, ann.*\[1\]: .* 18\.5 to 8"),
    (
        "activitynet",
        "annotations.json",
        "1.5,",
        '"1.5",',
        r":4, abc, ann.*\[1\]: expected a number",
    ),
    ("activitynet", "annotations.json", '"Diving"', "7", r":24, -x_é: 'label' must be str"),
    ("activitynet", "annotations.json", '"withheld"', '"abc"', r": 'abc' stands twice"),
    ("activitynet", "annotations.json", "30.0,", "30.0", r":7: no JSON"),
    ("coin", "COIN.json", '"class"', '"klass"', r":1, tea: lacks 'class'"),
    ("epic_kitchens", EPIC, "verb_class", "verbclass", r":1: the header lacks verb_class"),
    ("epic_kitchens", EPIC, "01:00:04.50", "1h", r":3: expected seconds or hours:min.*'1h'"),
    ("epic_kitchens", EPIC, "00:00:03.37", "00:00:00.10", r":2: .*got 0\.14 to 0\.1"),
    ("epic_kitchens", EPIC, "light,114", "light,115", r":3: unknown class 115"),
    ("epic_kitchens", "EPIC_100_validation.csv", "P02_101,", "P01_01,", r":2: P01_01 is in .*:2"),
    ("epic_kitchens", "EPIC_100_noun_classes.csv", "114,", "3,", r":3: 3 or 'light' stands here"),
    ("video_list", "annotations.csv", "path,label", "path,class", r":1: the header lacks label"),
    ("video_list", "annotations.csv", "b.mp4", "a.mp4", r":3: dance/a\.mp4 stands .*after .*:2"),
    ("video_list", "annotations.csv", "path,label\n", "", None),
    (
        "video_list",
        "annotations.csv",
        "path,label\n",
        "a,b,c\n",
        r":1: expected a path and a label",
    ),
    ("video_list", "annotations.csv", "waltz", "waltz,3", r":2: 3 values for 2 columns"),
    ("ucf101", UCF, "c01.avi 2", "c01.avi 3", r":2: unknown class '3'"),
    ("ucf101", UCF, "c01.avi 2", "c01.avi 1", r":2: Bowling/.* is of class 1, but in Bowling"),
    ("ucf101", UCF, "Archery/", "", r":1: expected `class/video\.avi`"),
    (
        "ucf101",
        "ucfTrainTestlist/testlist01.txt",
        "_g01",
        "_g08",
        r":1: Bowling/.*stands here again",
    ),
    ("ucf101", "ucfTrainTestlist/testlist01.txt", "Bowling/", "Golf/", r":1: unknown class 'Golf'"),
    ("kinetics", "train.csv", "84,94", "94,84", r":2: a clip must end after its start, got 94"),
    ("kinetics", "train.csv", ",5,", ",five,", r":3: expected seconds or"),
    ("kinetics", "validate.csv", "100,110", "84,94", r":2: ---QUuC4vJs_000084_000094 stands here"),
    (
        "something_something",
        SOMETHING,
        "Holding [",
        "Eating [",
        r":3, 78687: unknown class 'Eating",
    ),
    ("something_something", SOMETHING, '"7"', '"78687"', r":11, 78687: 78687 stands here again"),
    ("something_something", SOMETHING, '"7"', "7", r", entry 1: 'id' must be str, got 7"),
]


@pytest.mark.parametrize(("name", "file", "old", "new", "message"), BROKEN)
def test_what_is_wrong_is_named_with_file_and_line(
    sample: Sample, name: str, file: str, old: str, new: str, message: str | None
) -> None:
    root = sample(name)
    text = (root / file).read_text(encoding="utf-8")
    assert old in text
    (root / file).write_bytes(text.replace(old, new, 1).encode())
    if message is None:  # still whole
        assert len(_read(name, root)) == 2
        return
    with pytest.raises(ValueError, match=f"{Path(file).name}{message}"):
        _read(name, root)


@pytest.mark.parametrize("name", [name for name in READERS if name != "class_folders"])
def test_empty_missing_and_garbled_files_are_named(sample: Sample, name: str) -> None:
    root = sample(name)
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        for content, message in ((b"", ""), (whole + b"\n\xff", r":\d+: byte 0xff is not UTF-8")):
            path.write_bytes(content)
            with pytest.raises(ValueError, match=path.name + message):
                _read(name, root)
        path.unlink()
        if name == "breakfast":  # lists nothing: a video without labels is not in the set
            assert len(_read(name, root)) == 1
        else:
            with pytest.raises(ValueError, match=rf"{path.name} is missing"):
                _read(name, root)
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("segments_csv", r"annotations\.csv:2"),
        ("breakfast", r"cereals\.txt:1"),
        ("assembly101_coarse", r"153724\.txt:1"),
        ("assembly101_fine", r"train\.csv:2"),
        ("activitynet", r"annotations\.json:4, abc"),
        ("coin", r"COIN\.json:1, tea"),
        ("video_list", r"annotations\.csv:2"),
        ("kinetics", r"train\.csv:2"),
    ],
)
def test_a_class_that_is_not_in_the_list_is_named_with_its_line(
    sample: Sample, name: str, where: str
) -> None:
    root = sample(name)
    (root / "classes.txt").write_text("swim\nrun\n")
    message = rf"{where}.*: unknown class .*; .*classes\.txt has swim, run"
    with pytest.raises(ValueError, match=message):
        _read(name, root, classes="classes.txt")


def _read(name: str, root: Path, **options: str) -> list[str]:
    found = read_annotations(name, root, folder=root, suffixes={".mp4"}, options=options)
    return [video.name for video in found.videos]
