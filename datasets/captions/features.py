"""Frame features by video name: an .npz file of arrays, or a folder of .npy files."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vidmamba.datasets.feature_file import FeatureFile, npy_shape


def read_npz_features(
    path: Path | str, *, frames_first: bool | None = True, stride: int = 1
) -> dict[str, Float[np.ndarray, "T D"]]:
    """Return the arrays [T, D] of an .npz file by video, all of them in memory as stored.

    Args:
        path: the file.
        frames_first: it holds [T, D], else [D, T]; None for what the arrays' lengths tell, [T, D]
            where they tell nothing.
        stride: take stored frames 0, stride, 2 * stride, ...

    Raises:
        ValueError: the file is missing, damaged or empty, or a video's array (which is named) has
            no frames, a width of its own, or values that are not finite.
    """
    path = Path(path)
    if stride < 1:
        raise ValueError(f"stride must be 1 or more, got {stride}")
    try:
        # NumPy leaves a file that it opened itself open where it is damaged
        with path.open("rb") as file:
            stored = np.load(file, allow_pickle=False)
            if isinstance(stored, np.ndarray):
                raise ValueError("it holds one array, not one a video")
            arrays = {name: stored[name] for name in stored.files}
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing") from error
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is no .npz file of features: {error}") from error
    for name, array in arrays.items():
        if array.ndim != 2 or 0 in array.shape or not np.issubdtype(array.dtype, np.floating):
            got = f"{array.dtype} of shape {[*array.shape]}"
            raise ValueError(f"{path}, {name}: expected floats [T, D], got {got}")
        if not np.isfinite(array).all():
            raise ValueError(f"{path}, {name}: has values that are not finite")
    if not _frames_first([array.shape for array in arrays.values()], frames_first):
        arrays = {name: array.T for name, array in arrays.items()}
    _check_widths(path, {name: array.shape[1] for name, array in arrays.items()})
    return {name: array[::stride] for name, array in arrays.items()}


def find_npy_features(
    folder: Path | str, *, frames_first: bool | None = True, stride: int = 1
) -> dict[str, FeatureFile]:
    """Return the `<video>.npy` files of a folder by video; they are read when they are used.

    Args:
        folder: holds the files.
        frames_first: as in `read_npz_features`.
        stride: take stored frames 0, stride, 2 * stride, ...

    Raises:
        ValueError: there are none, or one (which is named) is damaged, has no frames or a width of
            its own.
    """
    folder = Path(folder)
    if stride < 1:
        raise ValueError(f"stride must be 1 or more, got {stride}")
    files, shapes = {}, {path: npy_shape(path) for path in sorted(folder.glob("*.npy"))}
    for path, shape in shapes.items():
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"{path}: expected 2 axes with frames, got shape {[*shape]}")
    first = _frames_first([*shapes.values()], frames_first)
    for path, shape in shapes.items():
        frames, width = shape if first else shape[::-1]
        files[path.stem] = FeatureFile(
            path=path,
            frames_first=first,
            num_frames=-(-frames // stride),
            width=width,
            stride=stride,
        )
    _check_widths(folder, {name: file.width for name, file in files.items()})
    return files


def _frames_first(shapes: Sequence[tuple[int, ...]], said: bool | None) -> bool:
    """Return what is said of the axes; where nothing is, that the first has several lengths."""
    if said is not None:
        return said
    first, second = ({shape[axis] for shape in shapes} for axis in (0, 1))
    return not len(first) == 1 < len(second)


def _check_widths(path: Path, widths: dict[str, int]) -> None:
    if not widths:
        raise ValueError(f"{path} holds no features")
    first, width = next(iter(widths.items()))
    for name, other in widths.items():
        if other != width:
            raise ValueError(f"{path}: {name} has features of width {other}, {first} of {width}")
