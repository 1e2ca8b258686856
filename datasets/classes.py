"""The classes of a data set, from a file that lists them."""

from dataclasses import dataclass
from pathlib import Path

from vidmamba.datasets.captions.files import read_lines


@dataclass(frozen=True, kw_only=True)
class Classes:
    """Names of classes in their order, and what else may stand for them in annotations."""

    names: tuple[str, ...]
    ids: dict[str, str]
    """From a number as the annotations write it to a name; empty where there are none."""
    source: str
    """The file, for errors."""

    def find(self, label: str, where: str) -> str:
        """Return the name of the class that a name or number stands for.

        Raises:
            ValueError: there is none; the message names `where`, the file and line of the label.
        """
        if label in self.names:
            return label
        if label in self.ids:
            return self.ids[label]
        shown = ", ".join(self.names[:20]) + (", ..." if len(self.names) > 20 else "")
        raise ValueError(f"{where}: unknown class {label!r}; {self.source} has {shown}")


def read_classes(path: Path) -> Classes:
    """Read a file with a class a line, or `number class`, the numbers counting on from 0 or 1.

    Raises:
        ValueError: the file is missing, empty or no text, or names a class twice (its line is in
            the message).
    """
    lines = [(number, line.strip()) for number, line in read_lines(path)]
    if not lines:
        raise ValueError(f"{path} names no class")
    pairs = [line.split(maxsplit=1) for _, line in lines]
    # a class may begin with a number, as `3 point throw` does: all lines together decide
    counted = [int(p[0]) for p in pairs if len(p) == 2 and p[0].isascii() and p[0].isdecimal()]
    first = counted[0] if counted else 0
    numbered = first in (0, 1) and counted == [*range(first, first + len(lines))]
    names: dict[str, int] = {}
    for (number, line), pair in zip(lines, pairs, strict=True):
        name = pair[1] if numbered else line
        if name in names:
            raise ValueError(f"{path}:{number}: {name!r} stands here again, after {names[name]}")
        names[name] = number
    ids = {pair[0]: pair[1] for pair in pairs} if numbered else {}
    return Classes(names=tuple(names), ids=ids, source=str(path))
