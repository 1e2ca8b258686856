"""Films whose every frame carries its number, to be read off the pixels without trusting anyone."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from vidmamba.video.writer import VideoWriter

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Film:
    """How to make a film, and what must come out of it."""

    file: str
    codec: str = "libx264"
    width: int = 160
    height: int = 120
    num_frames: int = 50
    fps: Fraction = Fraction(25)
    times: tuple[float, ...] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> npt.NDArray[np.float64]:
        """When each frame appears; the first one at 0."""
        if self.times is None:
            return np.arange(self.num_frames) / float(self.fps)
        return np.asarray(self.times) - self.times[0]


def paint(number: int, width: int, height: int) -> Pixels:
    """A frame: its number as eight black or white columns above, colours that drift below."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 0] = np.arange(width) * 255 // width
    frame[..., 1] = (np.arange(height) * 255 // height)[:, None]
    frame[..., 2] = number * 5 % 256
    edges = [round(width * bit / 8) for bit in range(9)]
    for bit in range(8):
        frame[: height // 2, edges[bit] : edges[bit + 1]] = 255 * (number >> bit & 1)
    return frame


def number_on(frame: Pixels) -> int:
    """The number that a frame carries."""
    height, width = frame.shape[:2]
    centres = [round(width * (bit + 0.5) / 8) for bit in range(8)]
    patches = [frame[height // 8 : height * 3 // 8, x - 3 : x + 4].mean() for x in centres]
    return sum(1 << bit for bit, patch in enumerate(patches) if patch > 128)


@pytest.fixture(scope="session")
def numbers_on() -> Callable[[Pixels], list[int]]:
    """Read the numbers off frames [T, H, W, 3]."""
    return lambda pixels: [number_on(frame) for frame in pixels]


@pytest.fixture(scope="session")
def shoot(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Film], Path]:
    """Write a film, once a session."""
    folder = tmp_path_factory.mktemp("films")

    def make(film: Film) -> Path:
        path = folder / film.file
        if not path.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("SVT_LOG", "0")  # the AV1 encoder talks to stderr
                _write(path, film)
        return path

    return make


def _write(path: Path, film: Film) -> None:
    width, height = film.width, film.height
    shape: dict[str, Any] = {"width": width, "height": height, "fps": film.fps}
    with VideoWriter(path, **shape, codec=film.codec, **film.options) as writer:
        for number in range(film.num_frames):
            time = None if film.times is None else film.times[number]
            writer.write(paint(number, width, height), time=time)


_GROUPS = {"options": {"g": "12", "bf": "2"}}
_STALLS = tuple(i * 0.04 + i % 5 * 0.007 + (0.5 if i > 20 else 0) for i in range(50))

FILMS = {
    "h264": Film("h264.mp4", options=_GROUPS),
    "h264-mkv": Film("h264.mkv", options=_GROUPS),
    "h264-open-groups": Film(
        "open.mp4", options={"options": {"g": "12", "bf": "2", "x264-params": "open-gop=1"}}
    ),
    "h264-refresh": Film(
        "refresh.mp4", options={"options": {"g": "12", "x264-params": "intra-refresh=1"}}
    ),
    "h264-avi": Film("h264.avi", options={"options": {"g": "12", "bf": "0"}}),
    "h264-avi-b-frames": Film("h264b.avi", options=_GROUPS),
    "hevc": Film("hevc.mp4", "libx265", options=_GROUPS),
    "hevc-mkv": Film("hevc.mkv", "libx265", options=_GROUPS),
    "vp9": Film("vp9.webm", "libvpx-vp9", options={"options": {"g": "12"}}),
    "av1": Film("av1.mp4", "libsvtav1", options={"preset": "10", "options": {"g": "12"}}),
    "mpeg4-avi": Film("mpeg4.avi", "mpeg4", options={"options": {"g": "12"}}),
    "mpeg4-avi-b-frames": Film("mpeg4b.avi", "mpeg4", options=_GROUPS),
    "mpeg4-mp4": Film("mpeg4.mp4", "mpeg4", options=_GROUPS),
    "mjpeg-avi": Film("mjpeg.avi", "mjpeg", options={"pixel_format": "yuvj420p"}),
    "ts": Film("h264.ts", options=_GROUPS),
    "mpeg2-ts": Film("mpeg2.ts", "mpeg2video", options=_GROUPS),
    "flv": Film("h264.flv", options=_GROUPS),
    "vfr": Film("vfr.mp4", times=_STALLS, options=_GROUPS),
    "vfr-late": Film("late.mp4", times=tuple(t + 1.5 for t in _STALLS), options=_GROUPS),
    "ntsc": Film("ntsc.mp4", fps=Fraction(30000, 1001), options=_GROUPS),
    "turned-90": Film("turned90.mp4", options={**_GROUPS, "rotation": 90}),
    "turned-180": Film("turned180.mp4", options={**_GROUPS, "rotation": 180}),
    "turned-270": Film("turned270.mkv", options={**_GROUPS, "rotation": 270}),
    "ten-bits": Film("ten.mp4", options={**_GROUPS, "pixel_format": "yuv420p10le"}),
    "odd-h264": Film("odd.mp4", width=161, height=121, options=_GROUPS),
    "odd-vp9": Film("odd.webm", "libvpx-vp9", width=161, height=121),
    "odd-mpeg4": Film("odd.avi", "mpeg4", width=161, height=121),
    "one-frame": Film("one.mp4", num_frames=1),
}


@pytest.fixture(scope="session")
def films() -> dict[str, Film]:
    """The matrix of films."""
    return FILMS


@pytest.fixture(params=FILMS)
def film(request: pytest.FixtureRequest) -> Film:
    """Each film of the matrix."""
    return FILMS[request.param]
