"""The scores of one video: frame accuracy, Edit and segmental F1 of Lea et al., in percent.

Lea, Flynn, Vidal, Reiter and Hager, Temporal Convolutional Networks for Action Segmentation and
Detection, CVPR 2017 (F1); Lea, Reiter, Vidal and Hager, Segmental Spatiotemporal CNNs for
Fine-grained Action Segmentation, ECCV 2016 (Edit).
"""

from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float64, Int
from torch import Tensor

Labels = np.ndarray | Tensor | Sequence[Any]
"""One integer label a frame."""

SegmentEnd = Literal["exact", "one_short"]
"""Where a video's last segment ends: after its last frame, or (in MS-TCN's code) before it."""


class Matches(NamedTuple):
    """Segments found, invented and overlooked."""

    true_positives: int
    false_positives: int
    false_negatives: int

    @property
    def f1(self) -> float:
        """Their F1 in percent; 100 where there was nothing to find and nothing was found."""
        wrong = self.false_positives + self.false_negatives
        if self.true_positives + wrong == 0:
            return 100.0
        return 200.0 * self.true_positives / (2 * self.true_positives + wrong)


def frame_accuracy(predicted: Labels, true: Labels) -> float:
    """Return the percentage of frames, background included, whose label is right.

    Raises:
        ValueError: there is not one integer label a frame on both sides, or there is no frame.
    """
    predicted_labels, true_labels = label_pair(predicted, true)
    return 100.0 * float(np.mean(predicted_labels == true_labels))


def edit_score(predicted: Labels, true: Labels, *, background: Collection[int] = ()) -> float:
    """Return 100 (1 - d / n): d the edit distance of the two orders of segments, n the longer one.

    Segments of `background` labels are left out, which never joins their neighbours: 1 0 1 is the
    order 1 1. Two orders without a segment are equal, and score 100.

    Raises:
        ValueError: there is not one integer label a frame on both sides, or there is no frame.
    """
    predicted_labels, true_labels = label_pair(predicted, true)
    left = segments_of(predicted_labels, background).labels
    right = segments_of(true_labels, background).labels
    longer = max(len(left), len(right))
    return 100.0 * (1 - _edit_distance(left, right) / longer) if longer else 100.0


def segmental_f1(
    predicted: Labels, true: Labels, overlap: float | int, *, background: Collection[int] = ()
) -> float:
    """Return the F1 of segments that match a true one of their label with enough overlap.

    Args:
        predicted: one integer label a frame.
        true: likewise.
        overlap: intersection over union that a match needs: a fraction (0.25) or a percentage (25).
        background: labels whose segments are left out.

    Raises:
        ValueError: there is not one integer label a frame on both sides, or there is no frame, or
            `overlap` lies outside (0, 100].
    """
    predicted_labels, true_labels = label_pair(predicted, true)
    candidates = find_candidates(predicted_labels, true_labels, background=background)
    return candidates.matches(overlap).f1


class Candidates(NamedTuple):
    """Of each predicted segment, the true one of its label that it overlaps best, if any.

    A true segment is found once: a second prediction whose best it is is wrong, even where it
    overlaps another one well enough.
    """

    num_predicted: int
    num_true: int
    best: Int[np.ndarray, " P"]
    ratios: Float64[np.ndarray, " P"]

    def matches(self, overlap: float | int) -> Matches:
        """Count those whose intersection over union reaches `overlap`."""
        found = len(np.unique(self.best[self.ratios >= overlap_fraction(overlap)]))
        return Matches(found, self.num_predicted - found, self.num_true - found)


def find_candidates(
    predicted: Int[np.ndarray, " T"],
    true: Int[np.ndarray, " T"],
    *,
    background: Collection[int] = (),
    last_segment_end: SegmentEnd = "exact",
) -> Candidates:
    """Return each predicted segment's best true one; of equally good ones, the first."""
    left = segments_of(predicted, background, last_segment_end)
    right = segments_of(true, background, last_segment_end)
    # of sorted, disjoint segments, those that overlap one of the others are neighbours
    first = np.searchsorted(right.ends, left.starts, side="right")
    count = np.maximum(np.searchsorted(right.starts, left.ends, side="left") - first, 0)
    i = np.repeat(np.arange(len(left.labels)), count)
    j = np.arange(len(i)) + np.repeat(first - (np.cumsum(count) - count), count)
    alike = left.labels[i] == right.labels[j]
    i, j = i[alike], j[alike]
    shared = np.minimum(left.ends[i], right.ends[j]) - np.maximum(left.starts[i], right.starts[j])
    union = np.maximum(left.ends[i], right.ends[j]) - np.minimum(left.starts[i], right.starts[j])
    ratios = shared / union
    best_first = np.lexsort((j, -ratios, i))
    best = best_first[np.unique(i[best_first], return_index=True)[1]]
    return Candidates(len(left.labels), len(right.labels), j[best], ratios[best])


class Segments(NamedTuple):
    """Stretches of equal labels, in order: frames [start, end) each."""

    starts: Int[np.ndarray, " S"]
    ends: Int[np.ndarray, " S"]
    labels: Int[np.ndarray, " S"]


def segments_of(
    labels: Int[np.ndarray, " T"],
    background: Collection[int] = (),
    last_segment_end: SegmentEnd = "exact",
) -> Segments:
    """Return the segments of one video, those of `background` left out."""
    changes = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    starts = np.concatenate([[0], changes])
    last_end = len(labels) - 1 if last_segment_end == "one_short" else len(labels)
    ends = np.concatenate([changes, [last_end]])
    kept = ~np.isin(labels[starts], np.fromiter(background, dtype=np.int64))
    return Segments(starts[kept], ends[kept], labels[starts][kept])


def label_pair(predicted: Labels, true: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Return both as int64 arrays [T].

    Raises:
        ValueError: there is not one integer label a frame on both sides, or there is no frame.
    """
    pair = tuple(
        labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
        for labels in (predicted, true)
    )
    shapes = [[*labels.shape] for labels in pair]
    if shapes[0] != shapes[1] or len(shapes[0]) != 1 or shapes[0] == [0]:
        raise ValueError(
            "predicted and true must be one label a frame, of the same frames, one or more, "
            f"got shapes {shapes[0]} and {shapes[1]}"
        )
    if any(labels.dtype.kind not in "iu" for labels in pair):
        got = f"{pair[0].dtype} and {pair[1].dtype}"
        raise ValueError(f"predicted and true must be integer labels, got {got}")
    return pair[0].astype(np.int64), pair[1].astype(np.int64)


def overlap_fraction(overlap: float | int) -> float:
    """Return an overlap given as a fraction or, above 1, as a percentage, as a fraction.

    Raises:
        ValueError: it lies outside (0, 100].
    """
    if not 0 < overlap <= 100:
        raise ValueError(
            f"overlap must be a fraction in (0, 1] or a percentage up to 100, got {overlap}"
        )
    return overlap / 100 if overlap > 1 else float(overlap)


def _edit_distance(left: np.ndarray, right: np.ndarray) -> int:
    """Levenshtein's distance, one row of its table at a time."""
    columns = np.arange(len(right) + 1)
    row = columns
    for count, label in enumerate(left.tolist(), start=1):
        replaced_or_dropped = np.minimum(row[:-1] + (right != label), row[1:] + 1)
        # an insertion costs 1 a column: the cheapest start of a run of them is a running minimum
        ahead = np.concatenate([[count], replaced_or_dropped]) - columns
        row = np.minimum.accumulate(ahead) + columns
    return int(row[-1])
