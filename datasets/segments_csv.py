"""A CSV file of segments: a header, then `video,start,end,label` and, if wanted, `subset`.

    video,start,end,label,subset
    kitchen/monday.mp4,0,12.5,cut bread,train
    kitchen/monday.mp4,12.5,00:01:03.2,eat,train

`start` and `end` are seconds, or hours:minutes:seconds; `video` is a path below the folder of
videos, or a name at any depth, with its suffix or without. Several files are read as one.
"""

from collections.abc import Sequence
from pathlib import Path

from vidmamba.datasets.annotations import Annotations, Collector
from vidmamba.datasets.classes import Classes
from vidmamba.datasets.tables import parse_time, read_table

COLUMNS = ("video", "start", "end", "label")


def read_segments_csv(
    root: Path,
    *,
    annotations: Sequence[str] = ("annotations.csv",),
    classes: Classes | None = None,
) -> Annotations:
    """Read the files.

    Args:
        root: the data set's folder.
        annotations: the files, in it.
        classes: the classes; None for those that the segments name, in order of name.

    Raises:
        ValueError: a file is missing or no such table, or a line of it (which is named) holds no
            segment, a class that is unknown, or another subset than the video's before.
    """
    taken = Collector(classes)
    for name in annotations:
        for where, row in read_table(root / name, COLUMNS, optional=("subset",)):
            video, subset = row["video"], row.get("subset") or None
            if video not in taken:
                taken.add_video(video, where, subset=subset)
            elif subset != taken.subset_of(video):
                raise ValueError(
                    f"{where}: {video} is of subset {subset!r} here, but of "
                    f"{taken.subset_of(video)!r} in {taken.where_of(video)}"
                )
            start, end = parse_time(row["start"], where), parse_time(row["end"], where)
            taken.add_segment(video, start, end, row["label"], where)
    return taken.finish(root)
