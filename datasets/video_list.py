"""Whole-video labels in a list: `path,label` lines, with a header or without.

    path,label,subset            dance/a.mp4,waltz         dance/a.mp4 0
    dance/a.mp4,waltz,train      dance/b.mp4,tango         dance/b.mp4 1

A file whose first line has no comma separates path and label by white space, as Kinetics' and
UCF101's lists often are. A label is a class's name, or its number in the file of classes. The
subset is the column's, or where there is none and there are several files, each file's name.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from vidmamba.datasets.annotations import Annotations, Collector
from vidmamba.datasets.captions.files import read_lines
from vidmamba.datasets.classes import Classes
from vidmamba.datasets.tables import read_fields, read_table

COLUMNS = ("path", "label")


def read_video_list(
    root: Path,
    *,
    annotations: Sequence[str] = ("annotations.csv",),
    classes: Classes | None = None,
    label_separator: str | None = None,
) -> Annotations:
    """Read the lists.

    Args:
        root: the data set's folder.
        annotations: the files, in it, such as train.csv and test.csv.
        classes: the classes; None for those that the lists name, in order of name.
        label_separator: stands between the labels of a video that has several, such as `;`; none
            at all are then allowed too.

    Raises:
        ValueError: a file is missing or no such list, or a line of it (which is named) has a video
            that stood before, or no known class.
    """
    taken = Collector(video_classes=classes)
    for name in annotations:
        subset = Path(name).stem if len(annotations) > 1 else None
        for where, row in _rows(root / name):
            labels = [row["label"]]
            if label_separator is not None:
                labels = [one for one in row["label"].split(label_separator) if one.strip()]
            own = row.get("subset", subset) or None
            taken.add_video(row["path"], where, subset=own, labels=labels)
    return taken.finish(root)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    _, first = next(read_lines(path), (1, ""))
    comma = "," in first
    names = [name.strip() for name in first.split(",")]
    if {*COLUMNS} & {*names}:
        yield from read_table(path, COLUMNS, optional=("subset",))
        return
    for where, fields in read_fields(path, "," if comma else None):
        if len(fields) != len(COLUMNS):
            between = "a comma" if comma else "white space"
            raise ValueError(
                f"{where}: expected a path and a label with {between} between, got {fields}"
            )
        yield where, dict(zip(COLUMNS, fields, strict=True))
