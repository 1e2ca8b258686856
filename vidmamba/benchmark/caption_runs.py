"""One training run of a captioning benchmark: what it is, and what it leaves in its folder."""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vidmamba import __version__
from vidmamba.benchmark.code import code_key
from vidmamba.benchmark.keys import hash_of
from vidmamba.benchmark.quick_captions import train_captioner_quickly
from vidmamba.benchmark.runs import UNIMPORTANT
from vidmamba.caption_inference import caption_items
from vidmamba.config import to_plain
from vidmamba.data import DataConfig, load_data
from vidmamba.datasets.records import LabelledSet
from vidmamba.device import device_of
from vidmamba.features.files import write_json
from vidmamba.models.captioner import CaptionerConfig
from vidmamba.models.generation import GenerationConfig
from vidmamba.models.tokenizer import TokenizerConfig
from vidmamba.tasks.caption_batches import CaptionBatchConfig
from vidmamba.tasks.caption_losses import CaptionLossConfig
from vidmamba.tasks.caption_scores import best_text
from vidmamba.tasks.caption_setup import make_captioning_task
from vidmamba.tasks.optim import OptimConfig
from vidmamba.training import TrainerConfig, seed_everything

LEARNING = (
    *("benchmark/caption_runs.py", "benchmark/quick.py", "benchmark/quick_captions.py"),
    *("caption_inference.py", "data", "datasets", "kernels"),
    *("losses.py", "models", "nn", "tasks", "training.py"),
)
"""Files and folders that decide what a run learns and says."""

PARTS = ("validation", "test")


@dataclass(frozen=True, kw_only=True)
class CaptionSettings:
    """All that one run is made of, but its data and seed."""

    model: CaptionerConfig = field(default_factory=CaptionerConfig)
    """The network."""

    words: TokenizerConfig = TokenizerConfig()
    """The tokenizer, trained on the training captions."""

    optim: OptimConfig = OptimConfig()
    """Optimiser and schedule."""

    loss: CaptionLossConfig = CaptionLossConfig()
    """What is minimised."""

    batches: CaptionBatchConfig = CaptionBatchConfig()
    """What training sees of the captions."""

    trainer: TrainerConfig = TrainerConfig()
    """Length, device and logs."""


@dataclass(frozen=True, kw_only=True)
class CaptionRun:
    """Settings, trained with one seed."""

    name: str
    """Of recipe and variant."""

    settings: CaptionSettings
    """What is trained."""

    data: DataConfig
    """On what."""

    seed: int
    """Fixes the weights, the order of the videos and the drawn captions."""

    ways: Mapping[str, GenerationConfig]
    """How captions are chosen, by name: all are tried on the held-out videos."""

    def folder(self, root: Path, data: LabelledSet) -> Path:
        """Return this run's folder: any change of config, data or code is another one.

        Of the held-out videos, which it describes, the names count alone.
        """
        plain = {"settings": to_plain(self.settings), "data": to_plain(self.data)}
        for unimportant in UNIMPORTANT["trainer"]:
            plain["settings"]["trainer"].pop(unimportant)
        plain["data"].pop("root")
        ways = {name: to_plain(way) for name, way in self.ways.items()}
        rest = {
            "seed": self.seed,
            "ways": ways,
            "features": data.feature_key,
            "captions": [[item.name, *(c.text for c in item.captions)] for item in data.train],
            "held out": [item.name for part in PARTS for item in getattr(data, part)],
            "code": code_key(LEARNING),
        }
        return root / self.name / f"seed{self.seed}-{hash_of(plain | rest)}"


def read_run(folder: Path) -> dict[str, Any] | None:
    """Return what a run left, None where it has not come to its end."""
    path = folder / "run.json"
    return json.loads(path.read_text()) if path.exists() else None


def train_caption_run(run: CaptionRun, folder: Path) -> None:
    """Train for all epochs, caption the held-out videos in each way, and leave ``run.json``.

    No epoch is chosen: by as few videos as validation has, it would be good for those alone. A run
    that was stopped before starts anew.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    seed_everything(run.seed)
    data, settings = load_data(run.data), run.settings
    device = device_of(settings.trainer.accelerator)
    task = make_captioning_task(
        data,
        model=settings.model,
        words=settings.words,
        optim=settings.optim,
        loss=settings.loss,
        batches=settings.batches,
        generation=next(iter(run.ways.values())),
        data_config=to_plain(run.data),
    )
    start = time.perf_counter()
    train_captioner_quickly(task, data.train, settings.trainer, seed=run.seed, device=device)
    seconds = time.perf_counter() - start
    captions: dict[str, dict[str, dict[str, str]]] = {part: {} for part in PARTS}
    for way, config in run.ways.items():
        task.generation = config
        for part in PARTS:
            told = caption_items(task, getattr(data, part))
            captions[part][way] = {name: best_text(own) for name, own in told.items()}
    record = {
        "run": run.name,
        "seed": run.seed,
        "settings": to_plain(settings),
        "version": __version__,
        "parameters": sum(p.numel() for p in task.net.parameters()),
        "train_seconds": seconds,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "captions": captions,
    }
    write_json(folder / "run.json", record)
