"""Load a trained task, whichever it is, from its checkpoint."""

import pickle
from pathlib import Path

import lightning as L
import torch

from vidmamba import __version__
from vidmamba.device import device_of
from vidmamba.tasks.captioning import CaptioningTask
from vidmamba.tasks.classification import ClassificationTask
from vidmamba.tasks.segmentation import SegmentationTask

TASKS: dict[str, type[L.LightningModule]] = {
    task.kind: task for task in (SegmentationTask, ClassificationTask, CaptioningTask)
}


def load_checkpoint(
    checkpoint: Path, *, kind: str | None = None, device: str = "auto"
) -> L.LightningModule:
    """Load a trained task.

    Args:
        checkpoint: the file.
        kind: of the task, a key of `TASKS`; None for any.
        device: where it shall run, as `device_of` takes it: by default on the GPU if there is one.

    Raises:
        ValueError: the file is missing, or is no checkpoint of this package, or of a version with
            other options, or of another kind of task.
    """
    if not checkpoint.is_file():
        raise ValueError(f"{checkpoint}: no such checkpoint file")
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        # PyTorch's own message advises to load what may run anything
        raise ValueError(f"{checkpoint}: not a vidmamba checkpoint (no file of PyTorch)") from error
    try:
        values, weights = content["hyper_parameters"], content["state_dict"]
        found = values["kind"]
        if kind in (None, found):
            task = TASKS[found](**values)
            task.load_state_dict(weights)
            return task.to(device_of(device)).eval()
    except (RuntimeError, KeyError, TypeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{checkpoint}: not a vidmamba checkpoint ({reason})") from error
    except ValueError as error:
        raise ValueError(
            f"{checkpoint}: made by vidmamba {values.get('version', 'of another version')}, whose "
            f"options are not those of this one, {__version__}: {error}"
        ) from error
    raise ValueError(f"{checkpoint}: a {found} model; this needs a {kind} model")


def load_task(checkpoint: Path, *, device: str = "auto") -> SegmentationTask:
    """Load a trained segmentation task, as `load_checkpoint` does.

    Raises:
        ValueError: as `load_checkpoint`.
    """
    task = load_checkpoint(checkpoint, kind=SegmentationTask.kind, device=device)
    assert isinstance(task, SegmentationTask)
    return task


def load_captioning_task(checkpoint: Path, *, device: str = "auto") -> CaptioningTask:
    """Load a trained captioning task, as `load_checkpoint` does.

    Raises:
        ValueError: as `load_checkpoint`.
    """
    task = load_checkpoint(checkpoint, kind=CaptioningTask.kind, device=device)
    assert isinstance(task, CaptioningTask)
    return task
