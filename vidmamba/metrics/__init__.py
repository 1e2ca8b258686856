"""How well frames and segments were found, in percent, by the conventions of published tables."""

from vidmamba.metrics.module import SegmentationScore
from vidmamba.metrics.video import edit_score, frame_accuracy, segmental_f1
from vidmamba.metrics.videos import score_videos

__all__ = ["SegmentationScore", "edit_score", "frame_accuracy", "score_videos", "segmental_f1"]
