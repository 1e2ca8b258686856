"""A timeline as JSON (and back), CSV and WebVTT; every file is whole or not there."""

import csv
import io
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vidmamba.timeline.records import Caption, Segment, Timeline


def timeline_to_dict(timeline: Timeline) -> dict[str, Any]:
    """DESIGN's contract: {video, duration, fps, segments, captions} of plain JSON values."""
    record = asdict(timeline)
    return record | {
        "segments": list(record["segments"]),
        "captions": list(record["captions"]),
    }


def timeline_from_dict(record: Mapping[str, Any]) -> Timeline:
    """Inverse of `timeline_to_dict`; ValueError names a key that is missing or unknown."""
    _check_keys("timeline", record, {"video", "duration", "fps", "segments"}, optional={"captions"})
    span = {"start", "end"}
    for segment in record["segments"]:
        _check_keys("segment", segment, span | {"label"}, optional={"score"})
    for caption in record.get("captions", ()):
        _check_keys("caption", caption, span | {"text"}, optional={"score"})
    return Timeline(
        video=record["video"],
        duration=float(record["duration"]),
        fps=float(record["fps"]),
        segments=tuple(Segment(**_floats(segment)) for segment in record["segments"]),
        captions=tuple(Caption(**_floats(caption)) for caption in record.get("captions", ())),
    )


def save_json(timeline: Timeline, path: Path) -> None:
    """Write the timeline as UTF-8 JSON that `load_json` reads back without loss."""
    text = json.dumps(timeline_to_dict(timeline), ensure_ascii=False, indent=1, allow_nan=False)
    write_atomically(path, text + "\n")


def load_json(path: Path) -> Timeline:
    """Read what `save_json` wrote; ValueError names the file where it is no timeline."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError(f"expected an object, got {type(record).__name__}")
        return timeline_from_dict(record)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a timeline: {error}") from error


def save_csv(timeline: Timeline, path: Path) -> None:
    """Write columns start, end, label, score, kind: the segments, then the captions' sentences."""
    text = io.StringIO()
    # texts are always quoted: left to itself, csv leaves a lone carriage return bare, and it then
    # ends the row for whoever reads it
    table = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    table.writerow(["start", "end", "label", "score", "kind"])
    for s in timeline.segments:
        table.writerow([round(s.start, 6), round(s.end, 6), s.label, round(s.score, 6), "segment"])
    for c in timeline.captions:
        table.writerow([round(c.start, 6), round(c.end, 6), c.text, round(c.score, 6), "caption"])
    write_atomically(path, text.getvalue())


def save_webvtt(timeline: Timeline, path: Path) -> None:
    """Write the timeline as WebVTT."""
    write_atomically(path, webvtt(timeline))


def webvtt(timeline: Timeline) -> str:
    """One cue a segment and one a caption, named segment-k and caption-k, sorted by start.

    https://www.w3.org/TR/webvtt1/: a cue needs start < end, starts may not go back, and its text
    holds no line break, `<`, `&` or `-->`.
    """
    spans = [
        *((s.start, s.end, f"segment-{k}", s.label) for k, s in enumerate(timeline.segments, 1)),
        *((c.start, c.end, f"caption-{k}", c.text) for k, c in enumerate(timeline.captions, 1)),
    ]
    cues = ["WEBVTT"]
    for start, end, name, text in sorted(spans, key=lambda span: span[0]):
        first = round(start * 1000)
        last = max(round(end * 1000), first + 1)
        cues.append(f"{name}\n{_clock(first)} --> {_clock(last)}\n{_cue_text(text)}")
    return "\n\n".join(cues) + "\n"


def write_atomically(path: Path, text: str) -> None:
    """Write UTF-8 text beside `path`, then move it there, so that no reader sees half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # a short name of its own: `path` may already have the longest name that the disk allows
    draft = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        # file names that are no Unicode reach us with lone surrogates; escaped so, they are valid
        # JSON, and readable elsewhere
        with draft.open("wb") as file:
            file.write(text.encode("utf-8", "backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _clock(milliseconds: int) -> str:
    seconds, fraction = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:03}"


def _cue_text(text: str) -> str:
    line = " ".join(text.replace("\0", "�").split())
    # a cue without text is dropped by some players
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") or "-"


def _floats(span: Mapping[str, Any]) -> dict[str, Any]:
    # JSON from elsewhere may write 2.0 as 2
    return {key: value if key in ("label", "text") else float(value) for key, value in span.items()}


def _check_keys(
    kind: str, record: Mapping[str, Any], required: set[str], *, optional: set[str]
) -> None:
    missing, unknown = required - set(record), set(record) - required - optional
    if missing or unknown:
        raise ValueError(
            f"{kind} lacks {sorted(missing)} and has unknown {sorted(unknown)}: {dict(record)!r}"
        )
