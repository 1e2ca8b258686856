"""Captions of videos: the published annotation files, read into records and joined with features.

A reader returns `AnnotatedVideos`: the videos, and `CaptionIssues` that name each caption or video
which was changed or left out. `captioned_set` joins videos and features.
"""

from vidmamba.datasets.captions.clips import (
    read_coco,
    read_msrvtt,
    read_msvd_csv,
    read_msvd_text,
)
from vidmamba.datasets.captions.dense import read_activitynet, read_vid2seq, read_youcook2
from vidmamba.datasets.captions.features import find_npy_features, read_npz_features
from vidmamba.datasets.captions.joined import (
    captioned_set,
    draw_references,
    events_of,
    keep_seen,
    keep_with_features,
)
from vidmamba.datasets.captions.packed import read_packed_clips
from vidmamba.datasets.captions.parts import (
    MSRVTT_1K,
    MSVD_SPLIT,
    annotators,
    hold_out,
    split_by_number,
)
from vidmamba.datasets.captions.records import (
    AnnotatedVideos,
    CaptionedVideo,
    CaptionIssue,
    CaptionIssues,
)

__all__ = [
    "MSRVTT_1K",
    "MSVD_SPLIT",
    "AnnotatedVideos",
    "CaptionIssue",
    "CaptionIssues",
    "CaptionedVideo",
    "annotators",
    "captioned_set",
    "draw_references",
    "events_of",
    "find_npy_features",
    "hold_out",
    "keep_seen",
    "keep_with_features",
    "read_activitynet",
    "read_coco",
    "read_msrvtt",
    "read_msvd_csv",
    "read_msvd_text",
    "read_npz_features",
    "read_packed_clips",
    "read_vid2seq",
    "read_youcook2",
    "split_by_number",
]
