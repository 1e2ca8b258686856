"""Assembly101 (Sener et al., CVPR 2022): its coarse and its fine-grained annotations.

Coarse, in `coarse-annotations`: coarse_splits/{train,val,test}_coarse_{assembly,disassembly}.txt
list sequences, coarse_labels/<sequence>.txt hold `start<TAB>end<TAB>action`, coarse_seq_views.txt
lists the views of each as `<sequence>/<view>.mp4`. Fine, in `fine-grained-annotations`: train.csv,
validation.csv, test.csv with video, start_frame, end_frame, action_cls, verb_cls, noun_cls.

Both count frames at 30 a second of the recording, a folder of views: assembly and disassembly are
stretches of one recording, and each is a video of its own, as in the published benchmark.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from vidmamba.datasets.annotations import Annotations, Collector
from vidmamba.datasets.classes import Classes
from vidmamba.datasets.tables import parse_count, read_fields, read_table

FPS = 30.0
"""Of the frames that the annotations count."""

_PARTS = ("train", "val", "test")

_Span = tuple[float, float, str, str]  # start, end, label, where


def read_assembly101_coarse(
    root: Path,
    *,
    annotations: str = "coarse-annotations",
    views: Sequence[str] | None = None,
    classes: Classes | None = None,
) -> Annotations:
    """Read the coarse annotations; each view of a sequence is a video.

    Args:
        root: the data set's folder.
        annotations: the folder of the annotations, in it.
        views: such as `C10095_rgb`; None for all that are listed.
        classes: the classes; None for those that the files name, in order of name.

    Raises:
        ValueError: a file is missing, or a line of it (which is named) is something else.
    """
    home = root / annotations
    seen = _read_views(home / "coarse_seq_views.txt", views)
    taken = Collector(classes)
    names = [f"{p}_coarse_{t}.txt" for p in _PARTS for t in ("assembly", "disassembly")]
    for path in (home / "coarse_splits" / name for name in names):
        if path.name.startswith("test") and not path.exists():
            continue  # nobody needs it: its labels are withheld
        for where, fields in read_fields(path, "\t"):
            sequence = fields[0].removesuffix(".txt")
            spans = _read_spans(home / "coarse_labels" / f"{sequence}.txt")
            recording = sequence.removeprefix("dis").removeprefix("assembly_")
            for view in seen.get(sequence, ()):
                name = f"{sequence}/{view}"
                taken.add_video(
                    name,
                    where,
                    files=(f"{recording}/{view}", name),
                    subset=path.name.split("_")[0],
                    span=(min(s[0] for s in spans), max(s[1] for s in spans)),
                )
                for start, end, label, at in spans:
                    # the labels of the test sequences are withheld
                    if label:
                        taken.add_segment(name, start, end, label, at)
    return taken.finish(home / "coarse_splits")


def read_assembly101_fine(
    root: Path,
    *,
    annotations: str = "fine-grained-annotations",
    views: Sequence[str] | None = None,
    target: Literal["action", "verb", "noun"] = "action",
    classes: Classes | None = None,
) -> Annotations:
    """Read the fine-grained annotations; each view of a recording is a video.

    Args:
        root: the data set's folder.
        annotations: the folder of the annotations, in it.
        views: such as `C10095_rgb`; None for all.
        target: what the classes are.
        classes: the classes; None for those that the files name, in order of name.

    Raises:
        ValueError: a file is missing, or a line of it (which is named) is something else.
    """
    taken = Collector(classes)
    column = f"{target}_cls"
    files = [root / annotations / f"{part}.csv" for part in ("train", "validation", "test")]
    for path in files[:2] + [path for path in files[2:] if path.exists()]:
        for where, row in read_table(path, ("video", "start_frame", "end_frame", column)):
            video = row["video"].rsplit(".", 1)[0]
            if views is not None and video.rsplit("/", 1)[-1] not in views:
                continue
            if video not in taken:
                taken.add_video(video, where, subset=path.stem)
            elif taken.subset_of(video) != path.stem:
                raise ValueError(f"{where}: {video} is in {taken.where_of(video)} already")
            start, end = _seconds(row["start_frame"], row["end_frame"], where)
            taken.add_segment(video, start, end, row[column], where)
    return taken.finish(root / annotations)


def _read_views(path: Path, wanted: Sequence[str] | None) -> dict[str, list[str]]:
    """Return the views of each sequence."""
    views: dict[str, list[str]] = {}
    for where, fields in read_fields(path, "\t"):
        sequence, slash, view = fields[0].rsplit(".", 1)[0].partition("/")
        if not slash:
            raise ValueError(f"{where}: expected `sequence/view.mp4`, got {fields[0]!r}")
        if wanted is None or view in wanted:
            views.setdefault(sequence, []).append(view)
    if not views:
        raise ValueError(f"{path} lists none of the views {[*(wanted or ())]}")
    return views


def _read_spans(path: Path) -> list[_Span]:
    spans = []
    for where, fields in read_fields(path, "\t"):
        if len(fields) < 2:
            raise ValueError(f"{where}: expected start, end and action between tabs, got {fields}")
        start, end = _seconds(fields[0], fields[1], where)
        spans.append((start, end, fields[2] if len(fields) > 2 else "", where))
    return spans


def _seconds(first: str, last: str, where: str) -> tuple[float, float]:
    """Return the time from one frame to another; some actions are of one frame alone."""
    start, end = parse_count(first, where), parse_count(last, where)
    if end < start:
        raise ValueError(f"{where}: a segment cannot end before it starts, got {start} to {end}")
    return start / FPS, max(end, start + 1) / FPS
