"""The frames of a file in the order in which they are shown, from its packets, undecoded.

Inside `vidmamba.video` a frame is known by its number in this order; outside, by its seconds.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from vidmamba.video.errors import VideoError
from vidmamba.video.source import (
    Turn,
    VideoInfo,
    claimed_seconds,
    describe,
    first_frame,
    open_video,
    packets,
    turn_of,
)


class Shown(NamedTuple):
    """A frame that a decoder hands over; its pixels are good until the next one.

    Attributes:
        asked: the number that was asked for.
        number: of the frame on screen then: an earlier one where the one asked for is lost.
        pixels: uint8 RGB [H, W, 3].
    """

    asked: int
    number: int
    pixels: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class FrameIndex:
    """Every frame of a file and when it is shown.

    Attributes:
        info: the file, with the duration and the number of frames that it really has.
        stamps: int64 [N], the container's own time stamps, increasing.
        seconds: float64 [N], the same on the timeline: 0 is where a player starts.
        end: seconds at which the last frame leaves the screen.
        clock: seconds of one tick of the container's clock.
        keys: int64 [K], numbers of the frames at which decoding can start.
        counted: the container's stamps do not follow the order of showing (H.264 with B-frames in
            AVI): a frame is known only by counting from the start.
        closed: no frame before a key frame needs anything after it, nor the other way round.
        whole: nothing hints at damage, hidden packets or a start in mid-stream.
        pixel_format: of the decoded frames, by FFmpeg's name.
        coded_size: width and height before rotation.
        turn: how the pictures are turned for showing.
        num_streams: video streams in the file.
        broken: stamp of a last packet that the break cut through.
        loss: what the file says it had and has not, in words; None if all is there.
    """

    info: VideoInfo
    stamps: npt.NDArray[np.int64]
    seconds: npt.NDArray[np.float64]
    end: float
    clock: float
    keys: npt.NDArray[np.int64]
    counted: bool
    closed: bool
    whole: bool
    pixel_format: str
    coded_size: tuple[int, int]
    turn: Turn
    num_streams: int
    broken: int | None
    loss: str | None

    def key_before(self, number: int) -> int:
        """The last frame, not after this one, at which decoding can start; 0 if in doubt."""
        place = int(np.searchsorted(self.keys, number, side="right")) - 1
        return int(self.keys[place]) if place >= 0 and not self.counted else 0

    def at(self, stamp: int) -> float:
        """Seconds on the timeline of a stamp of the container's."""
        return float(self.seconds[0]) + (stamp - int(self.stamps[0])) * self.clock


def scan(path: str | Path) -> FrameIndex:
    """Read all packets of a file.

    Raises:
        VideoError: the file cannot be read as a video.
    """
    path = Path(path)
    with open_video(path) as (container, stream):
        stream.codec_context.thread_count = 1
        frame = first_frame(path, container, stream)
    with open_video(path) as (container, stream):
        found = list(packets(container, stream))
        return _index(path, container, stream, frame, [packet for packet in found if packet.size])


def recount(index: FrameIndex, stamps: list[int]) -> FrameIndex:
    """The index for the stamps that a decoder gave to its frames, where the packets' misled."""
    unique = np.unique(np.asarray(stamps, dtype=np.int64))
    return replace(
        index,
        info=replace(index.info, num_frames=len(unique)),
        stamps=unique,
        seconds=np.asarray([index.at(stamp) for stamp in unique.tolist()], dtype=np.float64),
        keys=np.zeros(1, dtype=np.int64),
        counted=len(unique) == len(stamps),
        closed=False,
        whole=False,
    )


def _index(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    frame: av.VideoFrame,
    found: "list[Packet[VideoStream]]",
) -> FrameIndex:
    torn, broken = _break(path, container, stream, found)
    kept = [p for p in found if not p.is_discard and (broken is None or p is not found[-1])]
    order = _stamps(path, kept)
    clock = stream.time_base or Fraction(1)
    counted = container.format.name == "avi" and bool(stream.codec_context.has_b_frames)
    stamps, first_of = np.unique(order, return_index=True)
    origin = Fraction(int(stamps[0])) * clock
    if not counted:
        origin = min([origin, *_sound_starts(container)])
    seconds = (stamps * float(clock) - float(origin)).astype(np.float64)
    end = float(seconds[-1]) + _last_interval(kept, first_of, seconds, clock)
    is_key = np.asarray([packet.is_keyframe for packet in kept])
    info = describe(path, container, stream, frame, end, len(stamps))
    info = replace(info, fps=len(stamps) / (end - float(seconds[0])))
    return FrameIndex(
        info=info,
        stamps=stamps,
        seconds=seconds,
        end=end,
        clock=float(clock),
        keys=np.searchsorted(stamps, np.unique(order[is_key])),
        counted=counted,
        closed=not _has_leading(order, is_key) and info.codec != "hevc",
        whole=bool(is_key[0])
        and len(stamps) == len(found)
        and not (torn or any(packet.is_corrupt for packet in found)),
        pixel_format=frame.format.name,
        coded_size=(frame.width, frame.height),
        turn=turn_of(frame),
        num_streams=len(container.streams.video),
        broken=broken,
        loss=_loss(end, _claim(container, stream, found, origin), info.fps, torn=torn),
    )


def _stamps(path: Path, kept: "list[Packet[VideoStream]]") -> npt.NDArray[np.int64]:
    """The packets' time stamps, in the order of decoding."""
    stamps = [packet.pts if packet.pts is not None else packet.dts for packet in kept]
    if not stamps or None in stamps:
        raise VideoError(f"{path}: its frames carry no time stamps: remux it, to Matroska say")
    return np.asarray(stamps, dtype=np.int64)


def _break(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    found: "list[Packet[VideoStream]]",
) -> tuple[bool, int | None]:
    """Whether the file ends inside its last packet, and that one's stamp if it is of no use."""
    if container.format.name != "mpegts":
        torn = len(found) > 1 and found[-1].is_corrupt
        return torn, found[-1].pts if torn else None
    with path.open("rb") as file:
        head = file.read(189)
    # a transport stream is a row of packets of 188 bytes, each beginning with 0x47
    torn = head[:1] == head[188:] == b"G" and container.size % 188 != 0
    # the rest of the frame may be there: the decoder tells, but for HEVC's
    return torn, found[-1].pts if torn and stream.codec_context.name == "hevc" else None


def _sound_starts(container: InputContainer) -> list[Fraction]:
    """Seconds at which sound starts: players count from there if it is before the picture.

    Never negative: encoders let sound start some milliseconds early, and players drop those.
    """
    return [
        max(Fraction(0), stream.start_time * stream.time_base)
        for stream in container.streams.audio
        if stream.start_time is not None and stream.time_base is not None
    ]


def _last_interval(
    kept: "list[Packet[VideoStream]]",
    first_of: npt.NDArray[np.int64],
    seconds: npt.NDArray[np.float64],
    clock: Fraction,
) -> float:
    """How long the last frame stays: its packet's word, else the usual interval, else 1/25 s."""
    duration = kept[int(first_of[-1])].duration
    if duration:
        return float(duration * clock)
    return float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.04


def _has_leading(order: npt.NDArray[np.int64], is_key: npt.NDArray[np.bool_]) -> bool:
    """Whether a packet after a key frame is shown before it (an open group of pictures)."""
    later = np.minimum.accumulate(order[::-1])[::-1]  # least stamp from here on
    return bool(np.any(is_key & (later < order)))


def _claim(
    container: InputContainer,
    stream: VideoStream,
    found: "list[Packet[VideoStream]]",
    origin: Fraction,
) -> float | None:
    """Until when the header says that the picture lasts; None where it proves nothing."""
    claimed = claimed_seconds(container, stream)
    if container.format.name.startswith("mov") and stream.frames:
        # the header counts packets
        return None if len(found) >= stream.frames and not found[-1].is_corrupt else claimed
    # the container's own length is that of its longest stream: a lone one is meant
    alone = len(container.streams) == 1
    if claimed is None or not (
        container.format.name == "avi" or "DURATION" in stream.metadata or alone
    ):
        return None
    # MP4 and AVI say how long, the others until when
    says_how_long = container.format.name.startswith(("mov", "avi"))
    return claimed if says_how_long else claimed - float(origin)


def _loss(end: float, claimed: float | None, fps: float, *, torn: bool) -> str | None:
    if claimed is not None and claimed - end >= (0.5 if torn else 1.5) / fps:
        lost = claimed - end
        return (
            f"breaks off after {end:.2f} s of {claimed:.2f} s: "
            f"the last {lost:.2f} s (about {round(lost * fps)} frames) are lost"
        )
    if torn:
        return f"breaks off at {end:.2f} s, inside a frame: it does not say how much is lost"
    return None
