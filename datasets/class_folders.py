"""Whole-video labels by folder: each class has one, and its videos lie in it, at any depth.

pour/a.mp4  pour/b.mp4  stir/c.mp4                     one set
train/pour/a.mp4  train/stir/c.mp4  test/pour/d.mp4    with subsets: train, val, test or alike

Hidden files and folders are passed by.
"""

from collections.abc import Collection
from pathlib import Path

from vidmamba.datasets.annotations import Annotations, Collector
from vidmamba.datasets.classes import Classes
from vidmamba.datasets.media import MediaFolder
from vidmamba.datasets.parts import SUBSETS


def read_class_folders(
    root: Path, *, folder: Path, suffixes: Collection[str], classes: Classes | None = None
) -> Annotations:
    """Take each file's class from its folder.

    The first folders are subsets if each has the name of one, else classes.

    Args:
        root: the data set's folder.
        folder: that of the videos, or of their features.
        suffixes: of their files.
        classes: the classes; None for the folders, in order of name.

    Raises:
        ValueError: there is no such file, or one lies in no class's folder, or a class is unknown.
    """
    media = MediaFolder(folder, suffixes)
    paths = [path.relative_to(folder) for path in media.files]
    tops = {path.parts[0] for path in paths if len(path.parts) > 1}
    depth = 1 if tops and all(name.casefold() in SUBSETS for name in tops) else 0
    taken = Collector(video_classes=classes)
    for path in paths:
        where = str(folder / path)
        if len(path.parts) < depth + 2:
            raise ValueError(f"{where} lies in no folder of a class")
        taken.add_video(
            path.with_suffix("").as_posix(),
            where,
            files=(path.as_posix(),),
            subset=path.parts[0] if depth else None,
            labels=(path.parts[depth],),
        )
    return taken.finish(root)
