"""UCF101 (Soomro, Zamir, Shah, 2012): its lists of videos, in folders by class.

ucfTrainTestlist/classInd.txt        1 ApplyEyeMakeup
ucfTrainTestlist/trainlist01.txt     ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1
ucfTrainTestlist/testlist01.txt      ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi

There are three splits.
"""

from pathlib import Path

from vidmamba.datasets.annotations import Annotations, Collector
from vidmamba.datasets.classes import read_classes
from vidmamba.datasets.tables import read_fields


def read_ucf101(
    root: Path, *, annotations: str = "ucfTrainTestlist", split: int = 1
) -> Annotations:
    """Read the lists of a split.

    Args:
        root: the data set's folder.
        annotations: the folder of the lists, in it.
        split: 1 to 3.

    Raises:
        ValueError: a list is missing, or a line of it (which is named) is something else.
    """
    home = root / annotations
    classes = read_classes(home / "classInd.txt")
    taken = Collector(video_classes=classes)
    for part in ("train", "test"):
        for where, fields in read_fields(home / f"{part}list{split:02}.txt", None):
            path = fields[0]
            folder, slash, name = path.partition("/")
            if not slash or not name:
                raise ValueError(f"{where}: expected `class/video.avi`, got {path!r}")
            if len(fields) > 1 and classes.find(fields[1], where) != folder:
                raise ValueError(f"{where}: {path} is of class {fields[1]}, but in {folder}")
            taken.add_video(path, where, files=(path, name), subset=part, labels=(folder,))
    return taken.finish(home)
