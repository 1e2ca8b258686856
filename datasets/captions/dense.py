"""Readers of dense captions: ActivityNet Captions, YouCook2 in both its forms, Vid2Seq's CSV."""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidmamba.datasets.captions.checks import Inspector
from vidmamba.datasets.captions.files import get_field, read_json, read_rows, to_seconds
from vidmamba.datasets.captions.records import AnnotatedVideos, Part

_SUBSETS: dict[str, Part] = {"training": "train", "validation": "validation", "testing": "test"}

_VID2SEQ = ("video_id", "duration", "caption", "start", "end")
_MICROSECONDS = 1e6


def read_activitynet(
    path: Path | str, *, split: Part | None = None, part: str | None = None
) -> AnnotatedVideos:
    """Read ActivityNet Captions, whose train, val_1 and val_2 are a file each.

        {video: {"duration": seconds, "timestamps": [[start, end], ...], "sentences": [...]}, ...}

    val_1 and val_2 are two people's captions of the same videos: see `annotators`.

    Args:
        path: the JSON file, plain or gzipped.
        split: the part of the data set that the file is.
        part: the key to look under, where one file holds several files' objects.

    Raises:
        ValueError: the file is damaged, an entry is not of this form (it is named), or no video has
            a caption that can be used.
    """
    record = _under(read_json(path), part, path)
    inspector = Inspector(path if part is None else f"{path} [{part}]")
    for name, entry in record.items():
        where = f"{inspector.file}, {name}"
        inspector.add_dense(
            name,
            get_field(entry, "duration", (int, float), where),
            get_field(entry, "timestamps", list, where),
            get_field(entry, "sentences", list, where),
            split=split,
        )
    return inspector.result()


def read_youcook2(
    path: Path | str, *, split: Part | None = None, part: str | None = None
) -> AnnotatedVideos:
    """Read YouCook2: its own annotations, or PDVC's files, which have the form of ActivityNet's.

        {"database": {video: {"duration": seconds, "subset": "training", "recipe_type": "101",
                              "annotations": [{"segment": [start, end], "sentence": "..."}]}}}

    A video's category is its recipe type. PDVC's files prefix the videos' names with `v_`.

    Args:
        path: the JSON file, plain or gzipped.
        split: the part that PDVC's file is; the original form says it of each video.
        part: as in `read_activitynet`.

    Raises:
        ValueError: as in `read_activitynet`.
    """
    record = read_json(path)
    if not isinstance(record, dict) or "database" not in record:
        return read_activitynet(path, split=split, part=part)
    inspector = Inspector(path)
    for name, entry in get_field(record, "database", dict, inspector.file).items():
        where = f"{inspector.file}, {name}"
        subset = get_field(entry, "subset", str, where)
        if subset not in _SUBSETS:
            raise ValueError(f"{where}: subset must be one of {[*_SUBSETS]}, got {subset!r}")
        events = entry.get("annotations", [])  # the testing videos have none
        if not isinstance(events, list):
            raise ValueError(f"{where}: annotations must be a list, got {events!r}")
        inspector.add_dense(
            name,
            get_field(entry, "duration", (int, float), where),
            [get_field(event, "segment", list, where) for event in events],
            [get_field(event, "sentence", str, where) for event in events],
            split=_SUBSETS[subset],
            category=None if "recipe_type" not in entry else str(entry["recipe_type"]),
        )
    return inspector.result()


def read_vid2seq(path: Path | str, *, split: Part | None = None) -> AnnotatedVideos:
    """Read the CSV that Vid2Seq's `generate_from_file.py` takes; speech and features are not read.

    A row a video: `video_id`, `duration`, and `caption`, `start`, `end`, which are lists in
    Python's notation; times are in microseconds.

    Args:
        path: the CSV file, plain or gzipped.
        split: the part of the data set that the file is.

    Raises:
        ValueError: the file is damaged, a row is not of this form (its line is named), or no video
            has a caption that can be used.
    """
    inspector = Inspector(path)
    for line, row in read_rows(path, _VID2SEQ):
        where = f"{inspector.file}:{line}"
        sentences, starts, ends = (_list(row, key, where) for key in ("caption", "start", "end"))
        if len(starts) != len(ends):
            raise ValueError(f"{where}: {len(starts)} starts, {len(ends)} ends")
        inspector.add_dense(
            row["video_id"],
            _seconds(_literal(row["duration"], f"{where}: duration"), f"{where}: duration"),
            [
                [_seconds(start, f"{where}: start"), _seconds(end, f"{where}: end")]
                for start, end in zip(starts, ends, strict=True)
            ],
            sentences,
            split=split,
        )
    return inspector.result()


def _under(record: Any, part: str | None, path: Path | str) -> Mapping[str, Any]:
    """Return the object of videos, found under `part` where one is named."""
    if part is not None:
        return get_field(record, part, dict, str(path))
    if not isinstance(record, dict):
        raise ValueError(f"{path}: expected an object of videos, got a {type(record).__name__}")
    nested = [
        name
        for name, entry in record.items()
        if isinstance(entry, dict)
        and entry
        and "duration" not in entry
        and all(isinstance(video, dict) for video in entry.values())
    ]
    if nested:
        raise ValueError(f"{path} holds {', '.join(nested)}: choose one of them with `part`")
    return record


def _literal(text: str, where: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{where}: no value of Python's notation: {text[:80]!r}") from error


def _list(row: Mapping[str, str], key: str, where: str) -> list[Any]:
    # pandas writes nothing, or nan, where a video has no captions
    value = [] if row[key].strip() in ("", "nan") else _literal(row[key], f"{where}: {key}")
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where}: {key} must be a list, got {value!r}")
    return [*value]


def _seconds(value: Any, where: str) -> float:
    try:
        return to_seconds(value, where) / _MICROSECONDS
    except ValueError as error:
        raise ValueError(f"{where}: expected microseconds, got {str(value)[:80]}") from error
