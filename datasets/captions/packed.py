"""Clip captions packed into one JSON object: each clip with its sentences, split and category."""

from pathlib import Path
from typing import Any

from vidmamba.datasets.captions.checks import Inspector
from vidmamba.datasets.captions.clips import msvd_seconds, to_part
from vidmamba.datasets.captions.files import get_field, read_json, to_seconds
from vidmamba.datasets.captions.records import AnnotatedVideos


def read_packed_clips(path: Path | str) -> AnnotatedVideos:
    """Read clips that are packed with their sentences, in one of two forms.

        {"videos": [{"video_id": "video0", "start": 137.72, "end": 149.44, "category_name": "...",
                     "captions": ["...", ...]}, ...]}             MSR-VTT's clips; without a split
        {"<video>_<start>_<end>": {"split": "train", "vid": "vid1", "captions": [...]}, ...}   MSVD

    MSVD's clips keep the first of their two names.

    Raises:
        ValueError: the file is damaged, an entry is not of this form (it is named), or no video has
            a caption that can be used.
    """
    record, inspector = read_json(path), Inspector(path)
    if not isinstance(record, dict):
        raise ValueError(f"{path}: expected an object, got a {type(record).__name__}")
    if "videos" in record:
        for place, entry in enumerate(get_field(record, "videos", list, inspector.file)):
            _add_listed(inspector, place, entry)
    else:
        for name, entry in record.items():
            where = f"{inspector.file}, {name}"
            inspector.add_clip(
                name,
                get_field(entry, "captions", list, where),
                duration=msvd_seconds(name),
                split=to_part(get_field(entry, "split", str, where), where),
            )
    return inspector.result()


def _add_listed(inspector: Inspector, place: int, entry: Any) -> None:
    where = f"{inspector.file}, video {place}"
    name = get_field(entry, "video_id", str, where)
    where = f"{inspector.file}, {name}"
    start, end = (
        to_seconds(get_field(entry, edge, (int, float), where), f"{where}: {edge}")
        for edge in ("start", "end")
    )
    inspector.add_clip(
        name,
        get_field(entry, "captions", list, where),
        duration=end - start,
        category=get_field(entry, "category_name", str, where),
    )
