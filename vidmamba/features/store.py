"""FeatureStore: a folder of feature files, each keyed by all that it was made from.

For a video ``stairs.mp4`` under a key whose short form is ``0123456789abcdef`` lie in the folder:

    stairs.0123456789abcdef.npy             float16 [T, D]
    stairs.0123456789abcdef.timestamps.npy  float64 [T], seconds
    stairs.0123456789abcdef.json            key, video, fps, duration, frames, width, damage
    index.json                              a list of rows, one a video: pandas.read_json reads it

``numpy.load`` reads the arrays. The ``.json`` is written last: without it the others do not count.
The index is made from those files and can be deleted.
"""

import json
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from jaxtyping import Float

from vidmamba.features.files import TEMPORARY, write_json
from vidmamba.features.key import hash_file, short

INDEX = "index.json"


@dataclass(frozen=True)
class StoredFeatures:
    """The features of one video."""

    features: Float[np.ndarray, "T D"]
    """float16."""
    timestamps: Float[np.ndarray, " T"]
    """Seconds from the video's start, float64: when each frame appears."""
    fps: float | None
    """Frames a second that were asked for; None for every frame."""
    duration: float
    """Seconds that the video lasts."""
    video: Path
    """The file that the frames are from."""
    meta: dict[str, Any]
    """The whole ``.json``: ``key``, ``backbone``, ``damage`` and more."""


class FeatureStore:
    """Feature files in one folder; several processes may write to it at once.

    Args:
        root: The folder; made when the first features are written.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def rows(self) -> list[dict[str, Any]]:
        """The index: one row a video and key."""
        path = self.root / INDEX
        rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
        return rows

    def content_of(self, video: Path, rows: Iterable[dict[str, Any]] = ()) -> str:
        """SHA-256 of a video file, from a row that saw it at this size and time, or by reading."""
        status = video.stat()
        seen = (str(video.resolve()), status.st_size, status.st_mtime_ns)
        for row in rows:
            if (row["video"], row["size"], row["mtime_ns"]) == seen:
                return str(row["content"])
        return hash_file(video)

    def stem(self, video: Path, key: dict[str, Any]) -> str:
        """The name that a video's files share, without their suffixes, under its `video_key`."""
        return f"{video.stem}.{short(key)}"

    def meta(self, stem: str) -> dict[str, Any]:
        """What the ``.json`` of this name says."""
        meta: dict[str, Any] = json.loads((self.root / f"{stem}.json").read_text())
        return meta

    def holds(self, stem: str) -> bool:
        """Tell whether the files of this name are there and whole."""
        if not (self.root / f"{stem}.json").is_file():
            return False
        array = self.root / f"{stem}.npy"
        times = self.root / f"{stem}.timestamps.npy"
        sizes = [file.stat().st_size if file.is_file() else -1 for file in (array, times)]
        return bool(sizes == self.meta(stem)["bytes"])

    def load(self, video_or_file: str | Path) -> StoredFeatures:
        """Read the features of a video, or of a feature file that the index names.

        Raises:
            ValueError: There are none, several (of several keys), or the files are damaged.
        """
        wanted = str(video_or_file)
        resolved = str(Path(video_or_file).resolve())
        rows = self.rows()
        found = [row for row in rows if wanted == row["file"] or resolved == row["video"]]
        if len(found) > 1 and Path(wanted).is_file():  # the video has changed since some of them
            content = self.content_of(Path(wanted), found)
            found = [row for row in found if row["content"] == content]
        files = {row["file"] for row in found}
        if len(files) != 1:
            count = f"{len(files)} feature files" if files else "no features"
            names = f": {', '.join(sorted(files))}; name one of them" if files else ""
            raise ValueError(f"{self.root} holds {count} of {wanted}{names}")
        return self.read(files.pop().removesuffix(".npy"), video=Path(found[0]["video"]))

    def read(self, stem: str, *, video: Path | None = None) -> StoredFeatures:
        """Read the files that share a name.

        Raises:
            ValueError: They are not there, or not as they were written.
        """
        if not self.holds(stem):
            raise ValueError(f"{self.root / stem}.npy is missing or damaged: extract it again")
        meta = self.meta(stem)
        return StoredFeatures(
            features=np.load(self.root / f"{stem}.npy"),
            timestamps=np.load(self.root / f"{stem}.timestamps.npy"),
            fps=meta["key"]["fps"],
            duration=meta["duration"],
            video=video or Path(meta["video"]),
            meta=meta,
        )

    def record(self, stem: str, video: Path, meta: dict[str, Any]) -> None:
        """Declare the arrays of this name whole, and enter the video into the index."""
        arrays = [self.root / f"{stem}.npy", self.root / f"{stem}.timestamps.npy"]
        whole = meta | {"bytes": [array.stat().st_size for array in arrays]}
        write_json(self.root / f"{stem}.json", whole)
        self.index([(stem, video)])

    def index(self, videos: Collection[tuple[str, Path]]) -> None:
        """Bring the index up to date with the files, and with these names and their videos.

        Nothing is written where nothing changed.
        """
        if not self.root.is_dir():
            return
        if self._updated(self.rows(), videos) is None:
            return
        with FileLock(self.root / ".index.lock"):
            rows = self._updated(self.rows(), videos)
            if rows is not None:
                write_json(self.root / INDEX, rows)

    def _updated(
        self, rows: list[dict[str, Any]], videos: Collection[tuple[str, Path]]
    ) -> list[dict[str, Any]] | None:
        """Rows with what is missing added and what is gone left out; None if nothing changed."""
        stems = {
            path.name.removesuffix(".json")
            for path in self.root.glob("*.json")
            if path.name != INDEX and not path.name.startswith(TEMPORARY)
        }
        kept = {(r["video"], r["file"]): r for r in rows if r["file"].removesuffix(".npy") in stems}
        changed = len(kept) != len(rows)
        missing = stems - {row["file"].removesuffix(".npy") for row in rows}
        missing -= {stem for stem, _ in videos}
        for stem, video in [*((stem, None) for stem in sorted(missing)), *videos]:
            row = self._row(stem, video)
            place = (row["video"], row["file"])
            changed = changed or kept.get(place) != row
            kept[place] = row
        return [kept[place] for place in sorted(kept)] if changed else None

    def _row(self, stem: str, video: Path | None) -> dict[str, Any]:
        meta = self.meta(stem)
        status = {"size": meta["size"], "mtime_ns": meta["mtime_ns"]}
        if video is not None:
            now = os.stat(video)
            status = {"size": now.st_size, "mtime_ns": now.st_mtime_ns}
        return {
            "video": str(video.resolve()) if video is not None else meta["video"],
            "file": f"{stem}.npy",
            "timestamps": f"{stem}.timestamps.npy",
            "frames": meta["frames"],
            "width": meta["width"],
            "fps": meta["key"]["fps"],
            "duration": meta["duration"],
            "backbone": meta["key"]["backbone"]["name"],
            "key": short(meta["key"]),
            "damage": meta["damage"],
            "content": meta["key"]["content"],
            **status,
        }
