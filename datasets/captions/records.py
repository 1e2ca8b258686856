"""What caption files are read into: videos with their sentences, and all that was wrong there."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Literal

from vidmamba.timeline import Caption
from vidmamba.timeline.records import TOLERANCE

Part = Literal["train", "validation", "test"]

OUTCOMES = {
    "no words": "left out",
    "no span": "left out",
    "outside": "left out",
    "other language": "left out",
    "unknown video": "left out",
    "no captions": "left out",
    "no features": "left out",
    "not annotated": "left out",
    "past the end": "cut at the end",
    "before the start": "cut at 0",
    "unsorted": "sorted",
    "broken characters": "replaced by U+FFFD",
    "overlapping": "kept",
    "same span": "kept, as references of one event",
}
"""What becomes of a caption or a video, by what is wrong with it.

no words: nothing but spaces and punctuation; letters of any script, digits and emoji are words.
no span: a start that is not before its end. outside: the video is over before it starts.
unknown video: a sentence about a video that its file does not list. no captions: a video without a
sentence that can be used. no features, not annotated: of annotations and features one is missing.
"""


@dataclass(frozen=True, kw_only=True)
class CaptionIssue:
    """One thing that is wrong with one entry of one file."""

    kind: str
    """One of `OUTCOMES`."""
    file: str
    entry: str
    """The video, and the sentence where it is about one."""
    detail: str
    """The values, in words."""

    def __post_init__(self) -> None:
        if self.kind not in OUTCOMES:
            raise ValueError(f"an issue is one of {', '.join(OUTCOMES)}, got {self.kind!r}")

    def __str__(self) -> str:
        return f"{self.file}, {self.entry}: {self.detail}: {OUTCOMES[self.kind]} ({self.kind})"


@dataclass(frozen=True)
class CaptionIssues:
    """All that was wrong, in the order in which it was met; `str` of it is a report to print."""

    found: tuple[CaptionIssue, ...] = ()

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[CaptionIssue]:
        return iter(self.found)

    def __add__(self, other: "CaptionIssues") -> "CaptionIssues":
        return CaptionIssues(self.found + other.found)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each kind, in the order of `OUTCOMES`."""
        counted = Counter(issue.kind for issue in self.found)
        return {kind: counted[kind] for kind in OUTCOMES if counted[kind]}

    @property
    def left_out(self) -> tuple[CaptionIssue, ...]:
        """The issues that cost a caption or a video."""
        return tuple(issue for issue in self.found if OUTCOMES[issue.kind] == "left out")

    def of(self, kind: str) -> tuple[CaptionIssue, ...]:
        """Return the issues of one kind."""
        return tuple(issue for issue in self.found if issue.kind == kind)

    def lines(self, examples: int | None = None) -> list[str]:
        """Return a line for each kind with its number, then a line for each issue of it.

        Args:
            examples: show no more issues of a kind than this; None for all.
        """
        lines = []
        for kind, count in self.counts.items():
            shown = self.of(kind)[:examples]
            lines.append(f"{kind}: {count} {OUTCOMES[kind]}")
            lines += [f"  {issue}" for issue in shown]
            if count > len(shown):
                lines.append(f"  and {count - len(shown)} more")
        return lines


@dataclass(frozen=True, kw_only=True)
class CaptionedVideo:
    """A video, or clip, in words: either timed sentences, or several sentences for all of it.

    Raises:
        ValueError: there is no sentence, or both kinds; captions are not sorted or pass the end.
    """

    name: str
    duration: float | None
    """Seconds; None where the annotations do not tell."""
    captions: tuple[Caption, ...] = ()
    """Dense captions, sorted by start; they may overlap."""
    references: tuple[str, ...] = ()
    """Sentences by different people, each for the whole clip."""
    split: Part | None = None
    category: str | None = None
    source: str = ""
    """The file it was read from."""

    def __post_init__(self) -> None:
        if bool(self.captions) == bool(self.references):
            got = f"{len(self.captions)} and {len(self.references)}"
            raise ValueError(f"{self.name}: needs timed captions or references, got {got}")
        if self.duration is not None and not (isfinite(self.duration) and self.duration > 0):
            raise ValueError(f"{self.name}: duration must be above 0 s, got {self.duration}")
        for before, after in pairwise(self.captions):
            if after.start < before.start:
                got = f"{before.start} s before {after.start} s"
                raise ValueError(f"{self.name}: captions must be sorted by start, got {got}")
        for caption in self.captions:
            if self.duration is not None and caption.end > self.duration + TOLERANCE:
                got = f"{caption.text!r} ends at {caption.end} s"
                raise ValueError(f"{self.name} lasts {self.duration} s, but {got}")

    @property
    def sentences(self) -> tuple[str, ...]:
        """All its sentences, without their times."""
        return self.references or tuple(caption.text for caption in self.captions)

    def timed(self, duration: float) -> tuple[Caption, ...]:
        """Return its captions in time: each reference spans [0, duration), in seconds."""
        spanning = (Caption(start=0.0, end=duration, text=text) for text in self.references)
        return self.captions or tuple(spanning)


@dataclass(frozen=True, kw_only=True)
class AnnotatedVideos:
    """What was read from caption files: the videos, and the issues that were met on the way.

    Raises:
        ValueError: two videos have one name.
    """

    videos: tuple[CaptionedVideo, ...]
    issues: CaptionIssues = CaptionIssues()

    def __post_init__(self) -> None:
        first: dict[str, CaptionedVideo] = {}
        for video in self.videos:
            if video.name in first:
                files = " and ".join(sorted({first[video.name].source, video.source}))
                raise ValueError(f"{video.name} is annotated twice, in {files}")
            first[video.name] = video

    def __add__(self, other: "AnnotatedVideos") -> "AnnotatedVideos":
        return AnnotatedVideos(videos=self.videos + other.videos, issues=self.issues + other.issues)


def counted(number: int, what: str) -> str:
    """Return a number of things, in words."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def file_name(path: Path | str) -> str:
    """Return a path as issues and videos name it."""
    return Path(path).as_posix()
