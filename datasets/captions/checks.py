"""Sentences and times as files have them, made usable; whatever is wrong is noted, not dropped."""

import logging
import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from vidmamba.datasets.captions.files import to_seconds
from vidmamba.datasets.captions.records import (
    AnnotatedVideos,
    CaptionedVideo,
    CaptionIssue,
    CaptionIssues,
    Part,
    counted,
    file_name,
)
from vidmamba.timeline import Caption
from vidmamba.timeline.records import TOLERANCE

logger = logging.getLogger(__name__)

_HALF = re.compile("[\ud800-\udfff]")


class Inspector:
    """Takes the entries of one file, one video at a time, and keeps videos and issues.

    White space around and between words becomes single spaces; nothing else of a text changes.
    """

    def __init__(self, path: Path | str) -> None:
        self.file = file_name(path)
        self.videos: list[CaptionedVideo] = []
        self.issues: list[CaptionIssue] = []

    def note(self, kind: str, entry: str, detail: str) -> None:
        """Keep an issue."""
        self.issues.append(CaptionIssue(kind=kind, file=self.file, entry=entry, detail=detail))

    def add_dense(
        self,
        name: str,
        duration: float | int,
        spans: Sequence[Any],
        sentences: Sequence[Any],
        *,
        split: Part | None = None,
        category: str | None = None,
    ) -> None:
        """Take a video of timed sentences.

        Args:
            name: of the video.
            duration: of the video, in seconds.
            spans: [start, end] of each sentence, in seconds.
            sentences: their texts.
            split: the part that the video is in.
            category: of the video.

        Raises:
            ValueError: a value is of a wrong type, or not every sentence has its times.
        """
        where = f"{self.file}, {name}"
        length = to_seconds(duration, f"{where}: duration")
        if length <= 0:
            raise ValueError(f"{where}: duration must be above 0 s, got {length}")
        if len(spans) != len(sentences):
            raise ValueError(f"{where}: {len(spans)} timestamps for {len(sentences)} sentences")
        captions = []
        for number, (span, sentence) in enumerate(zip(spans, sentences, strict=True), 1):
            entry = f"{name}, sentence {number}"
            text = self._text(entry, sentence)
            if not isinstance(span, list | tuple) or len(span) != 2:
                raise ValueError(f"{self.file}, {entry}: expected [start, end], got {span!r}")
            start, end = (to_seconds(time, f"{self.file}, {entry}") for time in span)
            inside = self._inside(entry, start, end, length)
            if text is not None and inside is not None:
                captions.append(Caption(start=inside[0], end=inside[1], text=text))
        if not captions:
            self.note(
                "no captions", name, f"{counted(len(sentences), 'sentence')}, none to be used"
            )
            return
        self.videos.append(
            CaptionedVideo(
                name=name,
                duration=length,
                captions=self._in_order(name, captions),
                split=split,
                category=category,
                source=self.file,
            )
        )

    def add_clip(
        self,
        name: str,
        sentences: Sequence[Any],
        *,
        duration: float | int | None = None,
        split: Part | None = None,
        category: str | None = None,
    ) -> None:
        """Take a clip with sentences for all of it; duration in seconds.

        Raises:
            ValueError: a value is of a wrong type, or the duration is not above 0.
        """
        texts = [
            self._text(f"{name}, sentence {number}", sentence)
            for number, sentence in enumerate(sentences, 1)
        ]
        references = tuple(text for text in texts if text is not None)
        if not references:
            self.note(
                "no captions", name, f"{counted(len(sentences), 'sentence')}, none to be used"
            )
            return
        if duration is not None and not to_seconds(duration, f"{self.file}, {name}") > 0:
            raise ValueError(f"{self.file}, {name}: must last more than 0 s, got {duration}")
        self.videos.append(
            CaptionedVideo(
                name=name,
                duration=None if duration is None else float(duration),
                references=references,
                split=split,
                category=category,
                source=self.file,
            )
        )

    def result(self) -> AnnotatedVideos:
        """Return the videos and the issues; a line in the log says how many are left out.

        Raises:
            ValueError: no video is left, or one stands twice in the file.
        """
        issues = CaptionIssues(tuple(self.issues))
        if not self.videos:
            first = f"; first: {self.issues[0]}" if self.issues else ""
            raise ValueError(f"{self.file} has no video with a usable caption{first}")
        if issues.left_out:
            counts = ", ".join(f"{count} {kind}" for kind, count in issues.counts.items())
            logger.warning("%s: %s; its issues have a line each", self.file, counts)
        return AnnotatedVideos(videos=tuple(self.videos), issues=issues)

    def _text(self, entry: str, sentence: Any) -> str | None:
        if not isinstance(sentence, str):
            raise ValueError(f"{self.file}, {entry}: expected a text, got {sentence!r}")
        text = " ".join(sentence.split())
        # JSON's escapes can spell half a character, which no file or tokenizer can hold
        whole = _HALF.sub("\ufffd", text)
        if whole != text:
            self.note("broken characters", entry, f"half characters in {whole!r}")
        if not has_words(whole):
            self.note("no words", entry, f"{whole!r} has no words")
            return None
        return whole

    def _inside(
        self, entry: str, start: float, end: float, duration: float
    ) -> tuple[float, float] | None:
        """Return the part of a span that lies in the video, or None if there is none."""
        span = f"[{start}, {end}) s"
        if start >= end:
            self.note("no span", entry, f"{span} starts at its end or after it")
            return None
        if start >= duration or end <= 0:
            self.note("outside", entry, f"{span} is outside of a video of {duration} s")
            return None
        if end > duration + TOLERANCE:
            over = end - duration
            self.note("past the end", entry, f"{span} ends {over:.6g} s after a video's {duration}")
        if start < 0:
            self.note("before the start", entry, f"{span} starts before 0")
        return max(start, 0.0), min(end, duration)

    def _in_order(self, name: str, captions: list[Caption]) -> tuple[Caption, ...]:
        # stable: of two that start together, the file's first stays first
        ordered = sorted(captions, key=lambda caption: caption.start)
        for before, after in pairwise(captions):
            if after.start < before.start:
                times = f"a caption from {after.start} s follows one from {before.start} s"
                self.note("unsorted", name, times)
                break
        spans = {(caption.start, caption.end) for caption in ordered}
        if len(spans) < len(ordered):
            shared = len(ordered) - len(spans)
            self.note("same span", name, f"{counted(shared, 'caption')} with the times of another")
        latest = ordered[0].end
        overlapping = 0
        for caption in ordered[1:]:
            overlapping += caption.start < latest
            latest = max(latest, caption.end)
        if overlapping:
            count = f"{overlapping} of {len(ordered)} captions with a start before another's end"
            self.note("overlapping", name, count)
        return tuple(ordered)


def has_words(text: str) -> bool:
    """Whether a text holds a letter of any script, a digit or an emoji."""
    kinds = ((unicodedata.category(sign), sign) for sign in text)
    return any(kind[0] in "LN" or (kind == "So" and sign != "\ufffd") for kind, sign in kinds)
