"""Caption files and features, from one config to one labelled set; what is wrong is said."""

import logging
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from vidmamba.data.config import DataConfig, expand_folder
from vidmamba.datasets.captions import (
    MSRVTT_1K,
    MSVD_SPLIT,
    AnnotatedVideos,
    captioned_set,
    find_npy_features,
    keep_seen,
    keep_with_features,
    read_activitynet,
    read_coco,
    read_msrvtt,
    read_msvd_csv,
    read_msvd_text,
    read_npz_features,
    read_packed_clips,
    read_vid2seq,
    read_youcook2,
    split_by_number,
)
from vidmamba.datasets.captions.joined import FeaturesOf
from vidmamba.datasets.captions.records import Part
from vidmamba.datasets.feature_file import FeatureFile
from vidmamba.datasets.notices import shorten
from vidmamba.datasets.parts import hold_out
from vidmamba.datasets.records import LabelledSet
from vidmamba.features.embed import place_backbone
from vidmamba.features.extract import extract_features
from vidmamba.features.store import FeatureStore
from vidmamba.features.videos import SUFFIXES

logger = logging.getLogger(__name__)

READERS: dict[str, Callable[..., AnnotatedVideos]] = {
    "activitynet_captions": read_activitynet,
    "youcook2": read_youcook2,
    "msrvtt": read_msrvtt,
    "msvd_text": read_msvd_text,
    "msvd_csv": read_msvd_csv,
    "coco_captions": read_coco,
    "vid2seq": read_vid2seq,
    "packed_clips": read_packed_clips,
}
"""What reads a file of each format."""

_NUMBERS = {"msrvtt_1k": MSRVTT_1K, "msvd": MSVD_SPLIT}
_EXAMPLES = 3


def load_captions(root: Path, config: DataConfig) -> LabelledSet:
    """Read caption files, find features by the videos' names, and join the two.

    Every caption and video that is changed or left out is counted in a warning, by what is wrong
    with it, the first few of each kind in a line of their own.

    Raises:
        ValueError: a file is missing or not as its format says, no video is left, or no file or
            number says which videos are tested on and ``config.test`` leaves none to train on.
    """
    if not config.annotations:
        raise ValueError(
            f"{config.format} needs annotations: files in {root}, such as train=train.json"
        )
    reads = [_read(root, config.format, entry) for entry in config.annotations]
    read = reads[0]
    for other in reads[1:]:
        read = read + other
    features_of, key = _features(root, config)
    kept = keep_with_features(read, features_of)
    if config.features is None and config.fps is not None:
        # how long our own features last is known: a file may be cut off, or shorter than annotated
        kept = keep_seen(kept, {name: len(x) / config.fps for name, x in features_of.items()})
    if kept.issues:
        lines = "\n".join(kept.issues.lines(_EXAMPLES))
        logger.warning("captions of %s:\n%s", root, lines)
    parted = _parted(kept, config)
    rate = (
        config.fps if config.features is None or config.fps is None else config.fps / config.stride
    )
    return captioned_set(parted.videos, features_of, fps=rate, feature_key=key)


def _read(root: Path, name: str, entry: str) -> AnnotatedVideos:
    """Read `FILE`; before it may stand `PART=`, behind it `#KEY`, as `DataConfig` says."""
    options: dict[str, Any] = {}
    part, equals, file = entry.partition("=")
    if equals:
        if part not in get_args(Part):
            raise ValueError(
                f"annotations {entry!r}: the part must be one of {', '.join(get_args(Part))}"
            )
        options["split"] = part
    file, hash_sign, key = (file if equals else entry).partition("#")
    if hash_sign:
        options["part"] = key
    try:
        return READERS[name](root / file, **options)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise ValueError(
            f"annotations {entry!r}: a file of {name} takes no {' and no '.join(options)}"
        ) from error


def _features(root: Path, config: DataConfig) -> tuple[FeaturesOf, dict[str, Any] | None]:
    """Return features by video name, and the key of those that we made."""
    if config.features is not None:
        path = root / config.features
        read = read_npz_features if path.suffix == ".npz" else find_npy_features
        first = {"auto": None, "TD": True, "DT": False}[config.layout]
        return read(path, frames_first=first, stride=config.stride), None
    if config.fps is None:
        raise ValueError(
            f"{config.format}: videos are embedded at a rate; set fps, frames a second"
        )
    folder = root / (config.videos or "")
    videos = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    for one, other in pairwise(sorted(videos, key=lambda path: path.stem)):
        if one.stem == other.stem:
            raise ValueError(f"{one} and {other}: captions know videos by name; rename one")
    backbone = place_backbone(config.backbone)
    out = expand_folder(config.store) if config.store else root / "features"
    report = extract_features(videos, backbone=backbone, fps=config.fps, out=out)
    for told, what in ((report.failed, "left out"), (report.damaged, "read in part")):
        if told:
            line = "%d of %d videos are broken and %s: %s"
            logger.warning(line, len(told), len(videos), what, shorten([*told.values()]))
    key = {"backbone": backbone.identity, "fps": config.fps, "width": backbone.width}
    store = FeatureStore(out)
    found = {
        video.stem: FeatureFile(
            path=file,
            frames_first=True,
            num_frames=len(store.load(video).timestamps),
            width=backbone.width,
        )
        for video, file in report.files.items()
    }
    return found, key


def _parted(read: AnnotatedVideos, config: DataConfig) -> AnnotatedVideos:
    """Put videos into parts: by number, else as files say; what is missing is drawn by name."""
    if config.numbers is not None:
        return split_by_number(read, _NUMBERS[config.numbers])
    parts: dict[str, Part] = {video.name: video.split or "train" for video in read.videos}
    shares: tuple[tuple[Part, float | int, int], ...] = (
        ("test", config.test, config.test_seed),
        ("validation", config.validation, config.validation_seed),
    )
    for part, share, seed in shares:
        if part not in parts.values() and share > 0:
            train = [name for name, own in parts.items() if own == "train"]
            parts |= dict.fromkeys(hold_out(train, share, seed=seed, part=part), part)
    videos = tuple(replace(video, split=parts[video.name]) for video in read.videos)
    return replace(read, videos=videos)
