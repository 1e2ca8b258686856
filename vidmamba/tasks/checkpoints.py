"""Load a trained task, whichever it is, from its checkpoint."""

import pickle
from pathlib import Path

import lightning as L
import torch

from vidmamba.tasks.captioning import CaptioningTask
from vidmamba.tasks.classification import ClassificationTask
from vidmamba.tasks.segmentation import SegmentationTask

TASKS: dict[str, type[L.LightningModule]] = {
    task.kind: task for task in (SegmentationTask, ClassificationTask, CaptioningTask)
}


def load_checkpoint(checkpoint: Path) -> L.LightningModule:
    """Load a trained task onto the CPU.

    Raises:
        ValueError: the file is missing, or is no checkpoint of this package.
    """
    if not checkpoint.is_file():
        raise ValueError(f"{checkpoint}: no such checkpoint file")
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        values = content["hyper_parameters"]
        task = TASKS[values["kind"]](**values)
        task.load_state_dict(content["state_dict"])
    except (RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{checkpoint}: not a vidmamba checkpoint ({reason})") from error
    return task.eval()


def load_task(checkpoint: Path) -> SegmentationTask:
    """Load a trained segmentation task onto the CPU.

    Raises:
        ValueError: as `load_checkpoint`, or the checkpoint is of another task.
    """
    task = load_checkpoint(checkpoint)
    if not isinstance(task, SegmentationTask):
        kind = task.hparams["kind"]
        raise ValueError(f"{checkpoint}: a {kind} model; this needs a segmentation model")
    return task
