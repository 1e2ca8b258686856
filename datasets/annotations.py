"""What the files of a format say of videos, before their frames are known."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vidmamba.datasets.classes import Classes
from vidmamba.timeline import Segment

BACKGROUND = "background"
"""The class of what no segment covers, where a format leaves gaps."""


@dataclass(frozen=True, kw_only=True)
class AnnotatedVideo:
    """One video as annotated; its segments are sorted by start and may overlap."""

    name: str
    where: str
    """The file and line that name it."""
    files: tuple[str, ...]
    """Where it may lie, best first: a path in the folder of videos, with or without its suffix; a
    path of a name alone stands for a file at any depth."""
    subset: str | None = None
    """As the format calls it; None where it names none."""
    segments: tuple[Segment, ...] = ()
    video_labels: tuple[str, ...] = ()
    span: tuple[float, float] | None = None
    """The seconds, half-open, that are the video; None for all of the file."""


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """All videos of a data set, and the classes of their segments and of themselves."""

    videos: tuple[AnnotatedVideo, ...]
    class_names: tuple[str, ...] = ()
    video_class_names: tuple[str, ...] = ()


@dataclass(kw_only=True)
class _Draft:
    where: str
    files: tuple[str, ...]
    subset: str | None
    span: tuple[float, float] | None
    segments: list[Segment] = field(default_factory=list)
    video_labels: list[str] = field(default_factory=list)


class Collector:
    """Takes what a reader reads, line by line, and checks it; `where` is the file and the line.

    Args:
        classes: those of the segments; None for whatever the segments name.
        video_classes: those of whole videos; None for whatever the videos name.
    """

    def __init__(
        self, classes: Classes | None = None, *, video_classes: Classes | None = None
    ) -> None:
        self._classes, self._video_classes = classes, video_classes
        self._drafts: dict[str, _Draft] = {}

    def __contains__(self, video: str) -> bool:
        return video in self._drafts

    def add_video(
        self,
        video: str,
        where: str,
        *,
        files: Sequence[str] | None = None,
        subset: str | None = None,
        span: tuple[float, float] | None = None,
        labels: Iterable[str] = (),
    ) -> None:
        """Take a video, once.

        Raises:
            ValueError: its name is empty or was taken before, or its label is no class.
        """
        if not video:
            raise ValueError(f"{where}: the video has no name")
        if video in self._drafts:
            raise ValueError(f"{where}: {video} stands here again, after {self.where_of(video)}")
        draft = _Draft(where=where, files=tuple(files or (video,)), subset=subset, span=span)
        for label in labels:
            name = _class_name(label, self._video_classes, where)
            if name not in draft.video_labels:
                draft.video_labels.append(name)
        self._drafts[video] = draft

    def add_segment(self, video: str, start: float, end: float, label: str, where: str) -> None:
        """Take a segment, in seconds, of a video that was added.

        Raises:
            ValueError: it does not start at 0 or later and end after that, or is of no class.
        """
        if not (math.isfinite(start) and math.isfinite(end) and 0 <= start < end):
            raise ValueError(f"{where}: a segment needs 0 <= start < end, got {start:g} to {end:g}")
        name = _class_name(label, self._classes, where)
        self._drafts[video].segments.append(Segment(start=start, end=end, label=name))

    def where_of(self, video: str) -> str:
        """Return where a video was taken from."""
        return self._drafts[video].where

    def subset_of(self, video: str) -> str | None:
        """Return the subset that a video was added to."""
        return self._drafts[video].subset

    def finish(self, source: object) -> Annotations:
        """Return all that was taken.

        Args:
            source: the file or folder, for the error.

        Raises:
            ValueError: nothing was taken.
        """
        if not self._drafts:
            raise ValueError(f"{source} names no video")
        videos = tuple(
            AnnotatedVideo(
                name=name,
                where=draft.where,
                files=draft.files,
                subset=draft.subset,
                segments=tuple(sorted(draft.segments, key=lambda s: (s.start, -s.end))),
                video_labels=tuple(draft.video_labels),
                span=draft.span,
            )
            for name, draft in self._drafts.items()
        )
        names = _names(self._classes, (s.label for video in videos for s in video.segments))
        whole = _names(self._video_classes, (name for v in videos for name in v.video_labels))
        return Annotations(videos=videos, class_names=names, video_class_names=whole)


def _class_name(label: str, classes: Classes | None, where: str) -> str:
    label = label.strip()
    if not label:
        raise ValueError(f"{where}: the label is empty")
    return label if classes is None else classes.find(label, where)


def _names(classes: Classes | None, found: Iterable[str]) -> tuple[str, ...]:
    return classes.names if classes is not None else tuple(sorted(set(found)))
