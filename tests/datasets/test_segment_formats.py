"""Each format of segments, read from the small data set that conftest.py writes in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vidmamba.datasets.annotations import Annotations
from vidmamba.datasets.formats import read_annotations

Sample = Callable[[str], Path]
SEQUENCE = "nusar-2021_action_both_9011-a01_9011_user_id_2021-02-01_153724"
VIEWS = ("C10095_rgb", "HMC_21110305_mono10bit")


def _read(name: str, root: Path, **options: Any) -> Annotations:
    return read_annotations(name, root, folder=root, suffixes={".mp4", ".avi"}, options=options)


def _spans(annotations: Annotations) -> dict[str, list[tuple[float, float, str]]]:
    return {
        video.name: [(s.start, s.end, s.label) for s in video.segments]
        for video in annotations.videos
    }


def _subsets(annotations: Annotations) -> dict[str, str | None]:
    return {video.name: video.subset for video in annotations.videos}


def test_a_csv_of_segments(sample: Sample) -> None:
    root = sample("segments_csv")
    found = _read("segments_csv", root)
    assert found.class_names == ("cut, bread", "eat")
    assert _spans(found) == {
        "a/x.mp4": [(0, 12.5, "cut, bread"), (10, 20, "eat")],
        "y": [(3, 64.5, "eat")],
    }
    assert _subsets(found) == {"a/x.mp4": "train", "y": "test"}
    assert found.videos[1].where == f"{root / 'annotations.csv'}:3"
    (root / "classes.txt").write_text("eat\ncut, bread\nwash\n")
    known = _read("segments_csv", root, classes="classes.txt")
    assert known.class_names == ("eat", "cut, bread", "wash")


def test_several_files_are_read_as_one(sample: Sample) -> None:
    root = sample("segments_csv")
    (root / "more.csv").write_text("label,video,end,start\nwash,z,2,1\n")
    found = _read("segments_csv", root, annotations=("annotations.csv", "more.csv"))
    assert _spans(found)["z"] == [(1, 2, "wash")]
    assert _subsets(found)["z"] is None


def test_breakfast(sample: Sample) -> None:
    root = sample("breakfast")
    found = _read("breakfast", root, split=1)
    assert found.class_names == ("SIL", "pour_coffee", "take_bowl")
    assert found.video_class_names == ("cereals", "coffee")
    assert _spans(found) == {
        "P03_cam01_P03_cereals": [(0, 2, "SIL"), (2, 10, "take_bowl")],
        "P16_stereo01_P16_coffee": [(0, 1, "SIL"), (1, pytest.approx(16 / 15), "pour_coffee")],
    }
    assert [video.video_labels for video in found.videos] == [("cereals",), ("coffee",)]
    assert [video.files[0] for video in found.videos] == [
        "P03/cam01/P03_cereals",
        "P16/stereo/P16_coffee_ch0",
    ]
    assert [*_subsets(found).values()] == ["test", "train"]
    assert [*_subsets(_read("breakfast", root, split=2)).values()] == ["train", "test"]
    with pytest.raises(ValueError, match=r"split must be one of .*got 5"):
        _read("breakfast", root, split=5)


def test_breakfast_with_its_labels_beside_the_videos(tmp_path: Path) -> None:
    for name in ("cam01/P03_milk", "stereo/P03_milk_ch0", "stereo/P03_milk_ch1"):
        path = tmp_path / "P03" / f"{name}.avi.labels"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1-30 SIL\n")
    found = _read("breakfast", tmp_path)
    assert [*_subsets(found)] == ["P03_cam01_P03_milk", "P03_stereo01_P03_milk"]


def test_assembly101_coarse(sample: Sample) -> None:
    root = sample("assembly101_coarse")
    found = _read("assembly101_coarse", root)
    names = [
        f"{task}_{part}-{SEQUENCE}/{view}"
        for part in ("train", "val")
        for task in ("assembly", "disassembly")
        for view in VIEWS
    ]
    assert [*_subsets(found).items()] == [*zip(names, 4 * ["train"] + 4 * ["val"], strict=True)]
    # assembly and disassembly are stretches of one recording
    assembly, _, disassembly, *_ = found.videos
    assert assembly.files[0] == disassembly.files[0] == f"train-{SEQUENCE}/C10095_rgb"
    assert (assembly.span, disassembly.span) == ((10, 21), (30, 40))
    assert _spans(found)[names[1]] == [(10, 20, "attach cabin"), (20, 21, "screw chassis")]
    assert found.class_names == ("attach cabin", "screw chassis", "unscrew chassis")
    one = _read("assembly101_coarse", root, views=("C10095_rgb",))
    assert [*_subsets(one)] == names[::2]
    with pytest.raises(ValueError, match=r"coarse_seq_views\.txt lists none of the views \['x'\]"):
        _read("assembly101_coarse", root, views=("x",))


def test_assembly101_fine(sample: Sample) -> None:
    root = sample("assembly101_fine")
    found = _read("assembly101_fine", root)
    name = f"{SEQUENCE}/C10095_rgb"
    clap, pick_up = found.videos[0].segments
    assert (clap.start, clap.end) == pytest.approx((2.8, 3.7))
    # of no length: one frame
    assert (pick_up.start, pick_up.end) == pytest.approx((3.7, 112 / 30))
    assert (clap.label, pick_up.label) == ("clap hand", "pick up hand")
    assert _subsets(found) == {name: "train", f"other/{VIEWS[1]}": "validation"}
    assert _read("assembly101_fine", root, target="verb").class_names == ("clap", "pick up")
    assert _read("assembly101_fine", root, target="noun").class_names == ("hand",)
    assert [*_subsets(_read("assembly101_fine", root, views=(VIEWS[1],)))] == [f"other/{VIEWS[1]}"]


def test_activitynet(sample: Sample) -> None:
    found = _read("activitynet", sample("activitynet"))
    assert _spans(found) == {
        "abc": [(1.5, 8, "Rowing"), (12, 15.5, "Rowing")],
        "-x_é": [(0, 9, "Diving"), (0, 9, "CliffDiving")],
        "withheld": [],
    }
    assert found.class_names == found.video_class_names == ("CliffDiving", "Diving", "Rowing")
    assert [video.video_labels for video in found.videos] == [
        ("Rowing",),
        ("Diving", "CliffDiving"),
        (),
    ]
    assert [*_subsets(found).values()] == ["training", "validation", "testing"]
    assert found.videos[0].files == ("abc", "v_abc")


def test_coin(sample: Sample) -> None:
    found = _read("coin", sample("coin"))
    assert _spans(found) == {"tea": [(5, 9, "boil water")]}
    assert found.class_names == ("boil water",)
    assert found.video_class_names == ("MakeTea",)


def test_epic_kitchens(sample: Sample) -> None:
    root = sample("epic_kitchens")
    found = _read("epic_kitchens", root)
    assert _spans(found) == {
        "P01_01": [(0.14, 3.37, "open door"), (2.37, 3604.5, "turn-on light")],
        "P02_101": [(0.54, 2.23, "open door")],
    }
    assert _subsets(found) == {"P01_01": "train", "P02_101": "validation"}
    assert found.videos[0].files == ("P01/videos/P01_01", "P01_01")
    assert _read("epic_kitchens", root, target="verb").class_names == ("open", "turn-on")
    assert _read("epic_kitchens", root, target="noun").class_names == ("door", "light")


def test_a_format_of_one_file_takes_no_two(sample: Sample) -> None:
    root = sample("coin")
    (root / "COIN.json").rename(root / "other.json")
    assert len(_read("coin", root, annotations=("other.json",)).videos) == 1
    with pytest.raises(ValueError, match=r"annotations of coin are one file or folder, got \['a'"):
        _read("coin", root, annotations=("a", "b"))
