"""Annotated videos and their features, joined: each frame gets the class of its time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int

from vidmamba.datasets.annotations import BACKGROUND, AnnotatedVideo, Annotations
from vidmamba.datasets.feature_file import FeatureFile
from vidmamba.datasets.notices import warn_of_losses, warn_of_parts
from vidmamba.datasets.overlaps import flatten_segments
from vidmamba.datasets.parts import Part
from vidmamba.datasets.records import UNLABELLED, LabelledSet, VideoItem
from vidmamba.timeline import labels_at

Gaps = Literal["background", "unlabelled"]

EARLY = 1e-3
"""Seconds by which a container's clock may run early: Matroska counts milliseconds."""


@dataclass(frozen=True, kw_only=True)
class VideoFeatures:
    """The features of a video's file, and when its frames appear, in seconds."""

    features: FeatureFile
    timestamps: Float64[np.ndarray, " T"]
    media: Path | None = None
    """The video file."""

    def __post_init__(self) -> None:
        if len(self.features) != len(self.timestamps):
            got = f"{len(self.features)} frames, but {len(self.timestamps)} timestamps"
            raise ValueError(f"{self.features.path}: {got}")


def join_features(
    annotations: Annotations,
    parts: Mapping[str, Part],
    found: Mapping[str, VideoFeatures],
    *,
    feature_key: dict[str, Any],
    gaps: Gaps = "background",
    background: Sequence[str] | None = None,
    stride: int = 1,
) -> LabelledSet:
    """Return the videos that are found and in a part, with a label a frame.

    A frame that several segments cover gets the class of the one that starts last (see
    `flatten_segments`); one warning says of how many.

    Args:
        annotations: of all videos.
        parts: of the videos that are used, by name.
        found: the features of those that there are, by name.
        feature_key: what the features are.
        gaps: what frames that no segment covers are: of the class `background`, which is added
            where there is none, or not labelled.
        background: classes that Edit and F1 leave out; by default the class of the gaps.
        stride: take the frames 0, stride, ...; scored are all of them.

    Raises:
        ValueError: nothing is left to train on, or a name is no class, or a video has no frame.
    """
    names, default = _frame_classes(annotations.class_names, gaps)
    whole = annotations.video_class_names
    if background is None:
        background = [names[default]] if default != UNLABELLED else []
    if unknown := sorted({*background} - {*names}):
        raise ValueError(f"background classes {unknown} are not among the classes {[*names]}")
    used = [video for video in annotations.videos if video.name in parts]
    flat = {v.name: flatten_segments(v.segments) for v in used if v.name in found}
    items: dict[Part, list[VideoItem]] = {"train": [], "validation": [], "test": []}
    for video in used:
        if video.name in found:
            stored = _stretch(video, found[video.name])
            times = stored.timestamps + EARLY
            labels = labels_at(flat[video.name].segments, times, names, default=default)
            item = stride_item(video.name, stored, labels, stride=stride)
            own = tuple(sorted(whole.index(label) for label in video.video_labels))
            items[parts[video.name]].append(replace(item, video_labels=own))
    if not items["train"]:
        raise ValueError(f"none of the {len(found)} videos that are there is one to train on")
    ends = {name: float(stored.timestamps[-1]) for name, stored in found.items()}
    warn_of_losses(used, ends, flat)
    warn_of_parts(items, [*dict.fromkeys(parts.values())], names, whole)
    return LabelledSet(
        class_names=names,
        background=tuple(names.index(name) for name in background),
        train=tuple(items["train"]),
        validation=tuple(items["validation"]),
        test=tuple(items["test"]),
        feature_key=feature_key,
        video_class_names=whole,
        multi_label=bool(whole) and any(len(video.video_labels) != 1 for video in used),
    )


def stride_item(
    name: str, stored: VideoFeatures, labels: Int[np.ndarray, " T"], *, stride: int
) -> VideoItem:
    """Return every stride-th frame; scored are all, each by the frame taken last before it."""
    frame_wise = stride > 1 and bool((labels != UNLABELLED).any())
    return replace(
        _taken(name, stored, labels, start=0, stride=stride),
        scored_frames=np.arange(len(labels)) // stride if frame_wise else None,
        scored_labels=labels if frame_wise else None,
    )


def shifted_items(
    name: str, stored: VideoFeatures, labels: Int[np.ndarray, " T"], *, stride: int
) -> tuple[VideoItem, ...]:
    """Return the frames that `stride_item` leaves out: every stride-th from the second on, ..."""
    starts = range(1, min(stride, len(labels)))
    return tuple(_taken(name, stored, labels, start=start, stride=stride) for start in starts)


def _taken(
    name: str, stored: VideoFeatures, labels: Int[np.ndarray, " T"], *, start: int, stride: int
) -> VideoItem:
    taken = np.arange(start, len(labels), stride)
    first = stored.features.start + start
    return VideoItem(
        name=name,
        features=replace(stored.features, start=first, num_frames=len(taken), stride=stride),
        labels=labels[taken],
        timestamps=stored.timestamps[taken],
        media=stored.media,
    )


def _frame_classes(names: tuple[str, ...], gaps: Gaps) -> tuple[tuple[str, ...], int]:
    """Return the classes of frames, and the label of a frame that no segment covers."""
    if not names or gaps == "unlabelled":
        return names, UNLABELLED
    if BACKGROUND not in names:
        names = (BACKGROUND, *names)
    return names, names.index(BACKGROUND)


def _stretch(video: AnnotatedVideo, stored: VideoFeatures) -> VideoFeatures:
    """Return the frames of a video, of those of its file."""
    if video.span is None:
        return stored
    first, last = np.searchsorted(stored.timestamps + EARLY, video.span)
    if first == last:
        raise ValueError(
            f"{video.where}: {stored.features.path} has no frame from {video.span[0]:g} to "
            f"{video.span[1]:g} s, but ends at {stored.timestamps[-1]:g} s"
        )
    features = replace(stored.features, start=int(first), num_frames=int(last - first))
    return replace(stored, features=features, timestamps=stored.timestamps[first:last])
