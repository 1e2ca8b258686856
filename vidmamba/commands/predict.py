"""`vidmamba predict`: what a checkpoint says of raw videos."""

from pathlib import Path

import numpy as np
from jaxtyping import Int

from vidmamba.commands.decoders import decoder_of
from vidmamba.commands.troubles import report_troubles
from vidmamba.decoding import DecodingConfig
from vidmamba.evaluation import log_probabilities
from vidmamba.features.videos import expand_videos
from vidmamba.inference import classify_videos, predict_videos
from vidmamba.tasks.captioning import CaptioningTask
from vidmamba.tasks.checkpoints import load_captioning_task, load_checkpoint
from vidmamba.tasks.classification import ClassificationTask
from vidmamba.tasks.segmentation import FramePrediction, SegmentationTask


def caption(videos: list[str], *, checkpoint: Path, out: Path) -> int:
    """Describe raw videos: JSON, CSV, WebVTT (subtitles in any player) and an HTML page for each.

    Args:
        videos: Video files, folders of them, or glob patterns.
        checkpoint: What `train` or `demo` wrote for captions.
        out: Folder for the results.
    """
    files = expand_videos(videos)
    report = predict_videos(files, load_captioning_task(checkpoint), out)
    for page in report.pages.values():
        print(page)
    return report_troubles(report.damaged, report.failed)


def predict(
    videos: list[str],
    *,
    checkpoint: Path,
    out: Path,
    decoding: DecodingConfig = DecodingConfig(),
) -> int:
    """Say what happens in raw videos: JSON, CSV, WebVTT and an HTML page for each.

    A model that classifies whole videos writes a JSON file for each, and a line to stdout.

    Args:
        videos: Video files, folders of them, or glob patterns.
        checkpoint: What `train` or `demo` wrote.
        out: Folder for the results.
        decoding: How a segmentation model's frames get their labels; what it learns from are the
            training videos.
    """
    files = expand_videos(videos)
    task = load_checkpoint(checkpoint)
    decode = decoder_of(task, decoding, checkpoint)

    def label(frames: FramePrediction) -> Int[np.ndarray, " T"]:
        assert decode is not None
        return decode(log_probabilities(frames.probabilities), frames.boundaries)

    if isinstance(task, SegmentationTask | CaptioningTask):
        report = predict_videos(files, task, out, label=label if decode else None)
        for page in report.pages.values():
            print(page)
        return report_troubles(report.damaged, report.failed)
    if isinstance(task, ClassificationTask):
        classes = classify_videos(files, task, out)
        for path, likeliest in classes.likeliest.items():
            print(f"{path}\t{likeliest}")
        return report_troubles(classes.damaged, classes.failed)
    raise ValueError(f"{checkpoint}: no prediction for a model of {task.hparams['kind']}")
