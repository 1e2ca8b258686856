"""The scores of many videos, by the two conventions that published tables use.

The evaluators in use differ in these points, and agree in matching and in edit distance:

- `convention`. Lea et al. (the tables of ST-CNN, Dilated TCN, ED-TCN, TDRN) score each video and
  average. MS-TCN, MS-TCN++, ASFormer, ASRF and DiffAct count the frames and segments of all videos
  together, and average Edit alone. Both take the mean over splits.
- `last_segment_end`. Lea et al. end a video's last segment after its last frame, as do LTContext
  and MS-TCN's present code. MS-TCN++, ASFormer, ASRF and DiffAct end it before: `one_short`.
- `background`. Lea et al. leave out one class; the others leave out a class of the very name
  `background`, so that in their tables Breakfast's `SIL` counts as an action.
- Frames. Lea et al. score every fifth stored frame; the others every stored frame, those that the
  model did not see repeating the prediction before them.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float64

from vidmamba.metrics.video import (
    Labels,
    Matches,
    SegmentEnd,
    edit_score,
    find_candidates,
    frame_accuracy,
    label_pair,
    overlap_fraction,
)

Convention = Literal["per_video", "pooled"]

SEGMENT_ENDS: dict[Convention, SegmentEnd] = {"per_video": "exact", "pooled": "one_short"}


def score_videos(
    pairs: Iterable[tuple[Labels, Labels]],
    *,
    convention: Convention = "per_video",
    background: Collection[int] = (),
    overlaps: Sequence[float | int] = (10, 25, 50),
    last_segment_end: SegmentEnd | None = None,
) -> dict[str, float]:
    """Return `accuracy`, `edit` and `f1@<overlap>` of many videos, in percent.

    Args:
        pairs: (predicted, true) labels of each video, one integer a frame.
        convention: `per_video`, the mean of each video's scores; or `pooled`, frames and segments
            of all videos counted together, Edit alone averaged over videos.
        background: labels that Edit and F1 leave out; accuracy counts them.
        overlaps: what F1 asks of a match, as fractions or percentages.
        last_segment_end: `exact` or `one_short`; by default what the convention's authors do
            (`per_video` exact, `pooled` one short).

    Raises:
        ValueError: there is no video, or one whose labels do not pair up (the message counts it),
            or a convention or overlap that does not exist.
    """
    last_segment_end = checked_segment_end(convention, last_segment_end)
    total = np.zeros(tally_size(overlaps))
    for number, (predicted, true) in enumerate(pairs):
        try:
            total += tally_video(
                predicted,
                true,
                background=background,
                overlaps=overlaps,
                last_segment_end=last_segment_end,
            )
        except ValueError as error:
            raise ValueError(f"video {number}: {error}") from error
    return scores_from_tally(total, convention=convention, overlaps=overlaps)


def checked_segment_end(convention: Convention, last_segment_end: SegmentEnd | None) -> SegmentEnd:
    """Return the segment end to use, the convention's own if None.

    Raises:
        ValueError: the convention or the segment end has no such name.
    """
    if convention not in SEGMENT_ENDS:
        raise ValueError(f"convention must be per_video or pooled, got {convention!r}")
    chosen = SEGMENT_ENDS[convention] if last_segment_end is None else last_segment_end
    if chosen not in SEGMENT_ENDS.values():
        raise ValueError(f"last_segment_end must be exact or one_short, got {chosen!r}")
    return chosen


def tally_size(overlaps: Sequence[float | int]) -> int:
    """How many numbers `tally_video` returns."""
    return 5 + 4 * len(overlaps)


def tally_video(
    predicted: Labels,
    true: Labels,
    *,
    background: Collection[int],
    overlaps: Sequence[float | int],
    last_segment_end: SegmentEnd,
) -> Float64[np.ndarray, " M"]:
    """Return what one video adds to the sums that every convention's scores are made of.

    That is 1, frames, right frames, accuracy, Edit; then for each overlap the true positives, false
    positives, false negatives, and F1.
    """
    predicted, true = label_pair(predicted, true)
    right = int((predicted == true).sum())
    edit = edit_score(predicted, true, background=background)
    tally = [1, len(true), right, frame_accuracy(predicted, true), edit]
    candidates = find_candidates(
        predicted, true, background=background, last_segment_end=last_segment_end
    )
    for overlap in overlaps:
        matches = candidates.matches(overlap)
        tally += [*matches, matches.f1]
    return np.array(tally, dtype=np.float64)


def scores_from_tally(
    total: Float64[np.ndarray, " M"], *, convention: Convention, overlaps: Sequence[float | int]
) -> dict[str, float]:
    """Return the scores that the sum of all videos' tallies comes to.

    Raises:
        ValueError: there was no video.
    """
    videos, frames, right, accuracy, edit = total[:5].tolist()
    if videos == 0:
        raise ValueError("a score needs one video or more, got none")
    pooled = convention == "pooled"
    scores = {
        "accuracy": 100.0 * right / frames if pooled else accuracy / videos,
        "edit": edit / videos,
    }
    for overlap, counts in zip(overlaps, total[5:].reshape(-1, 4).tolist(), strict=True):
        *matches, summed_f1 = counts
        pooled_f1 = Matches(*map(int, matches)).f1
        percent = 100 * overlap_fraction(overlap)
        scores[f"f1@{percent:g}"] = pooled_f1 if pooled else summed_f1 / videos
    return scores
