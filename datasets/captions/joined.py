"""Captioned videos with features: what a captioner trains on, and is scored by."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
from jaxtyping import Float

from vidmamba.datasets.captions.records import (
    AnnotatedVideos,
    CaptionedVideo,
    CaptionIssue,
    CaptionIssues,
    Part,
    counted,
)
from vidmamba.datasets.feature_file import FeatureFile
from vidmamba.datasets.records import UNLABELLED, LabelledSet, VideoItem
from vidmamba.timeline import Caption

FeaturesOf = Mapping[str, Float[np.ndarray, "T D"] | FeatureFile]
"""From a video's name to its features."""


def keep_with_features(read: AnnotatedVideos, features_of: Collection[str]) -> AnnotatedVideos:
    """Leave out videos without features; note them, and features without captions.

    Args:
        read: the captioned videos.
        features_of: the names of the videos that have features, such as the keys of a mapping.

    Raises:
        ValueError: none of the videos has features.
    """
    videos = tuple(video for video in read.videos if video.name in features_of)
    if not videos:
        named, stored = read.videos[0].name, next(iter(features_of), "none")
        raise ValueError(
            f"none of {len(read.videos)} captioned videos has features: captions are of {named!r} "
            f"and so on, features of {stored!r}; names must be equal"
        )
    captioned = {video.name for video in read.videos}
    absent = [
        CaptionIssue(
            kind="no features",
            file=video.source,
            entry=video.name,
            detail=f"{counted(len(video.sentences), 'caption')} of a video without features",
        )
        for video in read.videos
        if video.name not in features_of
    ] + [
        CaptionIssue(kind="not annotated", file="features", entry=name, detail="has no captions")
        for name in features_of
        if name not in captioned
    ]
    return AnnotatedVideos(videos=videos, issues=read.issues + CaptionIssues(tuple(absent)))


def keep_seen(read: AnnotatedVideos, seconds: Mapping[str, float]) -> AnnotatedVideos:
    """Leave out captions that start where a video is over already, such as a file that was cut off.

    Args:
        read: the captioned videos.
        seconds: up to when each could be read.

    Raises:
        ValueError: not one caption is left.
    """
    videos, issues = [], []
    for video in read.videos:
        end = seconds[video.name]
        kept = tuple(caption for caption in video.captions if caption.start < end)
        for caption in video.captions[len(kept) :]:
            detail = f"{caption.text!r} starts at {caption.start:g} s, the video ends at {end:g} s"
            issues.append(("outside", video, detail))
        if kept or video.references:
            videos.append(replace(video, captions=kept))
        else:
            detail = f"{counted(len(video.captions), 'caption')}, none before its end"
            issues.append(("no captions", video, detail))
    found = tuple(
        CaptionIssue(kind=kind, file=video.source, entry=video.name, detail=detail)
        for kind, video, detail in issues
    )
    if not videos:
        raise ValueError(f"no caption is about what can be seen; first: {found[0]}")
    return AnnotatedVideos(videos=tuple(videos), issues=read.issues + CaptionIssues(found))


def captioned_set(
    videos: Sequence[CaptionedVideo],
    features_of: FeaturesOf,
    *,
    fps: float | int | None = None,
    feature_key: dict[str, Any] | None = None,
) -> LabelledSet:
    """Join captioned videos with features, into items with captions and unlabelled frames.

    The references of a clip become captions that all span [0, duration); as everywhere, captions of
    equal start and end are references of one event (`events_of`). If all videos have a category, it
    is their class among `video_class_names`.

    Args:
        videos: each in a part; `keep_with_features` leaves out those without features.
        features_of: from name to [T, D], such as `read_npz_features` or `find_npy_features` return.
        fps: features a second; None where they are spread evenly over each video, however many.
        feature_key: what the features are, for checkpoints; by default their width, rate and a hash
            of those of one video, the first by name, be it captioned or not.

    Raises:
        ValueError: a video is without features or part, or its duration is needed and unknown, or a
            caption starts after the features' end; the video is named, and its file.
    """
    if fps is not None and not fps > 0:
        raise ValueError(f"fps must be above 0, got {fps}")
    if not videos:
        raise ValueError("a captioned set needs one video or more, got no video")
    if missing := [video for video in videos if video.name not in features_of]:
        names = ", ".join(video.name for video in missing[:5])
        raise ValueError(
            f"{len(missing)} of {len(videos)} videos of {missing[0].source} have no features: "
            f"{names}, ...; keep_with_features leaves them out and notes them"
        )
    known = [video.category for video in videos if video.category is not None]
    categories = tuple(sorted(set(known))) if len(known) == len(videos) else ()
    parts: dict[Part, list[VideoItem]] = {"train": [], "validation": [], "test": []}
    for video in videos:
        if video.split is None:
            raise ValueError(f"{video.source}, {video.name}: in no part; see split_by_number")
        parts[video.split].append(_item(video, features_of[video.name], fps, categories))
    return LabelledSet(
        class_names=(),
        background=(),
        train=tuple(parts["train"]),
        validation=tuple(parts["validation"]),
        test=tuple(parts["test"]),
        feature_key=feature_key or _key(features_of, fps),
        video_class_names=categories,
    )


def events_of(captions: Sequence[Caption]) -> tuple[tuple[Caption, ...], ...]:
    """Return captions by event: those of equal start and end are references of one event.

    In ActivityNet Captions and YouCook2, 2 of 85,786 captions share their times, in one video.
    """
    ordered = sorted(captions, key=_span)
    return tuple(tuple(group) for _, group in groupby(ordered, key=_span))


def draw_references(
    captions: Sequence[Caption], random: np.random.Generator
) -> tuple[Caption, ...]:
    """Return one caption of each event, drawn evenly: what training sees in an epoch."""
    return tuple(event[random.integers(len(event))] for event in events_of(captions))


def _span(caption: Caption) -> tuple[float, float]:
    return caption.start, caption.end


def _item(
    video: CaptionedVideo,
    features: Float[np.ndarray, "T D"] | FeatureFile,
    fps: float | int | None,
    categories: tuple[str, ...],
) -> VideoItem:
    num_frames, where = len(features), f"{video.source}, {video.name}"
    if fps is not None:
        timestamps = np.arange(num_frames, dtype=np.float64) / fps
        covered = num_frames / fps
        duration = covered if video.duration is None else video.duration
    elif video.duration is not None:
        timestamps = np.arange(num_frames, dtype=np.float64) * (video.duration / num_frames)
        duration = covered = video.duration
    else:
        raise ValueError(f"{where}: no duration is known, so fps must tell the features' rate")
    captions = video.timed(duration)
    if captions[-1].start >= covered:
        raise ValueError(
            f"{where}: {num_frames} features at {fps} a second end at {covered} s, but a caption "
            f"starts at {captions[-1].start} s; is fps right?"
        )
    return VideoItem(
        name=video.name,
        features=features,
        labels=np.full(num_frames, UNLABELLED),
        timestamps=timestamps,
        captions=captions,
        video_labels=tuple(k for k, name in enumerate(categories) if name == video.category),
    )


def _key(features_of: FeaturesOf, fps: float | int | None) -> dict[str, Any]:
    """Return what tells these features from others, whichever of the videos are annotated."""
    features = np.asarray(features_of[min(features_of)], dtype=np.float32)
    return {
        "format": "captions",
        "width": features.shape[1],
        "fps": fps if fps is None else float(fps),
        "sample": hashlib.sha256(features.tobytes()).hexdigest()[:16],
    }
