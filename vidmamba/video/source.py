"""Open a video file, or say in one line why not; and what its header claims."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition
from av.video.stream import VideoStream

from vidmamba.video.errors import VideoError


@dataclass(frozen=True)
class VideoInfo:
    """What a file is: by its header, or (`VideoReader.info`) by all of its packets.

    Attributes:
        path: the file.
        width: pixels, after rotation.
        height: pixels, after rotation.
        fps: frames a second on average.
        duration: seconds.
        codec: FFmpeg's name of the codec: h264, hevc, vp9 ...
        container: FFmpeg's name of the format: "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm" ...
        rotation: degrees counter-clockwise (0, 90, 180 or 270) that were applied.
        num_frames: frames; None where the header does not say.
    """

    path: Path
    width: int
    height: int
    fps: float
    duration: float
    codec: str
    container: str
    rotation: int
    num_frames: int | None


@dataclass(frozen=True)
class Turn:
    """How a picture is turned for showing: quarter turns counter-clockwise, then a mirror."""

    quarters: int = 0
    mirrored: bool = False

    @property
    def swaps(self) -> bool:
        """Whether width and height change places."""
        return self.quarters % 2 == 1

    def apply(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Turn pixels [H, W, 3]: a view."""
        turned = np.rot90(pixels, self.quarters)
        return turned[:, ::-1] if self.mirrored else turned


def probe(path: str | Path) -> VideoInfo:
    """What the file's header claims; decodes one frame and reads no further.

    Raises:
        VideoError: the file cannot be read as a video.
    """
    with open_video(path) as (container, stream):
        frame = first_frame(Path(path), container, stream)
        seconds = claimed_seconds(container, stream) or 0.0
        return describe(Path(path), container, stream, frame, seconds, stream.frames or None)


def describe(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    frame: av.VideoFrame,
    seconds: float,
    num_frames: int | None,
) -> VideoInfo:
    """The description of an open file of this duration, from its first frame."""
    turn = turn_of(frame)
    width, height = (frame.width, frame.height)[:: -1 if turn.swaps else 1]
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    return VideoInfo(
        path=path,
        width=width,
        height=height,
        fps=rate or (num_frames / seconds if num_frames and seconds else 0.0),
        duration=seconds,
        codec=stream.codec_context.codec.canonical_name,
        container=container.format.name,
        rotation=turn.quarters * 90,
        num_frames=num_frames,
    )


@contextmanager
def open_video(path: str | Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its first video stream that is not a cover picture.

    Raises:
        VideoError: missing, a folder, unreadable, empty, not a video, or without a video stream.
    """
    path = Path(path)
    check_readable(path)
    try:
        container = av.open(str(path), "r", metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{path}: not a video that can be read: {_why(path, error)}") from error
    with container:
        kind = container.format.name
        if kind == "tty" or kind == "image2" or kind.endswith("_pipe"):  # FFmpeg draws text, too
            what = "text" if kind == "tty" else "a still picture"
            raise VideoError(f"{path}: not a video, but {what}")
        streams = [
            stream
            for stream in container.streams.video
            if not stream.disposition & Disposition.attached_pic
        ]
        if not streams:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            raise VideoError(f"{path}: has no video stream, only {kinds}")
        yield container, streams[0]


def check_readable(path: Path) -> None:
    """Raise VideoError unless the path is a file with something in it that may be read."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise VideoError(f"{path}: no such file") from None
    except OSError as error:
        raise VideoError(f"{path}: cannot be reached: {error.strerror}") from error
    if path.is_dir():
        raise VideoError(f"{path}: a folder, not a video file")
    if not os.access(path, os.R_OK):
        raise VideoError(f"{path}: no permission to read it")
    if path.is_file() and size == 0:
        raise VideoError(f"{path}: empty (0 bytes)")


def _why(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        return "an MP4 without its index (moov), as a recording that was cut off before its end"
    return getattr(error, "strerror", None) or str(error)


def first_frame(path: Path, container: InputContainer, stream: VideoStream) -> av.VideoFrame:
    """The first frame that decodes.

    Raises:
        VideoError: there is none.
    """
    problem: Exception | None = None
    for packet in packets(container, stream):
        try:
            frames = packet.decode()
        except (av.FFmpegError, OSError) as error:
            problem = error
            continue
        if frames:
            return frames[0]
    reason = f": {getattr(problem, 'strerror', problem)}" if problem else ""
    codec = stream.codec_context.name
    raise VideoError(f"{path}: not one frame of its {codec} stream can be decoded{reason}")


def packets(container: InputContainer, stream: VideoStream) -> Iterator["Packet[VideoStream]"]:
    """Packets as far as the file goes: a demuxer that stumbles over a break has reached the end."""
    demuxed = container.demux(stream)
    while True:
        try:
            yield next(demuxed)
        except (StopIteration, av.FFmpegError, OSError):
            return


def claimed_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """How long the header says that the video stream lasts; None where it says nothing."""
    if container.format.name == "avi":  # its durations are guessed from the file's size when cut
        return float(stream.frames * (stream.time_base or 0)) or None
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION", "")  # Matroska, by FFmpeg and mkvtoolnix: 00:00:02.040
    parts = tag.replace("\x00", "").split(":")
    if len(parts) == 3 and all(part.replace(".", "", 1).isdigit() for part in parts):
        hours, minutes, seconds = (Fraction(part) for part in parts)
        return float(hours * 3600 + minutes * 60 + seconds)
    return container.duration / av.time_base if container.duration else None


def turn_of(frame: av.VideoFrame) -> Turn:
    """How the frame's display matrix turns it, in quarter turns.

    The matrix maps a pixel (x, y) of the picture to (a x + c y, b x + d y) on the screen; a
    negative determinant is a mirror, which FFmpeg's matrices apply after the rotation.
    """
    side_data: Any = frame.side_data  # typed as a mapping from names; it iterates over its values
    found = [data for data in side_data if data.type is SideData.DISPLAYMATRIX]
    if not found:
        return Turn()
    matrix = np.frombuffer(bytes(found[0]), dtype=np.int32).astype(float)
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    mirrored = bool(a * d - b * c < 0)
    angle = -math.atan2(b, -a if mirrored else a)
    return Turn(quarters=round(angle / (math.pi / 2)) % 4, mirrored=mirrored)
