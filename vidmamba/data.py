"""Which data set, where it lies and how its features are made: one config to one labelled set."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from vidmamba.datasets.errands import errands_set
from vidmamba.datasets.mstcn import load_mstcn
from vidmamba.datasets.records import LabelledSet
from vidmamba.features.embed import place_backbone
from vidmamba.features.extract import extract_features
from vidmamba.features.store import FeatureStore
from vidmamba.models.backbone import BackboneConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """A data set: where it lies, how it is split, what its features are."""

    root: str
    """Folder of the data set; `~` and `$VARIABLES` are filled in."""

    format: Literal["mstcn", "errands"] = "mstcn"
    """mstcn: feature files, groundTruth, mapping.txt and splits; errands: videos we rendered."""

    split: int = 1
    """Number of the split (mstcn)."""

    stride: int = 1
    """Every how many stored frames the model sees one (mstcn)."""

    evaluation_stride: int | None = None
    """Every how many stored frames one is scored; null for what the data's protocol says."""

    validation: float = 0.2
    """Share of the training videos that is held back to choose by (mstcn)."""

    validation_seed: int = 0
    """Fixes which training videos are held back, whatever seed trains (mstcn)."""

    background: tuple[str, ...] | None = None
    """Classes that Edit and F1 leave out; by default those that the data set names (mstcn)."""

    backbone: BackboneConfig = BackboneConfig()
    """What embeds the frames (errands)."""

    fps: float | None = None
    """Frames embedded a second, null for every frame (errands); stored frames a second (mstcn)."""

    store: str | None = None
    """Folder for the features; by default `features` inside the root (errands)."""

    def __post_init__(self) -> None:
        if min(self.stride, self.evaluation_stride or 1) < 1:
            raise ValueError(f"strides must be at least 1, got {self}")
        if not 0 <= self.validation < 1:
            raise ValueError(f"validation must lie in [0, 1), got {self.validation}")


def load_data(config: DataConfig) -> LabelledSet:
    """Read a data set, computing the features that are not stored yet.

    Raises:
        ValueError: the folder is missing, or a file in it is not as the format says.
    """
    root = expand_folder(config.root)
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder; data.root must name the data set's folder")
    data = _load_errands(root, config) if config.format == "errands" else _load_mstcn(root, config)
    if config.evaluation_stride is None:
        return data
    return replace(data, evaluation_stride=config.evaluation_stride)


def expand_folder(text: str) -> Path:
    """Fill in `~` and environment variables.

    Raises:
        ValueError: a variable is not set.
    """
    path = os.path.expandvars(os.path.expanduser(text))
    missing = re.search(r"\$\{?(\w+)", path)
    if missing:
        raise ValueError(f"{text}: the environment variable {missing[1]} is not set")
    return Path(path)


def _load_mstcn(root: Path, config: DataConfig) -> LabelledSet:
    return load_mstcn(
        root,
        split=config.split,
        stride=config.stride,
        validation=config.validation,
        background=config.background,
        seed=config.validation_seed,
        fps=config.fps,
    )


def _load_errands(root: Path, config: DataConfig) -> LabelledSet:
    """Embed the clips that the store does not hold yet, then read all with their labels."""
    backbone = place_backbone(config.backbone)
    store = FeatureStore(expand_folder(config.store) if config.store else root / "features")
    videos = sorted(root.glob("*.mp4"))
    report = extract_features(videos, backbone=backbone, fps=config.fps, out=store.root)
    if report.failed:
        raise ValueError("; ".join(report.failed.values()))

    def features_of(video: Path) -> tuple[np.ndarray, np.ndarray]:
        stored = store.load(video)
        return stored.features, stored.timestamps

    key = {"backbone": backbone.identity, "fps": config.fps, "width": backbone.width}
    return errands_set(root, features_of, feature_key=key)
