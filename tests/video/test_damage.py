"""Files that end too early, files that are hurt, and files that are no videos."""

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from vidmamba.video.reader import VideoError, VideoReader, probe

Pixels = npt.NDArray[np.uint8]
Shoot = Callable[[Any], Path]
Numbers = Callable[[Pixels], list[int]]

CUTTABLE = ["h264", "h264-mkv", "hevc", "vp9", "av1", "mpeg4-avi", "mjpeg-avi", "ts", "mpeg2-ts"]


def _read(path: Path, numbers_on: Numbers) -> tuple[list[int], list[float], str | None]:
    numbers: list[int] = []
    seconds: list[float] = []
    with VideoReader(path) as reader:
        for frames in reader.at_rate(batch=7):
            numbers += numbers_on(frames.pixels)
            seconds += frames.timestamps.tolist()
        return numbers, seconds, reader.damage


def _whole_before(path: Path, size: int) -> int:
    """How many frames come, without a gap, from packets that end before this many bytes."""
    with av.open(str(path)) as container:
        found = [p for p in container.demux(video=0) if p.size]
    stamps = sorted(p.pts or 0 for p in found)
    if path.suffix == ".ts":  # packets lie in pieces there: those before the one that is cut
        kept = [b.pts for b, after in pairwise(found) if (after.pos or 0) < size]
    else:
        kept = [p.pts for p in found if (p.pos or 0) + p.size <= size]
    return next((n for n, stamp in enumerate(stamps) if stamp not in kept), len(stamps))


def _place_of(path: Path, number: int) -> int:
    """The byte at which a packet starts."""
    with av.open(str(path)) as container:
        return [p.pos or 0 for p in container.demux(video=0)][number]


@pytest.mark.parametrize("part", [0.25, 0.6, 0.9])
@pytest.mark.parametrize("name", CUTTABLE)
def test_a_cut_file_gives_every_frame_before_the_break_and_says_what_is_lost(
    films: dict[str, Any],
    shoot: Shoot,
    numbers_on: Numbers,
    tmp_path: Path,
    name: str,
    part: float,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = shoot(films[name])
    data = path.read_bytes()
    begin = _place_of(path, 5)
    size = begin + int((len(data) - begin) * part)
    size += path.suffix == ".ts" and size % 188 == 0  # a cut that nothing can show
    cut = tmp_path / path.name
    cut.write_bytes(data[:size])
    numbers, seconds, damage = _read(cut, numbers_on)
    whole = _whole_before(path, size)
    assert whole > 3
    assert numbers[:whole] == [*range(whole)]
    # frames that are stored before ones shown earlier may follow: never a wrong one
    assert numbers == sorted(set(numbers))
    np.testing.assert_allclose(seconds, np.asarray(numbers) / 25, atol=5.1e-4)
    assert damage is not None
    reached = seconds[-1] + 0.04
    assert f"{reached:.2f} s" in damage
    if path.suffix != ".ts":  # the only one that does not say how long it is
        assert f"last {2 - reached:.2f} s" in damage
    with VideoReader(cut) as reader:
        assert numbers_on(reader.at_times([0.0, reached - 0.01]).pixels) == [0, numbers[-1]]
        with pytest.raises(VideoError, match="breaks off"):
            reader.at_times([reached + 0.1])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["h264", "h264-mkv", "mpeg4-avi", "vp9", "av1", "ts"])
def test_a_hurt_file_goes_on_after_the_wound(
    films: dict[str, Any],
    shoot: Shoot,
    numbers_on: Numbers,
    tmp_path: Path,
    name: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = shoot(films[name])
    data = bytearray(path.read_bytes())
    # in MP4 at a packet's head: FFmpeg itself does not notice every wound in its middle
    wound = _place_of(path, 24) if path.suffix == ".mp4" else int(len(data) * 0.6)
    for place in range(wound, wound + 40):
        data[place] ^= 0xA5
    hurt = tmp_path / path.name
    hurt.write_bytes(data)
    numbers, seconds, damage = _read(hurt, numbers_on)
    before = min(_whole_before(path, wound - 188), 20)
    assert numbers[:before] == [*range(before)]
    places = np.rint(np.asarray(seconds) * 25).astype(int).tolist()
    assert [*range(40, 50)] == places[-10:] == numbers[-10:]  # three key frames later
    assert damage is not None
    assert "could not be decoded" in damage
    assert capfd.readouterr() == ("", "")


def _sound_only(path: Path) -> None:
    with av.open(str(path), "w") as out:
        sound = out.add_stream("aac", 8000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.float32), "fltp", "mono")
        samples.sample_rate = 8000
        out.mux(sound.encode(samples))
        out.mux(sound.encode(None))


def _without_index(path: Path, whole: Path) -> None:
    data = whole.read_bytes()
    path.write_bytes(data.replace(b"moov", b"lost"))


MAKERS: dict[str, tuple[str, Callable[[Path, Path], object]]] = {
    "text.mp4": ("not a video", lambda path, _: path.write_text("no film at all\n" * 50)),
    "notes.txt": ("not a video", lambda path, _: path.write_text("no film at all\n" * 50)),
    "zeros.avi": ("not a video", lambda path, _: path.write_bytes(bytes(5000))),
    "empty.mp4": ("empty", lambda path, _: path.touch()),
    "folder.mp4": ("folder", lambda path, _: path.mkdir()),
    "missing.mp4": ("no such file", lambda path, _: None),
    "sound.mp4": ("no video stream, only audio", lambda path, _: _sound_only(path)),
    "no index.mp4": ("moov", _without_index),
    "head.mkv": ("", lambda path, whole: path.write_bytes(whole.read_bytes()[:200])),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("reading", [VideoReader, probe])
def test_what_is_no_video_is_refused_in_one_line_that_names_it(
    films: dict[str, Any],
    shoot: Shoot,
    tmp_path: Path,
    name: str,
    reading: Callable[[Path], object],
    capfd: pytest.CaptureFixture[str],
) -> None:
    reason, make = MAKERS[name]
    path = tmp_path / name
    make(path, shoot(films["h264-mkv" if path.suffix == ".mkv" else "h264"]))
    with pytest.raises(VideoError) as caught:
        reading(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(
    films: dict[str, Any], shoot: Shoot, tmp_path: Path
) -> None:
    path = tmp_path / "secret.mp4"
    path.write_bytes(shoot(films["h264"]).read_bytes())
    path.chmod(0)
    with pytest.raises(VideoError, match=r"secret\.mp4: no permission"):
        VideoReader(path)
