"""Annotation files as text, JSON and CSV rows; gzip is seen through, and damage is named."""

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_GZIP = b"\x1f\x8b"
_LARGEST = sys.float_info.max


def read_text(path: Path | str) -> str:
    """Return the text of a UTF-8 file, plain or gzipped, without a byte-order mark.

    Raises:
        ValueError: the file is missing, its gzip is damaged, or a line (named) is not UTF-8.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        if content.startswith(_GZIP):
            content = gzip.decompress(content)
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged gzip: {error}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}:{line}: byte {content[error.start]:#04x} is not UTF-8; convert the file first"
        ) from error


def read_lines(path: Path | str) -> Iterator[tuple[int, str]]:
    """Yield (number, line) for the lines of a text file that hold something.

    Raises:
        ValueError: the file cannot be read.
    """
    # not str.splitlines, which also splits at separators that may stand within a sentence
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield number, line.removesuffix("\r")


def read_json(path: Path | str) -> Any:
    """Return what a JSON file holds; unlike Python's own reading, no repeated key is lost.

    Raises:
        ValueError: the file cannot be read, is no JSON (the line is named), or repeats a key.
    """
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: no JSON: {error.msg}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_rows(path: Path | str, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, values by column) for the rows of a CSV file with a header.

    Raises:
        ValueError: the file cannot be read, lacks a column, or a row has more or fewer values.
    """
    text = io.StringIO(read_text(path), newline="")
    # Vid2Seq keeps features in a cell; csv's limit is of the process, so it is put back
    limit = csv.field_size_limit(sys.maxsize)
    try:
        table = csv.reader(text, strict=True)
        header = next(table, [])
        if missing := [name for name in columns if name not in header]:
            got = ", ".join(header)
            raise ValueError(f"{path} lacks the columns {', '.join(missing)}; it has {got}")
        line = table.line_num + 1
        rows = []
        for row in table:
            if row and len(row) != len(header):
                got = f"{len(row)} values for {len(header)} columns"
                raise ValueError(f"{path}:{line}: {got}")
            if row:
                values = dict(zip(header, row, strict=True))
                rows.append((line, {name: values[name] for name in columns}))
            line = table.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}:{table.line_num}: no CSV: {error}") from error
    finally:
        csv.field_size_limit(limit)
    yield from rows


def get_field(record: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """Return a field of a JSON object, which must be of a kind.

    Raises:
        ValueError: it is no object, lacks the field, or has something else in it.
    """
    if not isinstance(record, Mapping):
        raise ValueError(f"{where}: expected an object, got {_shown(record)}")
    if key not in record:
        raise ValueError(f"{where}: lacks {key!r}; it has {', '.join(map(str, record)) or 'none'}")
    value = record[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        names = " or ".join(one.__name__ for one in kinds)
        raise ValueError(f"{where}: {key!r} must be {names}, got {_shown(value)}")
    return value


def to_seconds(value: Any, where: str) -> float:
    """Return a number as seconds.

    Raises:
        ValueError: it is no finite number.
    """
    # by comparison, which takes whole numbers that no float can hold
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise ValueError(f"{where}: expected a number of seconds, got {_shown(value)}")
    return float(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"{key!r} stands twice in one object")
            seen.add(key)
    return record


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
