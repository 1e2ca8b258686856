"""Every format of annotations by its name: what reads it, and which options it takes."""

from collections.abc import Callable, Collection, Mapping
from inspect import signature
from pathlib import Path
from typing import Any, Literal, get_args

from vidmamba.datasets.activitynet import read_activitynet, read_coin
from vidmamba.datasets.annotations import Annotations
from vidmamba.datasets.assembly101 import read_assembly101_coarse, read_assembly101_fine
from vidmamba.datasets.breakfast import read_breakfast
from vidmamba.datasets.class_folders import read_class_folders
from vidmamba.datasets.classes import read_classes
from vidmamba.datasets.epic_kitchens import read_epic_kitchens
from vidmamba.datasets.joining import Gaps
from vidmamba.datasets.kinetics import read_kinetics
from vidmamba.datasets.segments_csv import read_segments_csv
from vidmamba.datasets.something import read_something
from vidmamba.datasets.ucf101 import read_ucf101
from vidmamba.datasets.video_list import read_video_list

SegmentFormat = Literal[
    "breakfast",
    "assembly101_coarse",
    "assembly101_fine",
    "activitynet",
    "coin",
    "epic_kitchens",
    "segments_csv",
]
VideoFormat = Literal["class_folders", "video_list", "ucf101", "kinetics", "something_something"]
Format = Literal[SegmentFormat, VideoFormat]

READERS: dict[str, Callable[..., Annotations]] = {
    "breakfast": read_breakfast,
    "assembly101_coarse": read_assembly101_coarse,
    "assembly101_fine": read_assembly101_fine,
    "activitynet": read_activitynet,
    "coin": read_coin,
    "epic_kitchens": read_epic_kitchens,
    "segments_csv": read_segments_csv,
    "class_folders": read_class_folders,
    "video_list": read_video_list,
    "ucf101": read_ucf101,
    "kinetics": read_kinetics,
    "something_something": read_something,
}

GAPS: dict[str, Gaps] = {"breakfast": "unlabelled", "assembly101_coarse": "unlabelled"}
"""Formats whose segments are meant to cover all; what they leave out is an oversight."""

CUT_BY_THEMSELVES = ("breakfast", "ucf101")
"""Formats whose split says who is tested on, even where none of those videos is annotated."""

_GIVEN = ("root", "folder", "suffixes")


def options_of(name: str) -> set[str]:
    """Return the options that a format takes, beyond those of every format."""
    own = {*signature(READERS[name]).parameters} - {*_GIVEN}
    if name in get_args(SegmentFormat):
        own |= {"gaps", "background"}
    if name not in CUT_BY_THEMSELVES:
        own |= {"test", "test_seed", "train_subsets", "test_subsets"}
    return own


def read_annotations(
    name: str,
    root: Path,
    *,
    folder: Path,
    suffixes: Collection[str],
    options: Mapping[str, Any],
) -> Annotations:
    """Read a data set's annotations.

    Args:
        name: of the format.
        root: the data set's folder.
        folder: that of the videos, or of their features.
        suffixes: of their files.
        options: of those that the format takes, the ones that are not left to it.

    Raises:
        ValueError: a file is missing or not as the format says; the message names it and its line.
    """
    reader = READERS[name]
    taken = signature(reader).parameters
    given: dict[str, Any] = {"folder": folder, "suffixes": suffixes, **options}
    if given.get("classes") is not None:
        given["classes"] = read_classes(root / given["classes"])
    files = given.get("annotations")
    if files is not None and isinstance(taken["annotations"].default, str):
        if len(files) != 1:
            raise ValueError(f"annotations of {name} are one file or folder, got {[*files]}")
        given["annotations"] = files[0]
    return reader(root, **{key: value for key, value in given.items() if key in taken})
