"""Frames by PyAV: right for every file, and as far as a damaged one goes."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.stream import VideoStream

from vidmamba.video.errors import DecoderFailed
from vidmamba.video.index import FrameIndex, Shown
from vidmamba.video.source import open_video, packets

# frames that decoding on may cost before a seek is tried: refilling the decoder costs about as many
_WORTH_A_SEEK = 16


@dataclass
class Losses:
    """What could not be decoded: seconds of the frames, as far as they are known."""

    seconds: set[float] = field(default_factory=set)

    def __str__(self) -> str:
        if not self.seconds:
            return ""
        first, last = min(self.seconds), max(self.seconds)
        where = f"at {first:.2f} s" if first == last else f"between {first:.2f} s and {last:.2f} s"
        frames = "1 frame" if len(self.seconds) == 1 else f"{len(self.seconds)} frames"
        return f"{frames} {where} could not be decoded; what follows may be blurred for a moment"


class PyavDecoder:
    """Decodes chosen frames of one file.

    Args:
        index: of the file.
        size: width and height to scale to, by bicubic interpolation; None leaves them.
        losses: None decodes fast, on several threads, and gives up at the first error; else one
            thread decodes what there is and adds to `losses` what is not.

    Raises:
        DecoderFailed: while iterating, at the first error, where `losses` is None; and whatever
            `losses` is, if the decoder's time stamps are not those of the index (`stamps_differ`).
    """

    def __init__(
        self, index: FrameIndex, *, size: tuple[int, int] | None, losses: Losses | None
    ) -> None:
        self.index = index
        self.losses = losses
        self._lost_since = False  # whether something was lost after the last good frame
        self._scaled = size is not None
        width, height = size or (index.info.width, index.info.height)
        self._target = (height, width) if index.turn.swaps else (width, height)

    def frames(self, wanted: npt.NDArray[np.int64]) -> Iterator[Shown]:
        """The frame on screen for each number, increasing.

        Where a frame is lost, the one before it stays on screen. Frames lost before the first or
        after the last good one are left out.
        """
        with open_video(self.index.info.path) as (container, stream):
            context = stream.codec_context
            context.thread_type = "NONE" if self.losses is not None else "AUTO"
            context.thread_count = 1 if self.losses is not None else 0
            fresh = True
            for start, run in self._runs(wanted):
                if start or not fresh:
                    yield from self._seek_and_read(container, stream, start, run)
                else:
                    yield from self._read(container, stream, 0, run, must_hit=False)
                fresh = False

    def _runs(self, wanted: npt.NDArray[np.int64]) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
        """Split where jumping to a key frame beats decoding on: (key frame, numbers)."""
        begin, reached = 0, 0
        start = 0
        for place, number in enumerate(wanted):
            key = self.index.key_before(int(number))
            if key > reached + _WORTH_A_SEEK:
                if place > begin:
                    yield start, wanted[begin:place]
                begin, start = place, key
            reached = int(number)
        yield start, wanted[begin:]

    def _seek_and_read(
        self,
        container: InputContainer,
        stream: VideoStream,
        start: int,
        run: npt.NDArray[np.int64],
    ) -> Iterator[Shown]:
        """Read from a key frame; from an earlier one where a container seeks too far."""
        while start > 0:
            stamp = int(self.index.stamps[start])
            container.seek(stamp, stream=stream, backward=True)
            found = self._read(container, stream, start, run, must_hit=True)
            first = next(found, None)
            if first is not None:
                yield first
                yield from found
                return
            start = self.index.key_before(start - 1)
        with open_video(self.index.info.path) as (again, its_stream):
            its_stream.codec_context.thread_type = stream.codec_context.thread_type
            its_stream.codec_context.thread_count = stream.codec_context.thread_count
            yield from self._read(again, its_stream, 0, run, must_hit=False)

    def _read(
        self,
        container: InputContainer,
        stream: VideoStream,
        start: int,
        run: npt.NDArray[np.int64],
        *,
        must_hit: bool,
    ) -> Iterator[Shown]:
        """Read on to the run's frames; `must_hit`: nothing at all unless the first is there."""
        place = 0
        on_screen: tuple[int, av.VideoFrame] | None = None
        for number, frame in self._decode(container, stream, start):
            if must_hit and place == 0 and on_screen is None and number > run[0]:
                return
            while place < len(run) and run[place] < number:
                if on_screen is not None:
                    yield Shown(int(run[place]), on_screen[0], self._pixels(on_screen[1]))
                place += 1
            on_screen = number, frame
            if place < len(run) and run[place] == number:
                yield Shown(number, number, self._pixels(frame))
                place += 1
            if place == len(run):
                return
        # a packet that holds no picture of its own is no loss: the frame before it stays
        if on_screen is not None and not self._lost_since:
            for asked in run[place:].tolist():
                yield Shown(asked, on_screen[0], self._pixels(on_screen[1]))

    def _decode(
        self, container: InputContainer, stream: VideoStream, start: int
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """Good frames with their numbers, from a seek's place on; those before `start` left out."""
        number = -1
        first = self.index.stamps[start]
        for packet in packets(container, stream):
            if packet.pts is not None and packet.pts == self.index.broken:
                continue
            try:
                decoded = packet.decode()
            except (av.FFmpegError, OSError) as error:
                if packet.pts is None or packet.pts >= first or self.index.counted:
                    self._lose(packet.pts, str(error))
                continue
            for frame in decoded:
                number = number + 1 if self.index.counted else self._number(frame.pts)
                if number < start:
                    continue
                if frame.is_corrupt:
                    self._lose(int(self.index.stamps[number]), "a damaged frame")
                else:
                    self._lost_since = False
                    yield number, frame

    def _number(self, stamp: int | None) -> int:
        """Which frame has this stamp; -1 for one before the first, as edit lists leave out."""
        stamps = self.index.stamps
        if stamp is not None and stamp < stamps[0]:
            return -1
        place = len(stamps) if stamp is None else int(np.searchsorted(stamps, stamp))
        if place == len(stamps) or stamps[place] != stamp:
            raise DecoderFailed(f"a frame with an unknown time stamp, {stamp}", stamps_differ=True)
        return place

    def _lose(self, stamp: int | None, reason: str) -> None:
        if self.losses is None:
            raise DecoderFailed(reason)
        self._lost_since = True
        if stamp is not None:
            self.losses.seconds.add(self.index.at(stamp))

    def _pixels(self, frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
        width, height = self._target
        # without scaling the default is what PyAV's own to_ndarray does; decord scales bicubically
        interpolation = "BICUBIC" if self._scaled else None
        picture = frame.reformat(width, height, format="rgb24", interpolation=interpolation)
        pixels = np.asarray(picture.to_ndarray(), dtype=np.uint8)
        return self.index.turn.apply(pixels)


def decoded_stamps(index: FrameIndex) -> list[int]:
    """The time stamps of all frames as the decoder gives them, in the order of showing."""
    stamps = []
    with open_video(index.info.path) as (container, stream):
        for packet in packets(container, stream):
            try:
                stamps += [frame.pts for frame in packet.decode() if frame.pts is not None]
            except (av.FFmpegError, OSError):
                continue
    return stamps
