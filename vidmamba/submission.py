"""Dense captions in the form that ActivityNet's evaluation takes, and back.

    {"version": "VERSION 1.0",
     "results": {video: [{"sentence": "...", "timestamp": [start, end]}, ...], ...},
     "external_data": {"used": true, "details": "..."}}

Videos have the names of the annotation files, with their `v_`; times are seconds.
http://activity-net.org/challenges/2018/tasks/anet_captioning.html
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vidmamba.timeline import Caption, write_atomically

MOST_CAPTIONS = 1000
"""Captions a video that the evaluation takes."""

_FIELDS = ("version", "results", "external_data")


def write_submission(
    captions: Mapping[str, Sequence[Caption]], path: Path | str, *, external_data: str = ""
) -> None:
    """Write the captions of videos; the file is whole or not there. Scores are not part of it.

    Args:
        captions: of each video; one without captions stays, with none.
        path: where to write.
        external_data: what was learnt from other data, such as a backbone's; empty for nothing.

    Raises:
        ValueError: a video has more captions than the evaluation takes, or one without text.
    """
    for video, own in captions.items():
        if len(own) > MOST_CAPTIONS:
            raise ValueError(f"{video}: at most {MOST_CAPTIONS} captions a video, got {len(own)}")
        for caption in own:
            if not caption.text.strip():
                raise ValueError(f"{video}: the caption at {caption.start} s has no text")
    record = {
        "version": "VERSION 1.0",
        "results": {
            video: [
                {"sentence": caption.text, "timestamp": [caption.start, caption.end]}
                for caption in own
            ]
            for video, own in captions.items()
        },
        "external_data": {"used": bool(external_data), "details": external_data},
    }
    text = json.dumps(record, ensure_ascii=False, indent=1, allow_nan=False)
    write_atomically(Path(path), text + "\n")


def read_submission(path: Path | str) -> dict[str, tuple[Caption, ...]]:
    """Return the captions of each video, sorted by start; the fields that others add are ignored.

    Raises:
        ValueError: the file is missing or no submission, or an entry (which is named) has no
            sentence, or times that are no span.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
        record = json.loads(text, object_pairs_hook=_no_key_twice)
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing") from error
    except ValueError as error:  # not JSON, not UTF-8, or a video that stands twice
        raise ValueError(f"{path} is no submission: {error}") from error
    if not isinstance(record, dict) or any(field not in record for field in _FIELDS):
        raise ValueError(f"{path} is no submission: it needs {', '.join(_FIELDS)}")
    if not isinstance(record["results"], dict):
        raise ValueError(f"{path}: results must be an object of videos")
    return {
        video: _captions(entries, f"{path}, {video}")
        for video, entries in record["results"].items()
    }


def _captions(entries: Any, where: str) -> tuple[Caption, ...]:
    if not isinstance(entries, list):
        raise ValueError(f"{where}: expected a list of captions, got {entries!r}")
    captions = []
    for number, entry in enumerate(entries, 1):
        try:
            start, end = (float(time) for time in entry["timestamp"])
            text = entry["sentence"]
            if not isinstance(text, str):
                raise ValueError(f"sentence must be a text, got {text!r}")
            captions.append(Caption(start=start, end=end, text=text))
        except (KeyError, TypeError, ValueError) as error:
            message = f"{where}, caption {number}: {error}"
            raise ValueError(f"{message}; expected a sentence and [start, end]") from error
    return tuple(sorted(captions, key=lambda caption: caption.start))


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return record
