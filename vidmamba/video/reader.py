"""Read a video: frames at a rate, or on screen at given times, with their true time stamps."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from vidmamba.video import decord_decoder
from vidmamba.video.decord_decoder import DecordDecoder
from vidmamba.video.errors import DecoderFailed, VideoError
from vidmamba.video.index import Shown, recount, scan
from vidmamba.video.pyav_decoder import Losses, PyavDecoder, decoded_stamps
from vidmamba.video.source import VideoInfo, probe

__all__ = ["Frames", "VideoError", "VideoInfo", "VideoReader", "probe"]

Decoder = Literal["auto", "decord", "pyav"]


class Frames(NamedTuple):
    """Some frames of a video.

    Attributes:
        pixels: uint8 RGB [T, H, W, 3].
        timestamps: float64 [T], seconds at which each frame appears on the video's timeline.
    """

    pixels: npt.NDArray[np.uint8]
    timestamps: npt.NDArray[np.float64]


class VideoReader:
    """Frames of one file.

    Time is seconds from where a player starts, as a browser's `currentTime`: the container's own
    time stamps less the first frame's (or the sound's, if that starts earlier). A frame is on
    screen from its own time stamp until the next one's; the last one for its own duration.

    Pictures are turned as the file's rotation says; `size` is width and height after that. The
    shape of pixels (sample aspect ratio) is not applied.

    A reader is not to be shared by threads; opening another is cheap.

    Args:
        path: the file.
        decoder: "auto" takes decord where it is known to be right, and PyAV for other files and
            from the frame on at which decord fails; "pyav" and "decord" are only themselves, and
            "decord" may be wrong then.
        size: width and height to scale to; None leaves them.

    Attributes:
        info: the file; its duration and frames are those that are there, whatever the header says.

    Raises:
        VideoError: the file cannot be read as a video; or decord is asked for and fails.
        ValueError: a size that is not positive.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        decoder: Decoder = "auto",
        size: tuple[int, int] | None = None,
    ) -> None:
        if decoder not in ("auto", "decord", "pyav"):
            raise ValueError(f"decoder must be auto, decord or pyav, got {decoder!r}")
        if size is not None and min(size) < 1:
            raise ValueError(f"size must be positive, got {size}")
        if decoder == "decord" and not decord_decoder.installed():
            raise VideoError(f"{path}: decord is not installed: pip install decord2, or use auto")
        self.decoder = decoder
        self.size = size
        self._index = scan(path)
        self._losses = Losses()
        self._idle: DecordDecoder | None = None  # a process that waits for the next call
        self._distrusted = False  # decord has failed on this file
        self._careful = False  # PyAV has met an error
        self._recounted = False

    @property
    def info(self) -> VideoInfo:
        """The file, with the duration and the number of frames that it really has."""
        return self._index.info

    @property
    def damage(self) -> str | None:
        """What is lost, in words; None if nothing is, as far as the file has been read."""
        return "; ".join(filter(None, (self._index.loss, str(self._losses)))) or None

    def at_rate(self, fps: float | int | None = None, *, batch: int = 64) -> Iterator[Frames]:
        """All frames, or one for each tick of a clock, in batches.

        Tick k is at `t + k / fps`, where t is when the first frame appears, for as long as the
        last frame stays. A tick gets the frame that is on screen then, with that frame's own time
        stamp: never later than the tick (but for the rounding of the container's clock: Matroska's
        milliseconds do not split a rate), and the same frame twice if it stays for two ticks.

        Args:
            fps: ticks a second; None for every frame, once.
            batch: frames in each `Frames`; the last one may have fewer.

        Raises:
            ValueError: a rate or batch that is not positive.
        """
        if batch < 1 or (fps is not None and not 0 < fps < float("inf")):
            raise ValueError(f"fps and batch must be positive, got {fps} and {batch}")
        return self._batches(None if fps is None else self._ticks(fps), batch)

    def at_times(self, times: Sequence[float | int] | npt.NDArray[np.float64]) -> Frames:
        """The frames on screen at these seconds, in this order; the first one also before it.

        Raises:
            ValueError: a time that is negative, not finite, or past the video's end.
            VideoError: the file is damaged there.
        """
        seconds = np.asarray(times, dtype=np.float64).reshape(-1)
        end = self._index.end
        for second in seconds[~((seconds >= 0) & (seconds <= end + 1e-6))]:
            if self.damage and second > end:
                raise VideoError(f"{self.info.path}: no frame at {second} s: it {self.damage}")
            raise ValueError(f"{self.info.path}: no frame at {second} s of {end} s")
        pixels = self._room(len(seconds))
        timestamps = np.full(len(seconds), np.nan)
        order = np.argsort(seconds, kind="stable")
        for places, shown in self._shown(seconds[order]):
            pixels[order[places]] = shown.pixels
            timestamps[order[places]] = self._index.seconds[shown.number]
        for second in seconds[np.isnan(timestamps)]:
            raise VideoError(f"{self.info.path}: no frame at {second} s: {self.damage}")
        return Frames(pixels, timestamps)

    def close(self) -> None:
        """Let go of the process that decodes, if one waits."""
        if self._idle is not None:
            self._idle.close()
        self._idle = None

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_idle"):  # __init__ came through
            self.close()

    def _ticks(self, fps: float | int) -> npt.NDArray[np.float64]:
        start = self._index.seconds[0]
        # a last tick within a thousandth of one of the end is rounding's, not the video's
        count = max(1, int(np.ceil((self._index.end - start) * fps - 1e-3)))
        return np.asarray(start + np.arange(count) / fps, dtype=np.float64)

    def _on_screen(self, seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """The number of the last frame that has appeared; the first one before all."""
        clock = self._index.clock
        # a fine clock rounds: 1/30 s is 0.033 in Matroska; a coarse one (AVI's) is the rate itself
        rounding = clock / 2 if clock <= 2e-3 else 1e-9
        places = np.searchsorted(self._index.seconds, seconds + rounding, side="right") - 1
        return np.maximum(places, 0).astype(np.int64)

    def _room(self, count: int) -> npt.NDArray[np.uint8]:
        width, height = self.size or (self.info.width, self.info.height)
        return np.empty((count, height, width, 3), dtype=np.uint8)

    def _batches(self, ticks: npt.NDArray[np.float64] | None, batch: int) -> Iterator[Frames]:
        pixels, timestamps = self._room(batch), np.empty(batch)
        filled = 0
        for places, shown in self._shown(ticks):
            for _ in range(places.start, places.stop):
                pixels[filled] = shown.pixels
                timestamps[filled] = self._index.seconds[shown.number]
                filled += 1
                if filled == batch:
                    yield Frames(pixels, timestamps)
                    pixels, timestamps = self._room(batch), np.empty(batch)
                    filled = 0
        if filled:
            yield Frames(pixels[:filled], timestamps[:filled])

    def _shown(self, ticks: npt.NDArray[np.float64] | None) -> Iterator[tuple[slice, Shown]]:
        """What is on screen at increasing ticks (None: each frame once), and at which of them.

        Where a decoder fails, the next one goes on from there.
        """
        done, last = 0, -np.inf
        while True:
            at = self._index.seconds if ticks is None else ticks
            if ticks is None:
                done = int(np.searchsorted(at, last, side="right"))
            numbers = self._on_screen(at)
            try:
                for shown in self._decode(np.unique(numbers[done:])):
                    until = int(np.searchsorted(numbers, shown.asked, side="right"))
                    places = slice(max(done, int(np.searchsorted(numbers, shown.asked))), until)
                    done, last = until, float(self._index.seconds[shown.asked])
                    if ticks is not None or shown.number == shown.asked:
                        yield places, shown
                return
            except DecoderFailed as failure:
                self._step_down(failure)

    def _decode(self, wanted: npt.NDArray[np.int64]) -> Iterator[Shown]:
        if not len(wanted):
            return
        if not self._uses_decord():
            losses = self._losses if self._careful else None
            yield from PyavDecoder(self._index, size=self.size, losses=losses).frames(wanted)
            return
        idle, self._idle = self._idle, None
        if idle is None or not idle.is_ours:
            idle = DecordDecoder(self._index, size=self.size)
        finished = False
        try:
            yield from idle.frames(wanted)
            finished = self._idle is None
        finally:
            if finished:
                self._idle = idle
            else:
                idle.close()

    def _uses_decord(self) -> bool:
        if self.decoder == "auto":
            right = decord_decoder.is_right_for(self._index)
            return right and not self._distrusted and decord_decoder.installed()
        return self.decoder == "decord"

    def _step_down(self, failure: DecoderFailed) -> None:
        """After a failure, choose what goes on: decord, PyAV on threads, PyAV with care."""
        if self._uses_decord():
            if self.decoder == "decord":
                reason = f"{failure}: use auto or pyav"
                raise VideoError(f"{self.info.path}: decord fails: {reason}") from failure
            self._distrusted = True
        elif not failure.stamps_differ:
            self._careful = True
        elif self._recounted:
            raise VideoError(f"{self.info.path}: {failure}: remux it, to Matroska say") from failure
        else:
            self._recounted = True
            self._index = recount(self._index, decoded_stamps(self._index))
