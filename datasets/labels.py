"""The text files of the MS-TCN layout: class names, lists of videos, a class name a frame."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int


def read_mapping(path: Path) -> tuple[str, ...]:
    """Return the class names of a mapping.txt, whose lines are `id name`, by their id.

    Raises:
        ValueError: the file is missing, a line of it (which is named) is something else or repeats
            an id or a name, or the ids are not 0, 1, 2, ...
    """
    names: dict[int, str] = {}
    for number, line in _lines(path):
        label, *name = line.split(maxsplit=1)
        if not label.isdecimal() or not name:
            raise ValueError(f"{path}:{number}: expected `id name`, got {line!r}")
        if int(label) in names or name[0] in names.values():
            raise ValueError(f"{path}:{number}: {line!r} repeats an id or a name")
        names[int(label)] = name[0]
    if sorted(names) != [*range(len(names))] or not names:
        raise ValueError(f"{path}: ids must be 0, 1, 2, ..., got {sorted(names)}")
    return tuple(names[label] for label in sorted(names))


def read_bundle(path: Path) -> tuple[str, ...]:
    """Return the videos that a .bundle file lists, without the `.txt` that some lists add.

    Raises:
        ValueError: the file is missing, lists nothing, or lists a video twice (its line is named).
    """
    videos: dict[str, int] = {}
    for number, line in _lines(path):
        video = line.removesuffix(".txt")
        if video in videos:
            raise ValueError(f"{path}:{number}: {video} is listed twice, first in {videos[video]}")
        videos[video] = number
    if not videos:
        raise ValueError(f"{path} lists no video")
    return tuple(videos)


def read_frame_labels(path: Path, class_ids: Mapping[str, int]) -> Int[np.ndarray, " T"]:
    """Return the label of each frame, from a file with a class name a line.

    Raises:
        ValueError: the file is missing or empty, or a line (which is named) holds no known class.
    """
    lines = _text(path).rstrip().split("\n")
    if lines == [""]:
        raise ValueError(f"{path} labels no frame")
    labels = np.array([class_ids.get(line.strip(), -1) for line in lines], dtype=np.int64)
    if labels.min() < 0:
        number = int(labels.argmin())
        known = ", ".join(class_ids)
        raise ValueError(
            f"{path}:{number + 1}: unknown class {lines[number].strip()!r}; mapping.txt has {known}"
        )
    return labels


def _lines(path: Path) -> list[tuple[int, str]]:
    """Return (number from 1, line) of each line that is not empty."""
    lines = [line.strip() for line in _text(path).split("\n")]
    return [(number, line) for number, line in enumerate(lines, start=1) if line]


def _text(path: Path) -> str:
    try:
        # utf-8-sig: Windows editors put a byte order mark before the first name
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file: {error}") from error
