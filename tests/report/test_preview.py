"""Which files a page carries as they are, and what browsers make of the copies of the others."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidmamba.report.page import write_page
from vidmamba.report.preview import media_for, transcode_preview
from vidmamba.timeline import Segment, Timeline
from vidmamba.video.reader import VideoReader
from vidmamba.video.writer import VideoWriter

from .conftest import Browser, write_clip

FORMATS: dict[str, dict[str, Any]] = {
    "mpeg4.avi": {"codec": "mpeg4"},
    "h264.ts": {},
    "hevc.mp4": {"codec": "libx265", "preset": "ultrafast"},
    "ten_bit.mp4": {"pixel_format": "yuv420p10le"},
    "full_colour.mp4": {"pixel_format": "yuv444p"},
    "h264.mkv": {},
}


def _embedded(source: str | None) -> bytes:
    assert source is not None
    return base64.b64decode(source.partition(";base64,")[2])


def _brightness(path: Path, times: list[float]) -> list[float]:
    with VideoReader(path, decoder="pyav") as reader:
        return [float(frame.mean()) for frame in reader.at_times(times).pixels]


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.webm", "libvpx-vp9"), ("a.MP4", "libx264")]
)
def test_what_browsers_play_is_embedded_byte_for_byte(
    tmp_path: Path, name: str, codec: str
) -> None:
    video = write_clip(tmp_path / name, seconds=0.5, codec=codec)
    media = media_for(video, tmp_path / "p.html")
    assert _embedded(media.source) == video.read_bytes()
    assert media.note == ""


@pytest.mark.parametrize("name", FORMATS)
def test_other_formats_become_a_copy_with_the_same_picture_at_each_time(
    tmp_path: Path, name: str
) -> None:
    video = write_clip(tmp_path / name, seconds=2.0, **FORMATS[name])
    page = tmp_path / "page" / "p.html"
    media = media_for(video, page)
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(_embedded(media.source))
    assert name in media.note
    times = [0.05 + 0.1 * k for k in range(19)]
    # brightness grows by 9 of 255 a frame of 0.1 s
    np.testing.assert_allclose(_brightness(copy, times), _brightness(video, times), atol=3)
    assert list(page.parent.iterdir()) == []  # no draft is left


def test_a_copy_keeps_uneven_times_and_the_end(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.5, 0.54, 2.0]
    with VideoWriter(tmp_path / "v.mkv", width=160, height=120, fps=25) as writer:
        for k, time in enumerate(times):
            writer.write(np.full((120, 160, 3), 40 + 40 * k, np.uint8), time=time)
    transcode_preview(tmp_path / "v.mkv", tmp_path / "copy.mp4")
    with VideoReader(tmp_path / "copy.mp4", decoder="pyav") as reader:
        for frames in reader.at_rate(None):
            assert frames.timestamps[: len(times)] == pytest.approx(times, abs=2e-3)
        assert reader.info.duration == pytest.approx(
            VideoReader(tmp_path / "v.mkv").info.duration, abs=0.05
        )


def test_a_copy_is_small_even_and_at_most_thirty_frames_a_second(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "v.avi", width=1001, height=333, fps=60, codec="mpeg4") as writer:
        for k in range(30):
            writer.write(np.full((333, 1001, 3), 8 * k, np.uint8))
    transcode_preview(tmp_path / "v.avi", tmp_path / "copy.mp4")
    with VideoReader(tmp_path / "copy.mp4", decoder="pyav") as reader:
        assert (reader.info.width, reader.info.height) == (640, 212)
        assert sum(len(frames.timestamps) for frames in reader.at_rate(None)) <= 17


def test_a_copy_too_large_for_the_page_stands_beside_it_and_plays(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_clip(tmp_path / "v.avi", seconds=1.0, codec="mpeg4")
    monkeypatch.setattr("vidmamba.report.page.media_for", _nothing_fits)
    page = tmp_path / "50% done #1.html"
    segments = (Segment(start=0.0, end=1.0, label="a"),)
    timeline = Timeline(video="v.avi", duration=1.0, fps=10.0, segments=segments)
    write_page(page, timeline=timeline, video=video)
    assert (tmp_path / "50% done #1.preview.mp4").stat().st_size > 0
    browser.open(page)
    browser.ready()
    note = browser.run("return document.querySelector('.note').textContent")
    assert "50% done #1.preview.mp4" in note


def _nothing_fits(video: Path, page: Path) -> object:
    return media_for(video, page, as_it_is=0, largest=0)


def test_a_long_video_that_browsers_play_is_linked_not_copied(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "films").mkdir()
    video = write_clip(tmp_path / "films" / "größe #2.mp4", seconds=1.0)
    monkeypatch.setattr("vidmamba.report.preview._LONGEST", 0.5)
    monkeypatch.setattr("vidmamba.report.page.media_for", _nothing_fits)
    timeline = Timeline(video="v", duration=1.0, fps=10.0, segments=())
    write_page(tmp_path / "out" / "p.html", timeline=timeline, video=video)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["p.html"]
    browser.open(tmp_path / "out" / "p.html")
    browser.ready()


def test_a_copy_plays_in_the_page(browser: Browser, tmp_path: Path) -> None:
    video = write_clip(tmp_path / "v.ts", seconds=2.0)
    segments = (
        Segment(start=0.0, end=1.0, label="a"),
        Segment(start=1.0, end=2.0, label="b"),
    )
    timeline = Timeline(video="v.ts", duration=2.0, fps=10.0, segments=segments)
    write_page(tmp_path / "p.html", timeline=timeline, video=video)
    browser.open(tmp_path / "p.html")
    browser.ready()
    length = browser.run("return document.querySelector('video').duration")
    assert length == pytest.approx(2.0, abs=0.06)
    browser.click("#segments li:nth-child(2) button")
    assert 1.0 <= browser.now() < 2.0
    assert browser.current() == ["b"]


@pytest.mark.parametrize("content", [b"", b"not a video at all", None])
def test_what_cannot_be_read_gives_a_note_naming_the_file(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "v.mp4").write_bytes(content)
    media = media_for(tmp_path / "v.mp4", tmp_path / "p.html")
    assert media.source is None
    assert "v.mp4" in media.note
