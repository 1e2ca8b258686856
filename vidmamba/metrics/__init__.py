"""How well frames, segments and whole videos were named, by the conventions of published tables."""

from vidmamba.metrics.module import SegmentationScore
from vidmamba.metrics.ranking import MeanAveragePrecision
from vidmamba.metrics.video import edit_score, frame_accuracy, segmental_f1
from vidmamba.metrics.videos import score_videos

__all__ = [
    "MeanAveragePrecision",
    "SegmentationScore",
    "edit_score",
    "frame_accuracy",
    "score_videos",
    "segmental_f1",
]
