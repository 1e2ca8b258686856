"""From stored features to captions, with a trained captioner."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64

from vidmamba.datasets.records import VideoItem
from vidmamba.features.store import StoredFeatures
from vidmamba.tasks.caption_batches import frame_edges
from vidmamba.tasks.captioning import CaptioningTask
from vidmamba.timeline import Caption, Segment, Timeline, segments_from_frames

AT_ONCE = 16_384
"""Frames, with padding, of the videos that are captioned side by side; one video may have more."""


def caption_features(
    task: CaptioningTask,
    features: Float[np.ndarray, "T F"],
    timestamps: Float64[np.ndarray, " T"],
    *,
    duration: float | None = None,
) -> tuple[Caption, ...]:
    """Return the captions of one video, sorted by time, in seconds.

    Args:
        task: a trained model.
        features: of the frames, float16 or float32.
        timestamps: when each frame appears, in seconds.
        duration: of the video; by default the last frame lasts as long as the others.
    """
    return task.predict(features, frame_edges(timestamps, duration)).captions


def caption_items(
    task: CaptioningTask, items: Sequence[VideoItem]
) -> dict[str, tuple[Caption, ...]]:
    """Return the captions of each of a data set's videos, by its name; short ones side by side."""
    found: dict[str, tuple[Caption, ...]] = {}
    waiting: list[VideoItem] = []
    for place, item in enumerate(items):
        waiting.append(item)
        longest = max(other.num_frames for other in waiting)
        following = items[place + 1].num_frames if place + 1 < len(items) else AT_ONCE
        if (len(waiting) + 1) * max(longest, following) <= AT_ONCE:
            continue
        features = [other.read_features() for other in waiting]
        edges = [frame_edges(other.timestamps) for other in waiting]
        told = task.predict_all(features, edges)
        found |= {other.name: one.captions for other, one in zip(waiting, told, strict=True)}
        waiting = []
    return found


def caption_timeline(task: CaptioningTask, features: StoredFeatures) -> Timeline:
    """Return the captions of an embedded video, and its segments if the model names frames."""
    times = features.timestamps
    if features.fps is not None:
        # a frame that stays on screen answers for several ticks: the ticks are what was looked at
        times = times[0] + np.arange(len(times)) / features.fps
    rate = features.fps or len(times) / max(features.duration, 1e-3)
    # a container may claim less than its frames last, and the last frame lasts for a while too
    duration = max(features.duration, float(times[-1]) + 1 / rate)
    found = task.predict(features.features, frame_edges(times, duration))
    segments: tuple[Segment, ...] = ()
    if found.probabilities is not None:
        segments = segments_from_frames(
            found.probabilities.argmax(axis=-1),
            times,
            class_names=task.class_names,
            duration=duration,
            scores=found.probabilities.max(axis=-1),
        )
    return Timeline(
        video=features.video.name,
        duration=duration,
        fps=rate,
        segments=segments,
        captions=found.captions,
    )
