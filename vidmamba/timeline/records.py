"""Segment, Caption, Timeline: seconds, half-open, sorted, and refused where they are not."""

from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

# seconds: containers count time in ticks, and sums of ticks differ in the last bits
TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One action: half-open [start, end), in seconds."""

    start: float
    end: float
    label: str
    score: float = 1.0

    def __post_init__(self) -> None:
        _check_span("segment", self.label, self.start, self.end, self.score)


@dataclass(frozen=True, kw_only=True)
class Caption:
    """One sentence about [start, end), in seconds."""

    start: float
    end: float
    text: str
    score: float = 1.0

    def __post_init__(self) -> None:
        _check_span("caption", self.text, self.start, self.end, self.score)


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """All that is known of one video, sorted by time; captions may overlap, segments may not.

    Raises ValueError, naming the values, for spans that are out of order, overlap or pass the end.
    """

    video: str
    duration: float
    fps: float
    segments: tuple[Segment, ...]
    captions: tuple[Caption, ...] = ()

    def __post_init__(self) -> None:
        if not (isfinite(self.duration) and self.duration >= 0):
            raise ValueError(f"duration must be a number of seconds >= 0, got {self.duration}")
        if not (isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps must be a number of frames a second > 0, got {self.fps}")
        for before, after in pairwise(self.segments):
            if after.start < before.end - TOLERANCE:
                raise ValueError(
                    f"segments must be sorted and must not overlap: {_name(before.label, before)} "
                    f"stands before {_name(after.label, after)}"
                )
        for earlier, later in pairwise(self.captions):
            if later.start < earlier.start:
                raise ValueError(
                    f"captions must be sorted by start: {_name(earlier.text, earlier)} "
                    f"stands before {_name(later.text, later)}"
                )
        for segment in self.segments:
            self._check_end(segment.label, segment)
        for caption in self.captions:
            self._check_end(caption.text, caption)

    def _check_end(self, text: str, span: Segment | Caption) -> None:
        if span.end > self.duration + TOLERANCE:
            raise ValueError(f"{_name(text, span)} ends after the video's {self.duration} s")


def _name(text: str, span: Segment | Caption) -> str:
    return f"{text!r} [{span.start}, {span.end})"


def _check_span(kind: str, text: str, start: float, end: float, score: float) -> None:
    if not (isfinite(start) and isfinite(end) and 0 <= start < end):
        raise ValueError(f"{kind} {text!r} needs 0 <= start < end, got [{start}, {end})")
    if not isfinite(score):
        raise ValueError(f"{kind} {text!r} [{start}, {end}) needs a finite score, got {score}")
