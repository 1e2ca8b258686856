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
from dataclasses import dataclass
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

CompatName = Literal["lea", "mstcn", "mstcn2", "asformer", "asrf", "diffact", "ltcontext"]
"""A published evaluator, by the work whose tables it made."""


@dataclass(frozen=True, kw_only=True)
class Compat:
    """What one published evaluator does: arguments of `score_videos`, and which frames count."""

    convention: Convention
    """Mean of the videos' scores, or all videos' segments counted together."""

    last_segment_end: SegmentEnd
    """Where a video's last segment ends."""

    every_frame: bool
    """Whether every stored frame is scored, or those that the data's protocol names."""

    background_by_name: bool
    """Whether background is the class of that very name, or what the data declares."""

    def stride(self, evaluation_stride: int) -> int:
        """Return every how many stored frames one is scored."""
        return 1 if self.every_frame else evaluation_stride

    def background(
        self, class_names: Sequence[str], declared: Collection[int] = ()
    ) -> tuple[int, ...]:
        """Return the labels that Edit and F1 leave out, `declared` being the data's own."""
        if not self.background_by_name:
            return tuple(declared)
        return tuple(label for label, name in enumerate(class_names) if name == "background")

    def score(
        self,
        pairs: Iterable[tuple[Labels, Labels]],
        class_names: Sequence[str],
        declared: Collection[int] = (),
    ) -> dict[str, float]:
        """Return `score_videos` of (predicted, true) labels at the frames that are scored.

        Raises:
            ValueError: as `score_videos`.
        """
        return score_videos(
            pairs,
            convention=self.convention,
            background=self.background(class_names, declared),
            last_segment_end=self.last_segment_end,
        )


def _family(last_segment_end: SegmentEnd) -> Compat:
    return Compat(
        convention="pooled",
        last_segment_end=last_segment_end,
        every_frame=True,
        background_by_name=True,
    )


COMPATS: dict[CompatName, Compat] = {
    "lea": Compat(
        convention="per_video",
        last_segment_end="exact",
        every_frame=False,
        background_by_name=False,
    ),
    "mstcn": _family("exact"),
    "mstcn2": _family("one_short"),
    "asformer": _family("one_short"),
    "asrf": _family("one_short"),
    "diffact": _family("one_short"),
    "ltcontext": _family("exact"),
}
"""The evaluators in use; `lea` made the tables of ST-CNN, ED-TCN, TricorNet and TDRN."""


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
