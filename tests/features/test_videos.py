from pathlib import Path

import pytest

from vidmamba.features.videos import expand_videos


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_files_folders_and_patterns_give_each_video_once_in_order(tmp_path: Path) -> None:
    a, b, c = tmp_path / "b" / "a.MP4", tmp_path / "b" / "deep" / "b.webm", tmp_path / "c.avi"
    _touch(a, b, c, tmp_path / "b" / "notes.txt", tmp_path / "b" / ".trash" / "old.mp4")
    assert expand_videos([tmp_path / "b"]) == [a, b]
    assert expand_videos([tmp_path]) == [a, b, c]
    assert expand_videos([c, tmp_path / "b", str(tmp_path / "*.avi")]) == [c, a, b]
    assert expand_videos([str(tmp_path / "**" / "*.webm")]) == [b]


def test_a_named_file_is_taken_whatever_its_suffix(tmp_path: Path) -> None:
    _touch(tmp_path / "recording.dat", tmp_path / "[1] odd.mp4")
    assert expand_videos([tmp_path / "recording.dat"]) == [tmp_path / "recording.dat"]
    assert expand_videos([str(tmp_path / "[1] odd.mp4")]) == [tmp_path / "[1] odd.mp4"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.mp4", r"no such file or folder: .*gone\.mp4"),
        ("*.mkv", r"nothing matches .*\*\.mkv"),
        ("empty", "no video in the folder .*empty"),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        expand_videos([str(tmp_path / name)])
