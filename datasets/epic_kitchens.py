"""EPIC-KITCHENS-100 (Damen et al., IJCV 2022): its CSV files of actions.

    EPIC_100_train.csv, EPIC_100_validation.csv    video_id, start_timestamp, stop_timestamp,
                                                   verb_class, noun_class, and more
    EPIC_100_verb_classes.csv, ..._noun_classes.csv    id, key, and more

Videos lie at <participant>/videos/<video>.MP4, or by their name anywhere. Actions overlap; an
action's class is its verb and its noun.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from vidmamba.datasets.annotations import Annotations, Collector
from vidmamba.datasets.classes import Classes
from vidmamba.datasets.tables import parse_count, parse_time, read_table

_COLUMNS = ("video_id", "start_timestamp", "stop_timestamp")


def read_epic_kitchens(
    root: Path,
    *,
    annotations: Sequence[str] = ("EPIC_100_train.csv", "EPIC_100_validation.csv"),
    target: Literal["action", "verb", "noun"] = "action",
) -> Annotations:
    """Read the files; EPIC_100_train.csv holds the subset `train`.

    Args:
        root: the folder of the files.
        annotations: files of actions, in it.
        target: what the classes are; all verbs or nouns in the order of their numbers, or the
            actions that the files hold, in order of name.

    Raises:
        ValueError: a file is missing or no such table, or a line of it (which is named) holds no
            time or no known class.
    """
    words = [word for word in ("verb", "noun") if target in (word, "action")]
    keys = {word: _read_keys(root / f"EPIC_100_{word}_classes.csv") for word in words}
    classes = None
    if target != "action":
        classes = Classes(names=tuple(keys[target].values()), ids={}, source=str(root))
    taken = Collector(classes)
    columns = (*_COLUMNS, *(f"{word}_class" for word in words))
    for name in annotations:
        subset = Path(name).stem.removeprefix("EPIC_100_")
        for where, row in read_table(root / name, columns):
            video = row["video_id"]
            if video not in taken:
                places = (f"{video.split('_')[0]}/videos/{video}", video)
                taken.add_video(video, where, files=places, subset=subset)
            elif taken.subset_of(video) != subset:
                raise ValueError(f"{where}: {video} is in {taken.where_of(video)} already")
            start, end = (parse_time(row[f"{edge}_timestamp"], where) for edge in ("start", "stop"))
            label = " ".join(_key(keys[word], row[f"{word}_class"], where) for word in words)
            taken.add_segment(video, start, end, label, where)
    return taken.finish(root)


def _read_keys(path: Path) -> dict[int, str]:
    """Return the name of each class by its number, in order of number."""
    keys: dict[int, str] = {}
    for where, row in read_table(path, ("id", "key")):
        number = parse_count(row["id"], where)
        if number in keys or row["key"] in keys.values():
            raise ValueError(f"{where}: {number} or {row['key']!r} stands here again")
        keys[number] = row["key"]
    return dict(sorted(keys.items()))


def _key(keys: dict[int, str], text: str, where: str) -> str:
    number = parse_count(text, where)
    if number not in keys:
        raise ValueError(f"{where}: unknown class {number}; there are {min(keys)} to {max(keys)}")
    return keys[number]
