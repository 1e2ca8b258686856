"""The files of annotated videos, found in a folder; missing ones are counted and named."""

import logging
import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from vidmamba.datasets.annotations import AnnotatedVideo
from vidmamba.datasets.notices import shorten

logger = logging.getLogger(__name__)

TIMESTAMPS = ".timestamps.npy"
"""How the file ends that holds the times of the features beside it."""


class MediaFolder:
    """The video or feature files in a folder and below it.

    Args:
        folder: that they lie in.
        suffixes: in lower case, that they may have.
        dropped: suffixes of a name in the annotations that a file may lack: the features of
            `a/b.mp4` are `a/b.npy`.

    Raises:
        ValueError: the folder is missing, or holds no such file.
    """

    def __init__(
        self, folder: Path, suffixes: Collection[str], *, dropped: Collection[str] = ()
    ) -> None:
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder")
        self.folder = folder
        self._dropped = dropped
        self._by_path: dict[str, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        self.files = sorted(self._walk(suffixes))
        if not self.files:
            shown = " ".join(sorted(suffixes))
            raise ValueError(f"{folder} holds no file that ends in {shown}")
        for path in self.files:
            relative = path.relative_to(folder)
            self._by_path[relative.as_posix()].append(path)
            self._by_path[relative.with_suffix("").as_posix()].append(path)
            self._by_stem[path.name].append(path)
            self._by_stem[path.stem].append(path)

    def find(self, video: AnnotatedVideo) -> Path | None:
        """Return the file of a video, None if it is not there.

        Raises:
            ValueError: several files may be meant.
        """
        for name in video.files:
            stem, suffix = os.path.splitext(name)
            for wanted in (name, stem) if suffix.lower() in self._dropped else (name,):
                found = self._by_path.get(wanted) or (
                    self._by_stem.get(wanted, []) if "/" not in wanted else []
                )
                if len(found) > 1:
                    shown = ", ".join(str(path) for path in found[:3])
                    raise ValueError(f"{video.where}: {name} may be any of {shown}")
                if found:
                    return found[0]
        return None

    def _walk(self, suffixes: Collection[str]) -> list[Path]:
        found = []
        for folder, below, names in os.walk(self.folder, followlinks=True):
            below[:] = [name for name in below if not name.startswith(".")]
            found += [
                Path(folder, name)
                for name in names
                if os.path.splitext(name)[1].lower() in suffixes
                and not name.startswith(".")
                and not name.endswith(TIMESTAMPS)
            ]
        return found


def find_media(
    videos: Sequence[AnnotatedVideo],
    folder: Path,
    suffixes: Collection[str],
    *,
    dropped: Collection[str] = (),
) -> dict[str, Path]:
    """Return the file of each video that is there, by its name; one warning counts the others.

    Raises:
        ValueError: none is there, or two videos have one file, or several files may be meant.
    """
    media = MediaFolder(folder, suffixes, dropped=dropped)
    found: dict[str, Path] = {}
    owners: dict[tuple[Path, tuple[float, float] | None], AnnotatedVideo] = {}
    missing = []
    for video in videos:
        path = media.find(video)
        if path is None:
            missing.append(video.name)
            continue
        # several stretches of one file may be videos of their own
        if other := owners.get((path, video.span)):
            raise ValueError(f"{video.where}: {path} is {other.name} already ({other.where})")
        owners[path, video.span] = video
        found[video.name] = path
    if not found:
        raise ValueError(
            f"{folder} holds none of the {len(videos)} annotated videos, such as {shorten(missing)}"
        )
    if missing:
        logger.warning(
            "%d of %d annotated videos are not in %s and left out: %s",
            len(missing),
            len(videos),
            folder,
            shorten(missing),
        )
    return found
