"""Breakfast as it is published (Kuehne, Arslan, Serre, CVPR 2014): videos and coarse labels.

    P03/cam01/P03_cereals.avi                              P03/stereo/P03_cereals_ch0.avi
    segmentation_coarse/cereals/P03_cam01_P03_cereals.txt  `start-end name` a line

The lines count frames from 1, `end` included, at 15 a second. Where there is no such folder, the
`*.avi.labels` beside the videos are read, which hold the same lines. The pair of cameras called
stereo01 has one file of labels; its left picture (ch0) is taken, else its right one.
"""

import re
from pathlib import Path

from vidmamba.datasets.annotations import Annotations, Collector
from vidmamba.datasets.captions.files import read_lines
from vidmamba.datasets.classes import Classes

FPS = 15.0
"""Of the frames that the labels count."""

TEST_PERSONS = {1: range(3, 16), 2: range(16, 29), 3: range(29, 42), 4: range(42, 55)}
"""Whom each of the four published splits tests on."""

_NAME = re.compile(r"(P(\d+))_([^_]+)_(P\d+_([^_]+?))(_ch[01])?")
_LINE = re.compile(r"(\d+)-(\d+)\s+(\S.*)")


def read_breakfast(
    root: Path,
    *,
    folder: Path,
    split: int = 1,
    annotations: str = "segmentation_coarse",
    classes: Classes | None = None,
) -> Annotations:
    """Read the labels; the classes of whole videos are the activities, such as `cereals`.

    Args:
        root: the data set's folder.
        folder: that of the videos.
        split: 1 to 4; decides who is tested on.
        annotations: the folder of the label files, in `root`.
        classes: the classes; None for those that the files name, in order of name.

    Raises:
        ValueError: there is no label file, or its name or a line of it is something else, or of an
            unknown class.
    """
    if split not in TEST_PERSONS:
        raise ValueError(f"split must be one of {[*TEST_PERSONS]}, got {split}")
    files = sorted((root / annotations).rglob("*.txt")) or _beside(folder)
    if not files:
        raise ValueError(f"there are no *.txt in {root / annotations}, nor *.labels in {folder}")
    taken = Collector(classes)
    for path in files:
        person, camera, recording, activity, channel = _parse_name(path, folder)
        video = f"{person}_{camera}_{recording}"
        if video in taken and channel:
            continue  # the other picture of a pair
        taken.add_video(
            video,
            f"{path}:1",
            files=_places(person, camera, recording),
            subset="test" if int(person[1:]) in TEST_PERSONS[split] else "train",
            labels=(activity,),
        )
        lines = [*read_lines(path)]
        if not lines:
            raise ValueError(f"{path}:1: the file is empty")
        for number, line in lines:
            where = f"{path}:{number}"
            match = _LINE.fullmatch(line.strip())
            if match is None:
                raise ValueError(f"{where}: expected `start-end name`, got {line.strip()!r}")
            first, last = int(match[1]), int(match[2])
            if not 1 <= first <= last:
                raise ValueError(f"{where}: frames count from 1 and up, got {first}-{last}")
            taken.add_segment(video, (first - 1) / FPS, last / FPS, match[3], where)
    return taken.finish(root)


def _beside(folder: Path) -> list[Path]:
    return sorted(folder.glob("P*/*/*.labels"))


def _parse_name(path: Path, folder: Path) -> tuple[str, str, str, str, str | None]:
    """Return person, camera, recording, activity and the picture of a pair."""
    name = path.name.removesuffix(".txt")
    if path.suffix == ".labels":
        name = "_".join((*path.relative_to(folder).parts[:2], path.name.split(".")[0]))
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{path}:1: a label file is called like P03_cam01_P03_cereals")
    camera = "stereo01" if match[3] == "stereo" else match[3]
    return match[1], camera, match[4], match[5], match[6]


def _places(person: str, camera: str, recording: str) -> tuple[str, ...]:
    """Return where the video, or the features of it, may lie."""
    places = [f"{person}/{camera}/{recording}", f"{person}_{camera}_{recording}"]
    if camera == "stereo01":
        places[:0] = [f"{person}/stereo/{recording}_ch{picture}" for picture in (0, 1)]
    return tuple(places)
