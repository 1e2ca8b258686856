"""Folders in the layout of MS-TCN's data: 50 Salads, GTEA, Breakfast, and everything since.

features/<video>.npy, or features/split<k>/<video>.npy    [D, T] or [T, D]
groundTruth/<video>.txt                                   a class name a frame
mapping.txt                                               `id name` a line
splits/{train,test}.split<k>.bundle                       a video a line
protocol.json                                             optional: fps, evaluation_stride,
                                                          background_class
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vidmamba.datasets.feature_file import find_feature_files, fingerprint
from vidmamba.datasets.joining import VideoFeatures, shifted_items, stride_item
from vidmamba.datasets.labels import read_bundle, read_frame_labels, read_mapping
from vidmamba.datasets.notices import shorten
from vidmamba.datasets.parts import hold_out
from vidmamba.datasets.records import LabelledSet

BACKGROUND = "background"
"""The class that is background where nobody says otherwise, as in every published evaluator.

So Breakfast's `SIL` is an action like the others, in the published tables as well.
"""

DEFAULT_FPS = 15.0
"""Stored frames a second where nobody says otherwise: GTEA's and Breakfast's."""


def load_mstcn(
    root: Path,
    *,
    split: int,
    stride: int = 1,
    average: int = 1,
    random_start: bool = False,
    validation: float | int = 0.2,
    background: Sequence[str] | None = None,
    seed: int = 0,
    fps: float | int | None = None,
    video_class_pattern: str | None = None,
) -> LabelledSet:
    """Read one split of a data set; the features stay on disk until they are used.

    Args:
        root: the data set's folder.
        split: the number of the split.
        stride: take stored frames 0, stride, 2 * stride, ...; scored are all of them, as in MS-TCN,
            each by the frame taken last before it.
        average: each frame's features are the mean of this many stored ones around it.
        random_start: training takes start, start + stride, ... instead, from a start that is drawn
            below stride each time that it sees a video.
        validation: how many of the training videos are held out, as a count (int) or a share.
        background: names of the classes that Edit and F1 leave out; by default protocol.json's, or
            else the class named `background` if there is one.
        seed: fixes which training videos are held out.
        fps: stored frames a second; by default protocol.json's, or else 15.
        video_class_pattern: a regular expression with one group, which is the class of the whole
            video where the pattern is found in its name: `_(.+)_C1$` in GTEA's S1_Cheese_C1.

    Raises:
        ValueError: a file is missing or not as described (the message names it, and its line), or
            an argument does not fit the data.
    """
    if stride < 1 or average < 1 or average % 2 == 0:
        raise ValueError(
            f"stride must be 1 or more and average odd, so that a frame has as many on either "
            f"side, got {stride} and {average}"
        )
    protocol = _read_protocol(root / "protocol.json")
    rate = float(fps if fps is not None else protocol.get("fps", DEFAULT_FPS))
    class_names = read_mapping(root / "mapping.txt")
    parts = _split_videos(root / "splits", split, validation, seed)
    videos = [video for part in parts.values() for video in part]
    folder = _feature_folder(root / "features", split)
    stored = _read_stored(root, folder, videos, class_names, average=average, fps=rate)
    items = {name: stride_item(name, *both, stride=stride) for name, both in stored.items()}
    whole: tuple[str, ...] = ()
    if video_class_pattern is not None:
        of_video = _video_classes(videos, video_class_pattern)
        whole = tuple(sorted({*of_video.values()}))
        for video, name in of_video.items():
            items[video] = replace(items[video], video_labels=(whole.index(name),))
    if random_start:
        for name in parts["train"]:
            own = items[name].video_labels
            shifted = shifted_items(name, *stored[name], stride=stride)
            views = tuple(replace(view, video_labels=own) for view in shifted)
            items[name] = replace(items[name], shifted=views)
    return LabelledSet(
        class_names=class_names,
        background=_background(background, protocol, class_names, root),
        feature_key={
            "format": "mstcn",
            "folder": folder.relative_to(root).as_posix(),
            "width": items[videos[0]].features.shape[1],
            "fps": rate / stride,
            "sample": fingerprint(folder / f"{min(videos)}.npy"),
        }
        | ({"average": average} if average > 1 else {}),
        evaluation_stride=int(protocol.get("evaluation_stride", 1)),
        train=tuple(items[video] for video in parts["train"]),
        validation=tuple(items[video] for video in parts["validation"]),
        test=tuple(items[video] for video in parts["test"]),
        video_class_names=whole,
    )


def _read_stored(
    root: Path,
    folder: Path,
    videos: Sequence[str],
    class_names: Sequence[str],
    *,
    average: int,
    fps: float,
) -> dict[str, tuple[VideoFeatures, np.ndarray]]:
    """Return each video's stored features and their labels."""
    class_ids = {name: label for label, name in enumerate(class_names)}
    labels = {
        video: read_frame_labels(root / "groundTruth" / f"{video}.txt", class_ids)
        for video in videos
    }
    files = find_feature_files(folder, {video: len(labels[video]) for video in videos})
    return {
        video: (
            VideoFeatures(
                features=replace(file, average=average), timestamps=np.arange(file.num_frames) / fps
            ),
            labels[video][: file.num_frames],
        )
        for video, file in files.items()
    }


def _video_classes(videos: Sequence[str], pattern: str) -> dict[str, str]:
    """Return the class of each video, which the pattern's group finds in its name."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"video_class_pattern {pattern!r}: {error}") from error
    if expression.groups != 1:
        raise ValueError(
            f"video_class_pattern {pattern!r} needs one group, has {expression.groups}"
        )
    found = {video: expression.search(video) for video in videos}
    if lost := [video for video, match in found.items() if match is None or not match[1]]:
        raise ValueError(f"video_class_pattern {pattern!r} finds no class in {shorten(lost)}")
    return {video: match[1] for video, match in found.items() if match is not None}


def _split_videos(
    folder: Path, split: int, validation: float | int, seed: int
) -> dict[str, tuple[str, ...]]:
    """Return the videos' names by part; the held-out ones are chosen by name, not by list order."""
    train = read_bundle(folder / f"train.split{split}.bundle")
    test = read_bundle(folder / f"test.split{split}.bundle")
    if both := sorted(set(train) & set(test)):
        raise ValueError(f"split {split} in {folder} trains on its test videos {', '.join(both)}")
    held_out = hold_out(train, validation, seed=seed)
    return {
        "train": tuple(video for video in train if video not in held_out),
        "validation": tuple(video for video in train if video in held_out),
        "test": test,
    }


def _feature_folder(folder: Path, split: int) -> Path:
    """Return the folder of this split's own features, if it has some, else that of all splits'."""
    own = folder / f"split{split}"
    if own.is_dir():
        return own
    if next(folder.glob("*.npy"), None) is None:
        raise ValueError(f"there are no .npy files in {folder}, nor a folder {own}")
    return folder


def _background(
    names: Sequence[str] | None, protocol: Mapping[str, Any], known: Sequence[str], root: Path
) -> tuple[int, ...]:
    if names is None:
        default = protocol.get("background_class", [BACKGROUND] if BACKGROUND in known else [])
        names = [default] if isinstance(default, str) else default
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"background classes {unknown} are not in {root / 'mapping.txt'}")
    return tuple(known.index(name) for name in names)


def _read_protocol(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        protocol = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(protocol, dict):
        raise ValueError(f"{path}: expected an object, got {protocol!r}")
    fps, stride = protocol.get("fps", DEFAULT_FPS), protocol.get("evaluation_stride", 1)
    if not isinstance(fps, int | float) or fps <= 0 or not isinstance(stride, int) or stride < 1:
        got = f"fps {fps!r}, evaluation_stride {stride!r}"
        raise ValueError(f"{path}: fps must be above 0 and evaluation_stride 1 or more, got {got}")
    return protocol
