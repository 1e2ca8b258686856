"""Between one label a frame and segments in seconds."""

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int, Int64

from vidmamba.timeline.records import Segment


def runs(labels: Int[np.ndarray, " T"] | Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield (start, end, label) for each stretch of equal labels; frames are half-open."""
    labels = np.asarray(labels)
    if labels.size == 0:
        return
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), labels.size]
    for start, end in pairwise(edges):
        yield start, end, int(labels[start])


def segments_from_frames(
    labels: Int[np.ndarray, " T"],
    timestamps: Float[np.ndarray, " T"],
    *,
    class_names: Sequence[str],
    duration: float,
    scores: Float[np.ndarray, " T"] | None = None,
    drop: Collection[int] = (),
) -> tuple[Segment, ...]:
    """One segment for each stretch of equal labels, from its first frame's time to the next one's.

    The last segment ends at `duration`; a segment's score is the mean of its frames' `scores`.

    Args:
        labels: class of each frame, an index into `class_names`.
        timestamps: strictly increasing times of the frames, seconds.
        class_names: name of each class.
        duration: end of the video, seconds; after the last timestamp.
        scores: confidence of each frame's label; 1 where absent.
        drop: classes that become gaps, such as a background, or -1 for frames without a label.

    Raises:
        ValueError: labels without a name, times that do not increase or pass `duration`.
    """
    if labels.size == 0:
        return ()
    _check_times(timestamps, duration)
    _check_labels(labels, len(class_names), drop)
    confidence = np.ones(labels.size) if scores is None else scores.astype(np.float64)
    edges = np.append(timestamps.astype(np.float64), duration)
    return tuple(
        Segment(
            start=float(edges[start]),
            end=float(edges[end]),
            label=class_names[label],
            score=float(confidence[start:end].mean()),
        )
        for start, end, label in runs(labels)
        if label not in drop
    )


def labels_at(
    segments: Sequence[Segment],
    timestamps: Float[np.ndarray, " T"],
    class_names: Sequence[str],
    *,
    default: int,
) -> Int64[np.ndarray, " T"]:
    """Class at each time in seconds, `default` where no segment is.

    Args:
        segments: sorted, without overlaps, as a Timeline holds them.
        timestamps: times in seconds, in any order.
        class_names: name of each class.
        default: class of the gaps, such as a background, or -1.

    Raises:
        ValueError: a segment whose label is not among `class_names`.
    """
    index = {name: k for k, name in enumerate(class_names)}
    unknown = sorted({segment.label for segment in segments} - set(index))
    if unknown:
        raise ValueError(f"segments are labelled {unknown}, the classes are {[*class_names]}")
    # the last entry answers for times before the first segment: position -1 reads it
    classes = np.array([*(index[segment.label] for segment in segments), default], dtype=np.int64)
    ends = np.array([*(segment.end for segment in segments), np.inf])
    starts = np.array([segment.start for segment in segments])
    position = np.searchsorted(starts, timestamps, side="right") - 1
    return np.where(timestamps < ends[position], classes[position], default).astype(np.int64)


def _check_labels(labels: Int[np.ndarray, " T"], num_classes: int, drop: Collection[int]) -> None:
    unknown = set(np.unique(labels).tolist()) - set(range(num_classes)) - set(drop)
    if unknown:
        raise ValueError(
            f"labels must be below {num_classes}, the number of classes, got {sorted(unknown)}"
        )


def _check_times(timestamps: Float[np.ndarray, " T"], duration: float) -> None:
    steps = np.diff(timestamps)
    if not np.all(steps > 0):  # NaN fails too
        first = int(np.flatnonzero(~(steps > 0))[0])
        raise ValueError(
            f"timestamps must increase, got {timestamps[first]} then {timestamps[first + 1]} "
            f"at frames {first} and {first + 1}"
        )
    if not timestamps[-1] < duration:
        raise ValueError(
            f"duration must be after the last frame's {timestamps[-1]}, got {duration}"
        )
