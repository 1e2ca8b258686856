"""A data set of nine videos in three splits, each tested once, and a benchmark of it in seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vidmamba.benchmark.command as command
from vidmamba.benchmark import Protocol, Recipe, benchmark
from vidmamba.benchmark.runs import Run, train_run
from vidmamba.data import DataConfig
from vidmamba.decoding import DecodingConfig
from vidmamba.models.augment import AugmentConfig
from vidmamba.models.segmenter import SegmenterConfig
from vidmamba.nn.stack import StackConfig
from vidmamba.tasks.optim import OptimConfig
from vidmamba.training import TrainerConfig

CLASSES = ("background", "stir", "pour")
WIDTH = 4
SPLITS = {1: ("v0", "v1", "v2"), 2: ("v3", "v4", "v5"), 3: ("v6", "v7", "v8")}
"""The test videos of each split."""

MODEL = SegmenterConfig(
    stack=StackConfig(width=8, depth=0), augment=AugmentConfig(channel_dropout=0.0)
)
OPTIM = OptimConfig(lr=3e-2)
TRAINER = TrainerConfig(epochs=2, batch_size=4, accelerator="cpu", wandb="off")
DECODINGS = {
    "likeliest": DecodingConfig(kind="argmax"),
    "steady": DecodingConfig(kind="switch", switch_cost=2.0, only_seen_transitions=True),
}


class Folder:
    """The data set on disk; classes show in the features, with noise."""

    validation = 0.34

    def __init__(self, root: Path) -> None:
        self.root = root
        random = np.random.default_rng(0)
        for folder in ("groundTruth", "splits", *(f"features/split{k}" for k in SPLITS)):
            (root / folder).mkdir(parents=True)
        (root / "mapping.txt").write_text("".join(f"{i} {c}\n" for i, c in enumerate(CLASSES)))
        (root / "protocol.json").write_text('{"fps": 5, "evaluation_stride": 2}')
        everyone = [video for videos in SPLITS.values() for video in videos]
        self.labels = {
            video: np.repeat(random.integers(0, 3, 5), random.integers(3, 9, 5))
            for video in everyone
        }
        for video, labels in self.labels.items():
            self.write_labels(video, labels)
            for split in SPLITS:
                features = np.eye(3, WIDTH)[labels] + random.normal(0, 0.4, (len(labels), WIDTH))
                np.save(root / f"features/split{split}/{video}.npy", features.astype(np.float16))
        for split, tested in SPLITS.items():
            parts = {"test": tested, "train": [v for v in everyone if v not in tested]}
            for part, videos in parts.items():
                text = "".join(f"{video}.txt\n" for video in videos)
                (root / f"splits/{part}.split{split}.bundle").write_text(text)

    def write_labels(self, video: str, labels: np.ndarray) -> None:
        text = "".join(f"{CLASSES[label]}\n" for label in labels)
        (self.root / "groundTruth" / f"{video}.txt").write_text(text)

    def change_labels_of_test(self, split: int) -> None:
        """Give a split's test videos other labels in every frame."""
        for video in SPLITS[split]:
            self.write_labels(video, (self.labels[video] + 1) % 3)

    @property
    def config(self) -> DataConfig:
        return DataConfig(root=str(self.root), validation=self.validation)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "data")


@pytest.fixture
def run_benchmark(folder: Folder, tmp_path: Path) -> Callable[..., Path]:
    """Run a small benchmark and return its output folder."""

    def run(**changes: Any) -> Path:
        output: Path = changes.pop("output", tmp_path / "out")
        options: dict[str, Any] = {
            "data": folder.config,
            "output": output,
            "protocol": Protocol(splits=(1, 2, 3), seeds=(0,), choose_by="other_splits"),
            "recipes": {"probe": Recipe()},
            "model": MODEL,
            "optim": OPTIM,
            "trainer": TRAINER,
        }
        assert benchmark(**options | changes) == 0
        return output

    return run


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the runs that were trained, as they are."""
    names: list[str] = []

    def train(run: Run, folder: Path, **options: Any) -> None:
        names.append(run.name)
        train_run(run, folder, **options)

    monkeypatch.setattr(command, "train_run", train)
    return names
