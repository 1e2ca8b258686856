"""Something-Something (Goyal et al., ICCV 2017): its JSON lists.

    something-something-v2-labels.json    {"Holding something": "0", ...}
    something-something-v2-train.json     [{"id": "78687", "template": "Holding [something]", ...}]

and ...-validation.json likewise. Videos are called <id>.webm. The lists of the test part hold no
labels, so that the validation part is tested on.
"""

from collections.abc import Sequence
from pathlib import Path

from vidmamba.datasets.annotations import Annotations, Collector
from vidmamba.datasets.captions.files import get_field, read_json
from vidmamba.datasets.classes import Classes
from vidmamba.datasets.tables import name_lines

_PREFIX = "something-something-v2-"


def read_something(
    root: Path,
    *,
    annotations: Sequence[str] = (f"{_PREFIX}train.json", f"{_PREFIX}validation.json"),
    labels: str = f"{_PREFIX}labels.json",
) -> Annotations:
    """Read the lists; the last word of a file's name, before `.json`, is its videos' subset.

    Args:
        root: the data set's folder.
        annotations: the lists, in it.
        labels: the file of classes, in it.

    Raises:
        ValueError: a file is missing or no JSON, or an entry of it (whose line is named) lacks its
            id or template, stood before, or is of no known class.
    """
    numbers = read_json(root / labels)
    if not isinstance(numbers, dict) or not numbers:
        raise ValueError(f"{root / labels}:1: expected an object of classes")
    try:
        names = tuple(sorted(numbers, key=lambda name: int(numbers[name])))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{root / labels}:1: a class's number is none: {error}") from error
    taken = Collector(video_classes=Classes(names=names, ids={}, source=str(root / labels)))
    for name in annotations:
        path = root / name
        entries = read_json(path)
        if not isinstance(entries, list):
            raise ValueError(f"{path}:1: expected a list of videos")
        ids = [
            get_field(entry, "id", str, f"{path}, entry {number}")
            for number, entry in enumerate(entries)
        ]
        for entry, (video, where) in zip(entries, name_lines(path, ids), strict=True):
            template = get_field(entry, "template", str, where)
            label = template.replace("[", "").replace("]", "")
            subset = path.stem.rsplit("-", 1)[-1]
            taken.add_video(video, where, subset=subset, labels=(label,))
    return taken.finish(root)
