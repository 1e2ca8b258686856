"""Encode RGB frames to a video file, the same bytes each time for the same frames."""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
import numpy.typing as npt
from av.container import OutputContainer
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream

from vidmamba.video.errors import VideoError

# fixed: the encoders' output depends on their number of threads, not on the machine's cores
_THREADS = 2
_QUIET_AND_FIXED: dict[str, dict[str, str]] = {
    # x264's macroblock tree reads memory that it never wrote (AVX-512, with B-frames): the same
    # pictures gave three different files in fifteen runs
    "libx264": {"x264-params": "mbtree=0"},
    "libx265": {"x265-params": "log-level=none:pools=none:frame-threads=1"},
    "libsvtav1": {"svtav1-params": "lp=1"},
    "libvpx-vp9": {"cpu-used": "5"},
}
_NEEDS_EVEN = ("libx264", "libx265")
# x265 takes the shift of its decode times from the third picture; where there is none it hands out
# memory that it never wrote
_LOOKS_AHEAD = {"libx265": 3}
# fine enough for every usual rate (24, 25, 30, 50, 60 divide it) and coarse enough for MPEG-4,
# whose clock has 16 bits
_VARIABLE_TIME_BASE = Fraction(1, 60_000)


class VideoWriter:
    """A context manager that encodes frames: H.264 in yuv420p unless told otherwise.

    The container follows the path's suffix (.mp4, .mkv, .webm, .avi, .ts ...). An mp4 is written
    with its index in front, so that a browser can play it while it loads. If the block raises, the
    unfinished file is removed.

    Odd sizes stay as they are: where 4:2:0 cannot hold them (H.264, HEVC) the frames are coded in
    yuv444p, which decoders read and some browsers do not play: use even sizes for the web.

    Args:
        path: the file to write; its folder must exist.
        width: pixels of a frame, before `rotation`.
        height: pixels of a frame, before `rotation`.
        fps: frames a second; with `write(time=...)` only the nominal rate.
        codec: an encoder of FFmpeg's: libx264, libx265, libvpx-vp9, libsvtav1, mpeg4 ...
        crf: constant quality, lower is better; None leaves it to the encoder.
        preset: the encoder's speed; None leaves it to the encoder.
        pixel_format: None chooses as above; "yuv420p10le" codes 10 bits.
        rotation: degrees counter-clockwise by which a player turns the picture; a tag, the pixels
            stay as they are.
        options: more options of the encoder's, such as {"g": "12", "bf": "2"}.

    Raises:
        VideoError: no such encoder, or the container cannot hold its output, or no frame came.
        ValueError: a size or rate that is not positive, or frames of another shape or type.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        width: int,
        height: int,
        fps: float | int | Fraction,
        codec: str = "libx264",
        crf: int | None = None,
        preset: str | None = None,
        pixel_format: str | None = None,
        rotation: int = 0,
        options: Mapping[str, str] | None = None,
    ) -> None:
        if width < 1 or height < 1 or not fps > 0 or not math.isfinite(fps):
            raise ValueError(f"size and rate must be positive, got {width}x{height} at {fps}")
        self.path = Path(path)
        self.width = width
        self.height = height
        self._rate = Fraction(fps).limit_denominator(1001)
        self._variable: bool | None = None  # known with the first frame
        self._last = -1
        self._held: list[av.VideoFrame] = []
        self._to_hold = _LOOKS_AHEAD.get(codec, 1)
        self._colorspace = Colorspace.ITU709 if height >= 720 else Colorspace.ITU601
        chosen = {**_QUIET_AND_FIXED.get(codec, {}), **(options or {})}
        chosen |= {"crf": str(crf)} if crf is not None else {}
        chosen |= {"preset": preset} if preset is not None else {}
        try:
            self._container = _open_output(self.path)
            self._stream = _add_stream(self._container, codec, self._rate, chosen)
        except (av.FFmpegError, ValueError, OSError) as error:
            raise VideoError(f"{self.path}: cannot write {codec}: {error}") from error
        odd = width % 2 == 1 or height % 2 == 1
        self._stream.pix_fmt = pixel_format or (
            "yuv444p" if odd and codec in _NEEDS_EVEN else "yuv420p"
        )
        self._stream.width, self._stream.height = width, height
        _tag(self._stream, self._colorspace)
        if rotation:
            self._stream.set_display_rotation(rotation)

    def write(self, frame: npt.NDArray[np.uint8], *, time: float | int | None = None) -> None:
        """Add a frame.

        Args:
            frame: uint8 RGB [H, W, 3].
            time: seconds at which it appears, later than the frame before; give it for all frames
                or for none (then frame k appears at k / fps). Rounded to 1/60000 s, and by the
                container to its own clock (Matroska: 1 ms).

        Raises:
            ValueError: another shape or type, or a time that does not increase.
            VideoError: the encoder refuses the frame's size or format (HEVC: with the third).
        """
        if frame.shape != (self.height, self.width, 3) or frame.dtype != np.uint8:
            wanted = f"uint8 [{self.height}, {self.width}, 3]"
            raise ValueError(f"a frame must be {wanted}, got {frame.dtype} {[*frame.shape]}")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = picture.reformat(
            format=self._stream.pix_fmt, dst_colorspace=self._colorspace, threads=1
        )
        picture.pts = self._last = self._tick(time)
        picture.time_base = self._stream.codec_context.time_base
        self._held.append(picture)
        if len(self._held) >= self._to_hold:
            self._encode_held()

    def _tick(self, time: float | int | None) -> int:
        if self._variable is None:
            self._variable = time is not None
            base = _VARIABLE_TIME_BASE if self._variable else 1 / self._rate
            self._stream.codec_context.time_base = base
            self._stream.time_base = base
        if self._variable != (time is not None):
            raise ValueError("give a time for every frame or for none")
        tick = self._last + 1 if time is None else round(time / _VARIABLE_TIME_BASE)
        if tick <= self._last:
            raise ValueError(f"times must increase, got {time} s after tick {self._last}")
        return tick

    def _encode_held(self) -> None:
        for picture in self._held:
            self._encode(picture)
        self._held, self._to_hold = [], 1

    def _encode(self, picture: av.VideoFrame | None) -> None:
        try:
            with _same_schedule():
                packets = self._stream.encode(picture)
            self._container.mux(packets)
        except (av.FFmpegError, OSError) as error:
            name = self._stream.codec_context.name
            size = f"{self.width}x{self.height} {self._stream.pix_fmt}"
            raise VideoError(f"{self.path}: {name} refuses {size}: {error}") from error

    def close(self) -> None:
        """Finish the file; nothing may be written after it."""
        if self._variable is None:
            self._discard()
            raise VideoError(f"{self.path}: no frame was written")
        if self._held:
            self._stream.codec_context.max_b_frames = 0
            self._encode_held()
        self._encode(None)
        self._container.close()

    def _discard(self) -> None:
        self._container.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._discard()


@contextmanager
def _same_schedule() -> Iterator[None]:
    """Give the thread back its place in the system's schedule, and so to all that it starts later.

    SVT-AV1, run by root, makes the thread that begins to encode a real-time one for good: it and
    its children then keep everything else from their cores for as long as they are busy.
    """
    if not hasattr(os, "sched_getscheduler"):  # macOS and Windows
        yield
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, priority)


def _open_output(path: Path) -> OutputContainer:
    if not path.parent.is_dir():  # else found out with the first frame
        raise ValueError("its folder does not exist")
    # bitexact: no random identifiers in the file
    options = {"fflags": "+bitexact"}
    if path.suffix in (".mp4", ".m4v", ".mov"):
        options["movflags"] = "+faststart"
    return av.open(str(path), "w", options=options)


def _add_stream(
    container: OutputContainer, codec: str, rate: Fraction, options: dict[str, str]
) -> VideoStream:
    if av.Codec(codec, "w").type != "video":
        raise ValueError("not a video encoder")
    stream = container.add_stream(codec, rate, options)
    assert isinstance(stream, VideoStream)
    return stream


def _tag(stream: VideoStream, colorspace: Colorspace) -> None:
    """Fix the threads, and say which matrix was used: players guess by height, and differ."""
    context = stream.codec_context
    context.thread_count = _THREADS
    number = 1 if colorspace is Colorspace.ITU709 else 6
    context.colorspace = context.color_trc = context.color_primaries = number
    context.color_range = 1
