"""What happens in a video and when: segments and sentences in seconds, and their file formats."""

from vidmamba.timeline.files import (
    load_json,
    save_csv,
    save_json,
    save_webvtt,
    timeline_from_dict,
    timeline_to_dict,
    webvtt,
    write_atomically,
)
from vidmamba.timeline.frames import labels_at, runs, segments_from_frames
from vidmamba.timeline.records import Caption, Segment, Timeline

__all__ = [
    "Caption",
    "Segment",
    "Timeline",
    "labels_at",
    "load_json",
    "runs",
    "save_csv",
    "save_json",
    "save_webvtt",
    "segments_from_frames",
    "timeline_from_dict",
    "timeline_to_dict",
    "webvtt",
    "write_atomically",
]
