"""Decoders of trained models, learned from what their training videos showed."""

from pathlib import Path
from typing import Any

import numpy as np

from vidmamba.datasets.records import LabelledSet
from vidmamba.decoding import Decoder, DecodingConfig, learn_decoder
from vidmamba.tasks.segmentation import SegmentationTask
from vidmamba.timeline import runs

TAUGHT = "taught"
"""Where a checkpoint's labels say what its training videos showed: `[class, frames]` after one
another, a list a video; -1 for frames without a label."""


def remember_training(task: SegmentationTask, data: LabelledSet) -> None:
    """Put the training videos' orders and lengths into what a checkpoint of the task will hold."""
    task.hparams["labels"][TAUGHT] = [
        [[label, end - start] for start, end, label in runs(item.labels)] for item in data.train
    ]


def decoder_of(task: Any, config: DecodingConfig, checkpoint: Path) -> Decoder | None:
    """Return the decoder that a model's training videos teach; None for the likeliest classes.

    Raises:
        ValueError: it is no segmentation model, or was trained before this was kept.
    """
    if config.kind == "argmax":
        return None
    if not isinstance(task, SegmentationTask):
        kind = task.hparams["kind"]
        raise ValueError(f"{checkpoint}: decoding.kind is for segmentation, this model is {kind}")
    taught = task.hparams["labels"].get(TAUGHT)
    if taught is None:
        raise ValueError(
            f"{checkpoint} does not say what its training videos showed, which decoding.kind "
            f"{config.kind} learns from: train it again with this version, or take argmax"
        )
    labels = [np.repeat(*np.array(video, dtype=np.int64).reshape(-1, 2).T) for video in taught]
    return learn_decoder(config, labels, len(task.class_names))
