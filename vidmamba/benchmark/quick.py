"""Train on short videos as `fit` does, without what a step costs there beside the model.

A pass over 50 Salads is ten steps of a few milliseconds: a loader, callbacks, logs and checkpoints
would take longer than the model. Here the videos lie on the device, and nothing waits for it.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vidmamba.datasets.batching import Batch, LengthBuckets, collate
from vidmamba.datasets.records import VideoItem
from vidmamba.tasks.optim import configure
from vidmamba.tasks.segmentation import SegmentationTask
from vidmamba.training import TrainerConfig

HELD_BYTES = 4 * 2**30
"""Padded features up to this size lie on the device; larger sets are read batch by batch."""

Take = Callable[[Sequence[int]], Batch]
"""Makes a batch, on the device, of the videos with these numbers."""


def train_quickly(
    task: SegmentationTask,
    items: Sequence[VideoItem],
    config: TrainerConfig,
    *,
    seed: int,
    device: torch.device | str = "cpu",
) -> None:
    """Train ``task`` in place for all epochs and leave it with the weights that `fit` would keep.

    They are the last ones, or with ``config.ema`` their running average. There is no log, no
    checkpoint and no validation; each batch holds the same videos as in `fit`.

    Args:
        task: moved to ``device``.
        items: the training videos.
        config: epochs, batch size, clip and ema are read.
        seed: fixes the order of the videos.
        device: where to train.
    """
    task.to(device).train()
    lengths = [item.num_frames for item in items]
    order = LengthBuckets(lengths, batch_size=config.batch_size, shuffle=True, seed=seed)
    configured = configure(task, task.optim, steps=config.epochs * len(order))
    optimizer, scheduled = configured["optimizer"], configured["lr_scheduler"]
    assert isinstance(scheduled, dict)
    weights: list[Tensor] = [*task.parameters()]
    average: list[Tensor] = []
    take = _taker(items, torch.device(device))
    with warnings.catch_warnings():
        # a step that logs has nowhere to do so
        warnings.filterwarnings("ignore", ".*reference is not registered on the model yet")
        for _ in range(config.epochs):
            for step, numbers in enumerate(order):
                optimizer.zero_grad()
                task.training_step(take(numbers), step).backward()
                torch.nn.utils.clip_grad_norm_(weights, config.clip)
                optimizer.step()
                scheduled["scheduler"].step()
                if config.ema is not None:
                    _follow(average, weights, 1 - config.ema)
    if average:
        with torch.no_grad():
            torch._foreach_copy_(weights, average)
    if task.device.type == "cuda":
        torch.cuda.synchronize(task.device)  # so that whoever times this times all of it


def save_task(task: SegmentationTask, path: Path) -> None:
    """Write a checkpoint that `load_task` reads."""
    torch.save({"hyper_parameters": dict(task.hparams), "state_dict": task.state_dict()}, path)


@torch.no_grad()
def _follow(average: list[Tensor], weights: list[Tensor], share: float | int) -> None:
    """Move the average by a share of the way to the weights; the first weights are the first one.

    One call for all tensors: one for each would take as long as the rest of a short step.
    """
    if average:
        torch._foreach_lerp_(average, weights, share)
    else:
        average.extend(weight.clone() for weight in weights)


def _taker(items: Sequence[VideoItem], device: torch.device) -> Take:
    """Return what makes the batches that `collate` makes, on the device."""
    longest = max(item.num_frames for item in items)
    if 4 * len(items) * longest * items[0].features.shape[1] > HELD_BYTES:
        return lambda numbers: _moved(collate([items[number] for number in numbers]), device)
    held = _moved(collate(items), device)

    def take(numbers: Sequence[int]) -> Batch:
        frames = max(items[number].num_frames for number in numbers)
        rows = torch.tensor(numbers)
        if device.type == "cuda":
            rows = rows.pin_memory().to(device, non_blocking=True)
        return Batch(
            held.features[:, :frames].index_select(0, rows),
            held.labels[:, :frames].index_select(0, rows),
            held.mask[:, :frames].index_select(0, rows),
            tuple(items[number].name for number in numbers),
            held.video_labels.index_select(0, rows),
        )

    return take


def _moved(batch: Batch, device: torch.device) -> Batch:
    return batch._replace(
        features=batch.features.to(device),
        labels=batch.labels.to(device),
        mask=batch.mask.to(device),
        video_labels=batch.video_labels.to(device),
    )
