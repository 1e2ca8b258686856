"""Train on short videos as `fit` does, without what a step costs there beside the model.

A pass over 50 Salads is ten steps of a few milliseconds: a loader, callbacks, logs and checkpoints
would take longer than the model. Here the videos lie on the device, and nothing waits for it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidmamba.benchmark.graphs import Graphs
from vidmamba.datasets.batching import Batch, LengthBuckets, collate
from vidmamba.datasets.records import VideoItem
from vidmamba.tasks.captioning import CaptioningTask
from vidmamba.tasks.optim import decay_groups, schedule_of
from vidmamba.tasks.segmentation import SegmentationTask
from vidmamba.training import TrainerConfig

HELD_BYTES = 4 * 2**30
"""Padded features up to this size lie on the device; larger sets are read batch by batch."""

LENGTH_STEP = 1024
"""On a GPU, batches are padded to multiples of this many frames, so that few graphs serve all."""

WAITING = "2L"
"""Letters of mixers that wait for the device to say how long videos are."""

Take = Callable[[Sequence[int]], Batch]
"""Makes a batch, on the device, of the videos with these numbers."""


def train_quickly(
    task: SegmentationTask,
    items: Sequence[VideoItem],
    config: TrainerConfig,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    batches: Sequence[Sequence[int]] | None = None,
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
        batches: the videos of each step, by number, in place of epochs and batch size; of items
            with shifted views, the numbers of those.
    """
    device = torch.device(device)
    task.to(device).train()
    if batches is None:
        order = LengthBuckets(
            [item.num_frames for item in items],
            batch_size=config.batch_size,
            shuffle=True,
            seed=seed,
            views=[len(item.views) for item in items],
        )
        batches = [numbers for _ in range(config.epochs) for numbers in order]
    items = [view for item in items for view in item.views]
    optimization = Optimization(task, config, steps=len(batches))
    if device.type == "cuda" and graphable(task) and _fits(items):
        _replay(optimization, items, batches)
    else:
        take = _taker(items, device)
        for numbers in batches:
            optimization.step(take(numbers))
    optimization.finish()
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # so that whoever times this times all of it


class Optimization:
    """A task's optimiser, its schedule and its averaged weights; a step waits for nothing.

    Args:
        task: on its device.
        config: clip and ema are read.
        steps: how many there will be.
    """

    def __init__(
        self, task: SegmentationTask | CaptioningTask, config: TrainerConfig, *, steps: int
    ) -> None:
        factor = schedule_of(task.optim, steps=steps)
        rates = [task.optim.lr * factor(step) for step in range(steps)]
        self.task, self.config = task, config
        self.done = torch.zeros(1, dtype=torch.int64, device=task.device)
        """Steps that are done; on the device, so that a graph of a step finds its place."""
        self._rates = torch.tensor(rates, device=task.device)
        self._rate = torch.zeros((), device=task.device)
        self._optimizer = torch.optim.AdamW(
            decay_groups(task, task.optim),
            lr=self._rate,
            fused=True,
            capturable=task.device.type == "cuda",
        )
        self._weights: list[Tensor] = [*task.parameters()]
        self._average: list[Tensor] = []

    def step(self, batch: Any, **options: Any) -> None:
        """Move the weights by the gradient of a batch's loss, and the average after them."""
        self._optimizer.zero_grad()
        self.task.batch_loss(batch, **options).backward()
        torch.nn.utils.clip_grad_norm_(self._weights, self.config.clip)
        self._rate.copy_(self._rates.index_select(0, self.done).squeeze(0))
        self._optimizer.step()
        if self.config.ema is not None:
            self._follow(1 - self.config.ema)
        self.done += 1

    @torch.no_grad()
    def finish(self) -> None:
        """Leave the task with the averaged weights, if there are any."""
        if self._average:
            torch._foreach_copy_(self._weights, self._average)

    @torch.no_grad()
    def _follow(self, share: float | int) -> None:
        """Move the average by a share of the way to the weights; the first ones are the first.

        One call for all tensors: one for each would take as long as the rest of a short step.
        """
        if self._average:
            torch._foreach_lerp_(self._average, self._weights, share)
        else:
            self._average.extend(weight.detach().clone() for weight in self._weights)


def graphable(task: SegmentationTask) -> bool:
    """Whether a step's kernels hang on shapes alone: a few mixers ask the device for lengths."""
    model = task.hparams["model"]
    letters = {*model["stack"]["pattern"], *model["refinement"]["pattern"]}
    return task.loss.supervision == "frames" and not letters & {*WAITING}


def save_task(task: SegmentationTask, path: Path) -> None:
    """Write a checkpoint that `load_task` reads."""
    torch.save({"hyper_parameters": dict(task.hparams), "state_dict": task.state_dict()}, path)


def _replay(
    optimization: Optimization, items: Sequence[VideoItem], batches: Sequence[Sequence[int]]
) -> None:
    """Train on a GPU by graphs, one for each shape of batches; their videos lie on the device."""
    device = optimization.task.device
    held = _held(items, device)
    lengths = [item.num_frames for item in items]
    widest = max(len(numbers) for numbers in batches)
    rows = torch.tensor([[*numbers] + [0] * (widest - len(numbers)) for numbers in batches])
    rows = rows.to(device)
    graphs = Graphs()
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for numbers in batches:
            frames = round_up(max(lengths[number] for number in numbers), LENGTH_STEP)

            def step(videos: int = len(numbers), frames: int = frames) -> None:
                here = rows.index_select(0, optimization.done)[0, :videos]
                optimization.step(_cut(held, here, frames))

            graphs.run(step, (len(numbers), frames))
    torch.cuda.current_stream(device).wait_stream(stream)
    stream.synchronize()  # the graphs go, and their memory with them


def round_up(number: int, step: int) -> int:
    """Return the least multiple of ``step`` that is not below ``number``."""
    return -(-number // step) * step


def _taker(items: Sequence[VideoItem], device: torch.device) -> Take:
    """Return what makes the batches that `collate` makes, on the device."""
    if not _fits(items):
        return lambda numbers: _moved(collate([items[number] for number in numbers]), device)
    held = _held(items, device)

    def take(numbers: Sequence[int]) -> Batch:
        frames = max(items[number].num_frames for number in numbers)
        return _cut(held, torch.tensor(numbers, device=device), frames)

    return take


def _fits(items: Sequence[VideoItem]) -> bool:
    longest = max(item.num_frames for item in items)
    return 4 * len(items) * longest * items[0].features.shape[1] <= HELD_BYTES


def _held(items: Sequence[VideoItem], device: torch.device) -> Batch:
    """Return all videos on the device, as one batch."""
    return _moved(collate(items), device)


def _cut(held: Batch, numbers: Tensor, frames: int) -> Batch:
    """Return some of the videos, padded to ``frames`` or, if that is less, the longest of all."""
    return Batch(
        held.features[:, :frames].index_select(0, numbers),
        held.labels[:, :frames].index_select(0, numbers),
        held.mask[:, :frames].index_select(0, numbers),
        (),
        held.video_labels.index_select(0, numbers),
    )


def _moved(batch: Batch, device: torch.device) -> Batch:
    return batch._replace(
        features=batch.features.to(device),
        labels=batch.labels.to(device),
        mask=batch.mask.to(device),
        video_labels=batch.video_labels.to(device),
    )
