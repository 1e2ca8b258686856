"""ActivityNet's JSON, and what is written like it: THUMOS, HACS, FineAction; and COIN's own.

    {"database": {"abc": {"subset": "training", "duration": 82.7,
                          "annotations": [{"segment": [1.5, 8.0], "label": "Rowing"}]}}}

COIN says `annotation`, and has a `class` of the whole video. Elsewhere the classes of a whole video
are those of its segments. Files may be called `v_abc`, as ActivityNet's are.
"""

from pathlib import Path

from vidmamba.datasets.annotations import Annotations, Collector
from vidmamba.datasets.captions.files import get_field, read_json, to_seconds
from vidmamba.datasets.classes import Classes
from vidmamba.datasets.tables import name_lines


def read_activitynet(
    root: Path, *, annotations: str = "annotations.json", classes: Classes | None = None
) -> Annotations:
    """Read the file.

    Args:
        root: the data set's folder.
        annotations: the file, in it.
        classes: the classes; None for those that the segments name, in order of name.

    Raises:
        ValueError: the file is missing or no JSON, or a video in it (whose line is named) lacks
            something, or has a segment that is none.
    """
    return _read(root / annotations, Collector(classes, video_classes=classes), "annotations")


def read_coin(
    root: Path, *, annotations: str = "COIN.json", classes: Classes | None = None
) -> Annotations:
    """Read COIN's file; the classes of whole videos are its tasks, such as `MakeTea`.

    Args:
        root: the data set's folder.
        annotations: the file, in it.
        classes: the classes of steps; None for those that the segments name, in order of name.

    Raises:
        ValueError: as `read_activitynet`.
    """
    return _read(root / annotations, Collector(classes), "annotation")


def _read(path: Path, taken: Collector, key: str) -> Annotations:
    database = get_field(read_json(path), "database", dict, f"{path}:1")
    for video, where in name_lines(path, database):
        record = database[video]
        subset = get_field(record, "subset", str, where)
        # a subset whose labels are withheld has an empty list, or none
        found = get_field(record, key, list, where) if key in record else []
        own = [get_field(segment, "label", str, where) for segment in found]
        if key == "annotation":
            own = [get_field(record, "class", str, where)] if found else []
        taken.add_video(video, where, files=(video, f"v_{video}"), subset=subset, labels=own)
        for number, segment in enumerate(found):
            at = f"{where}, {key}[{number}]"
            span = get_field(segment, "segment", list, at)
            if len(span) != 2:
                raise ValueError(f"{at}: a segment is [start, end], got {span}")
            start, end = (to_seconds(edge, at) for edge in span)
            taken.add_segment(video, start, end, get_field(segment, "label", str, at), at)
    return taken.finish(path)
