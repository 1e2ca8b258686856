"""The features of one video while they are being made: parts on disk, joined at the end."""

import shutil
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vidmamba.features.files import TEMPORARY, written_whole

PART_FRAMES = 1024  # what a killed run loses at most: some ten seconds of a laptop's work


class Parts:
    """A folder of numbered parts, each written whole; a later run finds them and goes on.

    Args:
        folder: Belongs to one video and key; made where it is missing.

    Attributes:
        timestamps: Of the frames on the disk, float64 seconds.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._features: list[Float[np.ndarray, "n D"]] = []
        self._timestamps: list[Float[np.ndarray, " n"]] = []
        self._waiting = 0
        self._num_parts = 0
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(f"{TEMPORARY}*"):
            leftover.unlink()
        self.timestamps = self._find()

    def _find(self) -> Float[np.ndarray, " T"]:
        """Timestamps of the frames that whole parts hold already."""
        found = [np.empty(0)]
        while (path := self._path(self._num_parts)).is_file():
            with np.load(path) as part:
                found.append(part["timestamps"])
            self._num_parts += 1
        return np.concatenate(found)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npz"

    def append(
        self, features: Float[np.ndarray, "n D"], timestamps: Float[np.ndarray, " n"]
    ) -> None:
        """Add frames; each ``PART_FRAMES`` of them go to the disk."""
        self._features.append(features)
        self._timestamps.append(timestamps)
        self._waiting += len(timestamps)
        if self._waiting >= PART_FRAMES:
            self._write()

    def join(self, features: Path, timestamps: Path) -> tuple[int, int]:
        """Write all frames into two plain arrays, a part at a time, which lie on the disk then.

        Returns:
            Frames and width.
        """
        if self._waiting:
            self._write()
        with np.load(self._path(0)) as part:
            width = part["features"].shape[1]
        frames = len(self.timestamps)
        header = {"descr": "<f2", "fortran_order": False, "shape": (frames, width)}
        with written_whole(features) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for number in range(self._num_parts):
                with np.load(self._path(number)) as part:
                    file.write(part["features"].tobytes())
        with written_whole(timestamps) as file:
            np.lib.format.write_array(file, self.timestamps)
        return frames, width

    def drop(self) -> None:
        """Remove the parts: the joined files are in place, or they are of no use."""
        shutil.rmtree(self.folder)

    def _write(self) -> None:
        features = np.concatenate(self._features)
        timestamps = np.concatenate(self._timestamps)
        with written_whole(self._path(self._num_parts)) as file:
            np.savez(file, features=features, timestamps=timestamps)
        self.timestamps = np.concatenate([self.timestamps, timestamps])
        self._num_parts += 1
        self._features, self._timestamps, self._waiting = [], [], 0
