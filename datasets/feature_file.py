"""A .npy file of frame features that is opened when it is read, and not before."""

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

logger = logging.getLogger(__name__)

Layout = Literal["auto", "TD", "DT"]
"""Order of the axes of a feature file: T frames of D features."""


def npy_shape(path: Path) -> tuple[int, ...]:
    """Return the shape of the array in a .npy file, from its header alone.

    Raises:
        ValueError: the file is missing, or no .npy file.
    """
    try:
        # never kept: Python's mmap holds a file descriptor, and a data set has thousands of files
        return np.load(path, mmap_mode="r").shape
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing") from error
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no .npy file: {error}") from error


@dataclass(frozen=True, kw_only=True)
class FeatureFile:
    """Every `stride`-th frame of a .npy file, `num_frames` of them: an array [T, D] still on disk.

    `numpy.asarray` reads it. It pickles as a path, so loader workers can be spawned cheaply.

    Args:
        path: the file.
        frames_first: the file holds [T, D], else [D, T].
        num_frames, width: T, after the stride, and D.
        stride: take the stored frames start, start + stride, start + 2 * stride, ...
        start: the first stored frame that is taken.
        average: each frame is the mean of this many stored ones, an odd number, itself amid them:
            what a stride leaves out steadies what it takes. Past the ends of the stretch that is
            taken there are none.
    """

    path: Path
    frames_first: bool
    num_frames: int
    width: int
    stride: int = 1
    start: int = 0
    average: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        """(T, D)."""
        return self.num_frames, self.width

    def __len__(self) -> int:
        return self.num_frames

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        stored = np.load(self.path, mmap_mode="r")
        frames = stored if self.frames_first else stored.T
        if self.average == 1:
            return np.array(frames[self.start :: self.stride][: self.num_frames], dtype=dtype)
        stretch = frames[self.start : self.start + self.stride * self.num_frames]
        found = _means(stretch, np.arange(0, len(stretch), self.stride), self.average)
        return found.astype(dtype or stored.dtype)


def _means(frames: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """Return the means of `count` frames around some places, fewer at the ends, in float64."""
    sums = np.cumsum(frames, axis=0, dtype=np.float64)
    sums = np.concatenate([np.zeros((1, sums.shape[1])), sums])
    first = np.maximum(places - count // 2, 0)
    end = np.minimum(places + count // 2 + 1, len(frames))
    return (sums[end] - sums[first]) / (end - first)[:, None]


def find_feature_files(folder: Path, num_labels: Mapping[str, int]) -> dict[str, FeatureFile]:
    """Return each video's file, with as many of its frames as there are labels for.

    All files must have one width and one order of axes, [D, T] or [T, D], and the order that fits
    most of them is taken. Frames and labels may differ by a few, as they do in Breakfast; the
    longer one is then cut, and a warning says so once.

    Args:
        folder: holds `<video>.npy`.
        num_labels: of each video, the number of labelled frames.

    Raises:
        ValueError: a file is missing or damaged, or its shape does not fit.
    """
    shapes = {video: _matrix_shape(folder / f"{video}.npy") for video in num_labels}
    layouts = Counter(
        (shape[1 - time], time)
        for video, shape in shapes.items()
        for time in (1, 0)  # first MS-TCN's own [D, T]: it wins where nothing else decides
        if _close(shape[time], num_labels[video])
    )
    # a square file fits both ways, and so may one of few frames: the other files decide
    width, time = layouts.most_common(1)[0][0] if layouts else (0, 1)
    files, differing = {}, {}
    for video, shape in shapes.items():
        path, frames, labels = folder / f"{video}.npy", shape[time], num_labels[video]
        if shape[1 - time] != width or not _close(frames, labels):
            raise ValueError(
                f"{path} has shape {[*shape]}, but groundTruth/{video}.txt labels {labels} frames; "
                "no axis fits, or its width is not that of the other files"
            )
        if frames != labels:
            differing[video] = abs(frames - labels)
        files[video] = FeatureFile(
            path=path, frames_first=time == 0, num_frames=min(frames, labels), width=width
        )
    if differing:
        worst = max(differing, key=lambda video: differing[video])
        logger.warning(
            "%d of %d videos have more frames than labels, or fewer, by up to %d (%s): cut",
            len(differing),
            len(files),
            differing[worst],
            worst,
        )
    return files


def open_feature_files(
    paths: Mapping[str, Path], *, layout: Layout = "auto"
) -> dict[str, FeatureFile]:
    """Return feature files of which nothing is known but that their width is one.

    Args:
        paths: the file of each video.
        layout: whether a file holds [T, D] or [D, T]; `auto` takes the order in which all have one
            width, which several lengths decide.

    Raises:
        ValueError: a file is missing or damaged, the widths differ, or `auto` cannot tell.
    """
    shapes = {video: _matrix_shape(path) for video, path in paths.items()}
    axes = {"TD": [1], "DT": [0], "auto": [0, 1]}[layout]
    common = [axis for axis in axes if len({shape[axis] for shape in shapes.values()}) == 1]
    if len(common) != 1:
        shown = ", ".join(f"{paths[video]} {[*shapes[video]]}" for video in [*shapes][:3])
        reason = "of either axis: say which it is with layout" if common else "differing"
        raise ValueError(f"the width of feature files is {reason}: {shown}")
    width = common[0]
    return {
        video: FeatureFile(
            path=paths[video],
            frames_first=width == 1,
            num_frames=shape[1 - width],
            width=shape[width],
        )
        for video, shape in shapes.items()
    }


def fingerprint(path: Path) -> str:
    """Return a hash of a file's first MiB: enough to tell two sets of features apart."""
    with path.open("rb") as file:
        return hashlib.sha256(file.read(2**20)).hexdigest()[:16]


def _matrix_shape(path: Path) -> tuple[int, int]:
    shape = npy_shape(path)
    if len(shape) != 2:
        raise ValueError(f"{path}: expected 2 axes, got shape {[*shape]}")
    return shape[0], shape[1]


def _close(num_frames: int, num_labels: int) -> bool:
    """Whether frames and labels may be of one video: decoders and annotators differ by a few."""
    return abs(num_frames - num_labels) <= max(10, num_labels // 100)
