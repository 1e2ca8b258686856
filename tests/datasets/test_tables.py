import re
from pathlib import Path

import pytest

from vidmamba.datasets.classes import read_classes
from vidmamba.datasets.tables import parse_count, parse_time, read_fields, read_table


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("12.5", 12.5),
        ("7.", 7.0),
        ("1e2", 100.0),
        ("1:02.5", 62.5),
        ("00:00:00.54", 0.54),
        ("01:02:03.25", 3723.25),
        ("75:10", 4510.0),
    ],
)
def test_times_are_seconds_or_clocks(text: str, seconds: float) -> None:
    assert parse_time(text, "f:1") == pytest.approx(seconds, abs=1e-12)


@pytest.mark.parametrize(
    "text", ["", "soon", "-1", "nan", "inf", "1:60", "1:60:00", "1:2:3:4", "1,5"]
)
def test_what_is_no_time_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(ValueError, match=f"f:7: expected seconds .*, got {re.escape(repr(text))}"):
        parse_time(text, "f:7")


@pytest.mark.parametrize("text", ["", "1.5", "-1", "x", "²"])
def test_what_is_no_count_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(ValueError, match="f:7: expected a whole number"):
        parse_count(text, "f:7")


def test_a_table_gives_the_columns_that_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes('\ufeffx, y ,z\r\n1,"two, or\n2",3\r\n\r\n4,5,6\r\n'.encode())
    assert [*read_table(path, ("y",), optional=("z", "w"))] == [
        (f"{path}:2", {"y": "two, or\n2", "z": "3"}),
        (f"{path}:5", {"y": "5", "z": "6"}),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.csv:1: the header lacks x, y; it has nothing"),
        (b"x,z\n1,2\n", r"a\.csv:1: the header lacks y; it has x, z"),
        (b"x,y,x\n1,2,3\n", r"a\.csv:1: the header names x twice"),
        (b"x,y\n", r"a\.csv:1: there is nothing below the header"),
        (b"x,y\n1,2\n3\n", r"a\.csv:3: 1 values for 2 columns"),
        (b'x,y\n1,2\n3,"4\n', r"a\.csv:3: unexpected end of data"),
        (b"x,y\n1,2\n3,\xff\n", r"a\.csv:3: byte 0xff is not UTF-8"),
    ],
)
def test_a_table_that_is_none_is_named_with_its_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        [*read_table(path, ("x", "y"))]
    with pytest.raises(ValueError, match=r"gone\.csv is missing"):
        [*read_table(tmp_path / "gone.csv", ("x",))]


def test_lines_without_a_header_split_at_the_last_space_or_at_a_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("my clips/a.avi\t3\n\nb.avi\n")
    assert [*read_fields(path, None)] == [
        (f"{path}:1", ["my clips/a.avi", "3"]),
        (f"{path}:3", ["b.avi"]),
    ]
    path.write_text('10\t20\tsay "hi\n')
    assert [*read_fields(path, "\t")] == [(f"{path}:1", ["10", "20", 'say "hi'])]
    path.write_text("\n")
    for delimiter in (None, ","):
        with pytest.raises(ValueError, match=r"list\.txt:1: the file is empty"):
            [*read_fields(path, delimiter)]


@pytest.mark.parametrize(
    ("text", "names", "ids"),
    [
        ("run\n3 point throw\n", ("run", "3 point throw"), {}),
        ("0 run\n1 throw it\n", ("run", "throw it"), {"0": "run", "1": "throw it"}),
        ("1 run\r\n2 jump\r\n", ("run", "jump"), {"1": "run", "2": "jump"}),
        ("2 cups\n1 cup\n", ("2 cups", "1 cup"), {}),
    ],
)
def test_classes_may_be_numbered(
    tmp_path: Path, text: str, names: tuple[str, ...], ids: dict[str, str]
) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(text.encode())
    classes = read_classes(path)
    assert (classes.names, classes.ids) == (names, ids)
    for name in names:
        assert classes.find(name, "f:1") == name
    for number, name in ids.items():
        assert classes.find(number, "f:1") == name
    with pytest.raises(ValueError, match=r"f:1: unknown class 'swim'; .*classes\.txt has "):
        classes.find("swim", "f:1")


def test_a_class_that_is_listed_twice_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("run\n\njump\nrun\n")
    with pytest.raises(ValueError, match=r"classes\.txt:4: 'run' stands here again, after 1"):
        read_classes(path)
    path.write_text("")
    with pytest.raises(ValueError, match=r"classes\.txt names no class"):
        read_classes(path)
