"""One config to one labelled set: annotations read, features found or made, the two joined."""

import logging
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from vidmamba.data.captions import READERS, load_captions
from vidmamba.data.config import DataConfig, expand_folder
from vidmamba.datasets.errands import errands_set
from vidmamba.datasets.feature_file import FeatureFile, fingerprint, open_feature_files
from vidmamba.datasets.formats import CUT_BY_THEMSELVES, GAPS, options_of, read_annotations
from vidmamba.datasets.joining import VideoFeatures, join_features
from vidmamba.datasets.media import TIMESTAMPS, find_media
from vidmamba.datasets.mstcn import load_mstcn
from vidmamba.datasets.notices import shorten
from vidmamba.datasets.parts import PartRule, assign_parts
from vidmamba.datasets.records import LabelledSet
from vidmamba.features.embed import place_backbone
from vidmamba.features.extract import extract_features
from vidmamba.features.store import FeatureStore
from vidmamba.features.videos import SUFFIXES

logger = logging.getLogger(__name__)

Read = tuple[dict[str, VideoFeatures], dict[str, Any]]
"""The features of each video, and the key that says what they are."""


def load_data(config: DataConfig) -> LabelledSet:
    """Read a data set, computing the features that are not stored yet.

    Raises:
        ValueError: the folder is missing, or a file in it is not as the format says.
    """
    root = expand_folder(config.root)
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder; data.root must name the data set's folder")
    loaders = {"mstcn": _load_mstcn, "errands": _load_errands}
    loaders |= dict.fromkeys(READERS, load_captions)
    data = loaders.get(config.format, _load_annotated)(root, config)
    if config.evaluation_stride is None:
        return data
    return replace(data, evaluation_stride=config.evaluation_stride)


def _load_mstcn(root: Path, config: DataConfig) -> LabelledSet:
    return load_mstcn(
        root,
        split=config.split,
        stride=config.stride,
        average=config.average,
        random_start=config.random_start,
        validation=config.validation,
        background=config.background,
        seed=config.validation_seed,
        fps=config.fps,
        video_class_pattern=config.video_class_pattern,
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


def _load_annotated(root: Path, config: DataConfig) -> LabelledSet:
    """Read annotations, find the videos or feature files that they name, and join the two."""
    folder = root / (config.videos or config.features or "")
    suffixes = SUFFIXES if config.features is None else frozenset({".npy"})
    names = options_of(config.format) - {"gaps", "background"}
    options = {n: getattr(config, n) for n in names if getattr(config, n, None) is not None}
    annotations = read_annotations(
        config.format, root, folder=folder, suffixes=suffixes, options=options
    )
    rule = PartRule(**{f.name: _whole(getattr(config, f.name)) for f in fields(PartRule)})
    if config.format in CUT_BY_THEMSELVES:
        rule = replace(rule, test=0)
    parts = assign_parts(annotations.videos, rule)
    wanted = [video for video in annotations.videos if video.name in parts]
    paths = find_media(wanted, folder, suffixes, dropped=SUFFIXES)
    read = _embed if config.features is None else _open
    found, key = read(paths, root, config)
    return join_features(
        annotations,
        parts,
        found,
        feature_key=key,
        gaps=config.gaps or GAPS.get(config.format, "background"),
        background=config.background,
        stride=config.stride,
    )


def _embed(paths: Mapping[str, Path], root: Path, config: DataConfig) -> Read:
    """Embed the videos that the store does not hold yet; unreadable ones are named and left out."""
    backbone = place_backbone(config.backbone)
    out = expand_folder(config.store) if config.store else root / "features"
    videos = [*dict.fromkeys(paths.values())]
    report = extract_features(videos, backbone=backbone, fps=config.fps, out=out)
    if len(report.failed) == len(videos):
        raise ValueError(f"no video can be read: {shorten([*report.failed.values()])}")
    for told, what in ((report.failed, "left out"), (report.damaged, "read in part")):
        if told:
            line = "%d of %d videos are broken and %s: %s"
            logger.warning(line, len(told), len(videos), what, shorten([*told.values()]))
    found = {}
    for name, path in paths.items():
        if path in report.files:
            file = report.files[path]
            times = np.load(_timestamps_of(file))
            features = FeatureFile(
                path=file, frames_first=True, num_frames=len(times), width=backbone.width
            )
            found[name] = VideoFeatures(features=features, timestamps=times, media=path)
    return found, {"backbone": backbone.identity, "fps": config.fps, "width": backbone.width}


def _open(paths: Mapping[str, Path], root: Path, config: DataConfig) -> Read:
    """Open feature files, with the times beside them or by their rate."""
    files = open_feature_files(paths, layout=config.layout)
    found = {}
    for name, features in files.items():
        beside = _timestamps_of(features.path)
        if beside.exists():
            times = np.load(beside).astype(np.float64)
        elif config.fps is not None:
            times = np.arange(len(features)) / config.fps
        else:
            raise ValueError(f"{beside} is missing: set fps, the feature file's frames a second")
        found[name] = VideoFeatures(features=features, timestamps=times)
    first = files[min(files)]
    return found, {
        "format": config.format,
        "folder": config.features,
        "width": first.width,
        "fps": config.fps and config.fps / config.stride,
        "sample": fingerprint(first.path),
    }


def _whole(value: Any) -> Any:
    # a checkpoint's config has lists where ours has tuples
    return tuple(value) if isinstance(value, list) else value


def _timestamps_of(file: Path) -> Path:
    return file.with_name(file.name.removesuffix(".npy") + TIMESTAMPS)
