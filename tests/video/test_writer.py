import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from vidmamba.video.errors import VideoError
from vidmamba.video.writer import VideoWriter

Pixels = npt.NDArray[np.uint8]


def _pictures(count: int, width: int = 160, height: int = 120) -> list[Pixels]:
    """Blocks of random colours that move: no two pictures alike."""
    random = np.random.default_rng(0)
    return [
        random.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
        .repeat(8, 0)
        .repeat(8, 1)[:height, :width]
        for _ in range(count)
    ]


def _write(path: Path, pictures: list[Pixels], **options: Any) -> None:
    height, width, _ = pictures[0].shape
    with VideoWriter(path, **{"width": width, "height": height, "fps": 25, **options}) as writer:
        for picture in pictures:
            writer.write(picture)


@pytest.mark.parametrize(
    ("file", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mkv", "libx264"),
        ("a.mp4", "libx265"),
        ("a.webm", "libvpx-vp9"),
        ("a.mp4", "libsvtav1"),
    ],
)
def test_the_same_frames_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, codec: str
) -> None:
    monkeypatch.setenv("SVT_LOG", "0")
    pictures = _pictures(12)
    made = set()
    for turn in range(4):
        (tmp_path / str(turn)).mkdir()
        _write(tmp_path / str(turn) / file, pictures, codec=codec)
        made.add((tmp_path / str(turn) / file).read_bytes())
    assert len(made) == 1


def test_what_is_written_is_what_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    flat = [np.full((120, 160, 3), colour, np.uint8) for colour in ((200, 30, 40), (10, 180, 250))]
    _write(path, flat, crf=10)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        for frame, colour in zip(container.decode(stream), flat, strict=True):
            assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - colour).max() <= 4


def test_the_index_stands_before_the_pictures(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    _write(path, _pictures(3))
    data = path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("fps", [10, 29.97, Fraction(30000, 1001), 60.0])
def test_frames_appear_at_their_rate(tmp_path: Path, fps: float | Fraction) -> None:
    path = tmp_path / "a.mp4"
    _write(path, _pictures(5), fps=fps)
    with av.open(str(path)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(5) / float(fps), atol=1e-4)


@pytest.mark.parametrize("file", ["a.mp4", "a.mkv"])
def test_frames_appear_at_their_times(tmp_path: Path, file: str) -> None:
    given = [0.5, 0.61, 0.7, 3.0, 3.001]
    with VideoWriter(tmp_path / file, width=160, height=120, fps=25) as writer:
        for picture, time in zip(_pictures(5), given, strict=True):
            writer.write(picture, time=time)
    with av.open(str(tmp_path / file)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(times, given, atol=6e-4)


@pytest.mark.parametrize(
    ("file", "codec"), [("a.mp4", "libx264"), ("a.mp4", "libx265"), ("a.webm", "libvpx-vp9")]
)
def test_odd_sizes_stay(tmp_path: Path, file: str, codec: str) -> None:
    _write(tmp_path / file, _pictures(2, 161, 121), codec=codec)
    with av.open(str(tmp_path / file)) as container:
        assert [(f.width, f.height) for f in container.decode(video=0)] == [(161, 121)] * 2


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_shortest_films_keep_their_times(tmp_path: Path, count: int) -> None:
    # x265 left the times of so few pictures to chance: about one film in four
    for turn in range(12):
        _write(tmp_path / f"{turn}.mp4", _pictures(count), codec="libx265")
        with av.open(str(tmp_path / f"{turn}.mp4")) as container:
            times = [frame.time for frame in container.decode(video=0)]
        assert times == pytest.approx([k / 25 for k in range(count)])


def _blank(writer: VideoWriter, **time: float) -> None:
    writer.write(np.zeros((120, 160, 3), np.uint8), **time)


def _mixed(writer: VideoWriter) -> None:
    _blank(writer, time=0.0)
    _blank(writer)


def _backwards(writer: VideoWriter) -> None:
    _blank(writer, time=1.0)
    _blank(writer, time=1.0)


@pytest.mark.parametrize(
    ("message", "use"),
    [
        ("120, 160, 3", lambda writer: writer.write(np.zeros((160, 120, 3), np.uint8))),
        ("every frame or for none", _mixed),
        ("times must increase", _backwards),
        ("no frame was written", lambda writer: None),
    ],
)
def test_misuse_is_refused_and_leaves_no_file(
    tmp_path: Path, message: str, use: Callable[[VideoWriter], object]
) -> None:
    path = tmp_path / "a.mp4"
    with (
        pytest.raises(ValueError, match=message),
        VideoWriter(path, width=160, height=120, fps=25) as writer,
    ):
        use(writer)
    assert not path.exists()


@pytest.mark.parametrize("options", [{"codec": "no-such-codec"}, {"codec": "aac"}])
def test_an_encoder_that_cannot_be_is_refused_by_file(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(VideoError, match=r"a\.mp4: "):
        VideoWriter(tmp_path / "a.mp4", width=160, height=120, fps=25, **options)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"fps": 0.0}, {"fps": float("inf")}])
def test_sizes_and_rates_must_be_positive(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="positive"):
        VideoWriter(tmp_path / "a.mp4", **{"width": 160, "height": 120, "fps": 25, **wrong})


def test_a_folder_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="nowhere"):
        VideoWriter(tmp_path / "nowhere" / "a.mp4", width=160, height=120, fps=25)


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no such call on this system")
@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
def test_writing_leaves_the_thread_its_place_in_the_schedule(tmp_path: Path, codec: str) -> None:
    # root's SVT-AV1 makes its caller a real-time thread, which starves what it starts afterwards
    before = os.sched_getscheduler(0)
    _write(tmp_path / "a.mp4", _pictures(5, 64, 64), codec=codec)
    assert os.sched_getscheduler(0) == before
