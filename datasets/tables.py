"""Tables in text files, row by row, each with the file and line that it is from."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vidmamba.datasets.captions.files import read_text

_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d*)?)")
_SECONDS = re.compile(r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?")


def read_table(
    path: Path, columns: Sequence[str], *, optional: Sequence[str] = (), delimiter: str = ","
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (`file:line`, values by column) for the rows below a header that names the columns.

    Other columns are left out, and so is an `optional` one that the file does not have.

    Raises:
        ValueError: the file cannot be read, holds no row, lacks a column, or a row has more or
            fewer values than the header.
    """
    rows = _rows(path, delimiter)
    where, header = next(rows, (f"{path}:1", []))
    header = [name.strip() for name in header]
    if missing := [name for name in columns if name not in header]:
        got = ", ".join(header) or "nothing"
        raise ValueError(f"{where}: the header lacks {', '.join(missing)}; it has {got}")
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(f"{where}: the header names {', '.join(twice)} twice")
    wanted = [name for name in (*columns, *optional) if name in header]
    count = 0
    for count, (where, row) in enumerate(rows, start=1):  # noqa: B007
        if len(row) != len(header):
            raise ValueError(f"{where}: {len(row)} values for {len(header)} columns")
        values = dict(zip(header, row, strict=True))
        yield where, {name: values[name].strip() for name in wanted}
    if count == 0:
        raise ValueError(f"{where}: there is nothing below the header")


def read_fields(path: Path, delimiter: str | None) -> Iterator[tuple[str, list[str]]]:
    """Yield (`file:line`, fields) for the lines of a file without a header.

    Args:
        path: the file.
        delimiter: between the fields; None for a stretch of white space before the last of two.

    Raises:
        ValueError: the file cannot be read, or holds nothing.
    """
    where = None
    if delimiter is not None:
        for where, row in _rows(path, delimiter):
            yield where, [field.strip() for field in row]
    else:
        for number, line in enumerate(read_text(path).split("\n"), start=1):
            if line.strip():
                where = f"{path}:{number}"
                yield where, line.strip().rsplit(maxsplit=1)
    if where is None:
        raise ValueError(f"{path}:1: the file is empty")


def name_lines(path: Path, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each of some names that stand in a JSON file, in this order, and `file:line, name`.

    Raises:
        ValueError: the file cannot be read.
    """
    text = read_text(path)
    position, line = 0, 1
    for name in names:
        # escaped as Python does by default, or as it is
        quoted = (json.dumps(name), json.dumps(name, ensure_ascii=False))
        places = [place for place in (text.find(q, position) for q in quoted) if place >= 0]
        if places:
            line += text.count("\n", position, min(places))
            position = min(places) + 1
        yield name, f"{path}:{line}, {name}"


def parse_time(text: str, where: str) -> float:
    """Return seconds, from `12.5`, `1:02.5` or `01:02:03.5`.

    Raises:
        ValueError: it is something else.
    """
    if _SECONDS.fullmatch(text):
        return float(text)
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, seconds = clock[1] or "0", clock[2], clock[3]
        if float(seconds) < 60 and (clock[1] is None or int(minutes) < 60):
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    raise ValueError(f"{where}: expected seconds or hours:minutes:seconds, got {text!r}")


def parse_count(text: str, where: str) -> int:
    """Return a whole number, 0 or more.

    Raises:
        ValueError: it is something else.
    """
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"{where}: expected a whole number, 0 or more, got {text!r}")
    return int(text)


def _rows(path: Path, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    text = io.StringIO(read_text(path), newline="")
    if delimiter == "\t":  # quotes nothing: a lone quotation mark is part of a name there
        table = csv.reader(text, delimiter=delimiter, strict=True, quoting=csv.QUOTE_NONE)
    else:
        table = csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        where = f"{path}:{table.line_num + 1}"
        try:
            row = next(table, None)
        except csv.Error as error:
            raise ValueError(f"{where}: {error}") from error
        if row is None:
            return
        if any(field.strip() for field in row):
            yield where, row
