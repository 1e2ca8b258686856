"""The scores as a torchmetrics module: fed batch by batch, summed over devices."""

from collections.abc import Collection, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torchmetrics import Metric

from vidmamba.metrics.video import SegmentEnd
from vidmamba.metrics.videos import (
    Convention,
    checked_segment_end,
    scores_from_tally,
    tally_size,
    tally_video,
)

UNIT = 1e-9
"""Percent that one step of the state stands for."""


class SegmentationScore(Metric):
    """`score_videos` over batches, with the same arguments; a row of a batch is a whole video.

    Args:
        stride: score each video's frames 0, stride, 2 * stride, ... alone.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor

    def __init__(
        self,
        *,
        convention: Convention = "per_video",
        background: Collection[int] = (),
        overlaps: Sequence[float | int] = (10, 25, 50),
        last_segment_end: SegmentEnd | None = None,
        stride: int = 1,
    ) -> None:
        super().__init__()
        if stride < 1:
            raise ValueError(f"stride must be 1 or more, got {stride}")
        self.convention = convention
        self.background = tuple(background)
        self.overlaps = tuple(overlaps)
        self.last_segment_end = checked_segment_end(convention, last_segment_end)
        self.stride = stride
        # integers: their sum is exact in any order, and Apple's GPUs know no float64
        state = torch.zeros(tally_size(overlaps), dtype=torch.int64)
        self.add_state("total", state, dist_reduce_fx="sum")

    def update(
        self,
        predicted: Int[Tensor, "B T"],
        labels: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"] | None = None,
    ) -> None:
        """Score a batch's videos.

        Args:
            predicted: the label predicted for each frame.
            labels: the true ones; a frame with a negative one (-100) is left out.
            mask: True where a frame is real; the others are left out.
        """
        scored = labels >= 0 if mask is None else mask & (labels >= 0)
        rows = zip(predicted.cpu(), labels.cpu(), scored.cpu(), strict=True)
        for row_predicted, row_labels, row_scored in rows:
            kept = row_scored[:: self.stride]
            if not kept.any():
                continue  # a video without a labelled frame has no score
            tally = tally_video(
                row_predicted[:: self.stride][kept],
                row_labels[:: self.stride][kept],
                background=self.background,
                overlaps=self.overlaps,
                last_segment_end=self.last_segment_end,
            )
            self.total += torch.from_numpy(np.rint(tally / UNIT).astype(np.int64)).to(self.total)

    def compute(self) -> dict[str, Tensor]:
        """Return `score_videos`' dict, of scalar tensors.

        Raises:
            ValueError: there was no video with a labelled frame.
        """
        total = self.total.cpu().numpy() * UNIT
        # counts come back as whole numbers, which the product with UNIT is not quite
        counts = np.ones(len(total), dtype=bool)
        counts[[3, 4, *range(8, len(total), 4)]] = False
        total = np.where(counts, np.rint(total), total)
        scores = scores_from_tally(total, convention=self.convention, overlaps=self.overlaps)
        return {name: torch.tensor(score, device=self.device) for name, score in scores.items()}
