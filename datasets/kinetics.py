"""Kinetics (Kay et al., 2017, and later): its CSV files of clips from YouTube.

    label,youtube_id,time_start,time_end,split
    testifying,---QUuC4vJs,84,94,validate

A clip lies in a folder of its class or any other, as <youtube_id>_<start>_<end>.mp4 with six digits
a second, or as <youtube_id>.mp4.
"""

from collections.abc import Sequence
from pathlib import Path

from vidmamba.datasets.annotations import Annotations, Collector
from vidmamba.datasets.classes import Classes
from vidmamba.datasets.tables import parse_time, read_table

_COLUMNS = ("youtube_id", "time_start", "time_end", "split")


def read_kinetics(
    root: Path,
    *,
    annotations: Sequence[str] = ("train.csv", "validate.csv"),
    classes: Classes | None = None,
) -> Annotations:
    """Read the files; a file without the column `label`, as of some test parts, has no labels.

    Args:
        root: the data set's folder.
        annotations: the files, in it.
        classes: the classes; None for those that the files name, in order of name.

    Raises:
        ValueError: a file is missing or no such table, or a line of it (which is named) holds
            something else, or a clip that stood before.
    """
    taken = Collector(video_classes=classes)
    for name in annotations:
        for where, row in read_table(root / name, _COLUMNS, optional=("label",)):
            start, end = (parse_time(row[f"time_{edge}"], where) for edge in ("start", "end"))
            if end <= start:
                raise ValueError(f"{where}: a clip must end after its start, got {start} to {end}")
            video = row["youtube_id"]
            clip = f"{video}_{int(start):06}_{int(end):06}"
            labels = [row["label"]] if "label" in row else []
            taken.add_video(clip, where, files=(clip, video), subset=row["split"], labels=labels)
    return taken.finish(root)
