"""One training run of a benchmark: what it is, where it lies, and training it."""

import shutil
import time
from collections.abc import Collection
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from vidmamba import __version__
from vidmamba.benchmark.code import LEARNING, PLACING, code_key
from vidmamba.benchmark.keys import hash_of, labels_key
from vidmamba.benchmark.outputs import RunFiles
from vidmamba.benchmark.quick import HELD_BYTES, save_task, train_quickly
from vidmamba.benchmark.recipes import Candidate
from vidmamba.benchmark.weak import place_orders
from vidmamba.config import to_plain
from vidmamba.data import DataConfig, load_data
from vidmamba.datasets.records import LabelledSet, VideoItem
from vidmamba.device import device_of
from vidmamba.tasks.checkpoints import load_task
from vidmamba.tasks.segmentation import FramePrediction, SegmentationTask, make_task
from vidmamba.training import fit, seed_everything

UNIMPORTANT = {
    "trainer": {"accelerator", "wandb", "project", "ribbons"},
    "data": {"root", "store", "evaluation_stride", "background"},
}
"""Fields that do not change what a run learns: a run is found again when they change. What is
background counts as the data has it (`Run.key`), whoever says so."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A candidate, trained on one split's training videos with one seed."""

    candidate: Candidate
    """What is trained."""

    data: DataConfig
    """The data, its split included."""

    seed: int
    """Fixes the weights and the order of the videos."""

    without: int | None = None
    """A split whose test videos are kept from this run altogether."""

    @property
    def name(self) -> str:
        """Candidate, split and seed, for people."""
        without = "" if self.without is None else f" without test {self.without}"
        return f"{self.candidate.name}, split {self.data.split}{without}, seed {self.seed}"

    @property
    def code(self) -> str:
        """A hash of the code that this run learns by."""
        weak = self.candidate.settings.weak.rounds > 0
        return code_key(LEARNING + PLACING if weak else LEARNING)

    def folder(self, root: Path, data: LabelledSet) -> Path:
        """Return this run's folder: any change of config, features or labels is another one."""
        without = "" if self.without is None else f"-without{self.without}"
        stem = f"split{self.data.split}{without}-seed{self.seed}"
        return root / self.candidate.name / f"{stem}-{self.key(data)}"

    def key(self, data: LabelledSet) -> str:
        """Return a hash of all that the run learns from, code too; of test videos, their names."""
        settings = to_plain(self.candidate.settings)
        config = to_plain(self.data)
        for part, fields in (("trainer", settings["trainer"]), ("data", config)):
            for field in UNIMPORTANT[part]:
                fields.pop(field)
        content = {
            "settings": settings,
            "data": config,
            "seed": self.seed,
            "code": self.code,
            "features": data.feature_key,
            "classes": data.class_names,
            "train": labels_key(data.train),
            "validation": labels_key(data.validation),
            "test": [item.name for item in data.test],
        }
        if data.validation:  # the epoch is chosen by scores that leave it out
            content["background"] = data.background
        return hash_of(content)


def without_videos(data: LabelledSet, names: Collection[str]) -> LabelledSet:
    """Return the set with some videos gone from every part."""
    train, validation, test = (
        tuple(item for item in part if item.name not in names)
        for part in (data.train, data.validation, data.test)
    )
    return replace(data, train=train, validation=validation, test=test)


def load_run_data(run: Run) -> LabelledSet:
    """Read the data that a run may see."""
    data = _read(run.data)
    if run.without is None:
        return data
    other = _read(replace(run.data, split=run.without))
    return without_videos(data, {item.name for item in other.test})


@lru_cache(maxsize=8)
def _read(config: DataConfig) -> LabelledSet:
    """Read a set once for all runs of a process, short videos with their features."""
    data = load_data(config)
    items = (*data.train, *data.validation, *data.test)
    views = [view for item in items for view in item.views]
    if 4 * sum(np.prod(view.features.shape) for view in views) > HELD_BYTES:
        return data
    train, validation, test = (
        tuple(_held(item) for item in part) for part in (data.train, data.validation, data.test)
    )
    return replace(data, train=train, validation=validation, test=test)


def _held(item: VideoItem) -> VideoItem:
    """Return a video with its features in memory."""
    shifted = tuple(_held(view) for view in item.shifted)
    return replace(item, features=item.read_features(), shifted=shifted)


def train_run(run: Run, folder: Path, *, jobs: int, keep_checkpoint: bool) -> None:
    """Train, label the videos that were held out, and leave the run's files in ``folder``.

    A run that was stopped before starts anew; what it prints goes to train.log.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    seed_everything(run.seed)
    data = load_run_data(run)
    settings = run.candidate.settings
    device = device_of(settings.trainer.accelerator)
    start = time.perf_counter()
    if settings.weak.rounds:
        data = replace(data, train=place_orders(data, settings, seed=run.seed, device=device))
        seed_everything(run.seed)
    task = make_task(
        data,
        model=settings.model,
        optim=settings.optim,
        loss=settings.loss,
        data_config=to_plain(run.data),
    )
    with (folder / "train.log").open("w") as log, redirect_stderr(log):
        if data.validation:  # the epoch is chosen by it
            trained = fit(task, data, settings.trainer, seed=run.seed, output=folder)
            task = load_task(trained.best, device=device)
            trained.last.unlink()
        else:
            train_quickly(task, data.train, settings.trainer, seed=run.seed, device=device)
            if keep_checkpoint:
                save_task(task, folder / "best.ckpt")
    seconds = time.perf_counter() - start
    found, speed = _label(task, data)
    frames = sum(item.num_frames for item in data.train) * settings.trainer.epochs
    record = {
        "run": run.name,
        "settings": to_plain(settings),
        "data": to_plain(run.data),
        "seed": run.seed,
        "without": run.without,
        "version": __version__,
        "code": run.code,
        "parameters": sum(p.numel() for p in task.net.parameters()),
        "train_seconds": seconds,
        "train_frames_per_second": frames / seconds,
        "frames_per_second": speed,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "jobs": jobs,
    }
    if not keep_checkpoint:
        (folder / "best.ckpt").unlink(missing_ok=True)
    RunFiles(folder).write(record, found)


def _label(task: SegmentationTask, data: LabelledSet) -> tuple[dict[str, FramePrediction], float]:
    """Return what is said of each held-out video, by part/name, and frames a second."""
    features = {
        f"{part}/{item.name}": item.read_features()
        for part in ("validation", "test")
        for item in getattr(data, part)
    }
    task.predict_frames(next(iter(features.values())))  # compiles kernels, warms caches
    start = time.perf_counter()
    found = {name: task.predict_frames(array) for name, array in features.items()}
    seconds = time.perf_counter() - start
    return found, sum(len(array) for array in features.values()) / seconds
