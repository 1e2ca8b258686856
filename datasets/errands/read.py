"""Reading an errands data set back: typed records of what `generate_errands` wrote."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import Float64, Int

from vidmamba.datasets.errands.files import ANNOTATIONS, FORMAT
from vidmamba.datasets.errands.plan import Part
from vidmamba.timeline import Caption, Segment, Timeline

# the share of a frame by which a decoder's clock may run early
_EARLY = 0.05


@dataclass(frozen=True, kw_only=True)
class ErrandNote:
    """One errand in words, and the frames between which it has to be remembered."""

    person: str
    thing: str
    shelf: str
    outcome: str
    handled_frame: int
    """The first frame after the thing was seen for the last time."""
    leave_frame: int
    """The first frame of leaving."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ErrandsClip:
    """One clip and all that is known of it; times are in seconds."""

    name: str
    media: Path
    split: Part
    fps: float
    labels: Int[np.ndarray, " T"]
    """Of each frame, an index of the class names."""
    segments: tuple[Segment, ...]
    captions: tuple[Caption, ...]
    errands: tuple[ErrandNote, ...]

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.labels)

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.num_frames / self.fps

    @property
    def transcript(self) -> tuple[str, ...]:
        """The labels in their order, without times and background."""
        return tuple(s.label for s in self.segments if s.label != "background")

    @property
    def timeline(self) -> Timeline:
        """The truth, as a timeline."""
        return Timeline(
            video=self.media.name,
            duration=self.duration,
            fps=self.fps,
            segments=self.segments,
            captions=self.captions,
        )

    def labels_at(self, timestamps: Float64[np.ndarray, " S"]) -> Int[np.ndarray, " S"]:
        """Return the label of the frame that is on screen at each time, in seconds."""
        frames = np.floor(timestamps * self.fps + _EARLY).astype(np.int64)
        return self.labels[np.clip(frames, 0, self.num_frames - 1)]


@dataclass(frozen=True, kw_only=True)
class Errands:
    """A whole errands data set."""

    class_names: tuple[str, ...]
    memory_classes: tuple[str, ...]
    """Classes that one frame cannot tell apart."""
    clips: tuple[ErrandsClip, ...]

    def part(self, name: Part) -> tuple[ErrandsClip, ...]:
        """Return the clips of one part."""
        return tuple(clip for clip in self.clips if clip.split == name)


def read_errands(root: str | Path) -> Errands:
    """Read the annotations of a folder that `generate_errands` filled.

    Raises:
        ValueError: the folder is not whole, or its annotations are damaged; the message names the
            file and the clip.
    """
    path = Path(root) / ANNOTATIONS
    if not path.exists():
        raise ValueError(f"{path} is missing: generate the errands again, into the same folder")
    try:
        notes = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not UTF-8
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(notes, dict) or notes.get("format") != FORMAT:
        raise ValueError(f"{path} is not of the format {FORMAT}")
    try:
        class_names = tuple(notes["class_names"])
        memory_classes = tuple(notes["memory_classes"])
        videos = list(notes["videos"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} lacks or garbles a field: {error}") from error
    if unknown := set(memory_classes) - set(class_names):
        raise ValueError(f"{path}: memory classes {sorted(unknown)} are no classes")
    clips = []
    for number, note in enumerate(videos):
        try:
            clips.append(_read_clip(path, class_names, note))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}, video {number}: lacks or garbles {error}") from error
    return Errands(class_names=class_names, memory_classes=memory_classes, clips=tuple(clips))


def _read_clip(path: Path, class_names: tuple[str, ...], note: Mapping[str, Any]) -> ErrandsClip:
    media = path.parent / note["file"]
    where = f"{path}, {note['file']}"
    if not media.exists():
        raise ValueError(f"{where}: the video file is missing")
    if note["split"] not in get_args(Part):
        raise ValueError(f"{where}: split must be one of {get_args(Part)}, got {note['split']!r}")
    if not note["fps"] > 0:
        raise ValueError(f"{where}: fps must be positive, got {note['fps']}")
    labels = _read_labels(where, class_names, note["frame_labels"])
    if len(labels) != note["num_frames"]:
        raise ValueError(f"{where}: {note['num_frames']} frames, but {len(labels)} labels")
    segments = tuple(
        Segment(start=float(s["start"]), end=float(s["end"]), label=s["label"])
        for s in note["segments"]
    )
    for segment in segments:
        if segment.label not in class_names:
            raise ValueError(f"{where}: segment of unknown class {segment.label!r}")
    return ErrandsClip(
        name=media.stem,
        media=media,
        split=note["split"],
        fps=float(note["fps"]),
        labels=labels,
        segments=segments,
        captions=tuple(
            Caption(start=float(c["start"]), end=float(c["end"]), text=c["text"])
            for c in note["captions"]
        ),
        errands=tuple(ErrandNote(**errand) for errand in note["errands"]),
    )


def _read_labels(
    where: str, class_names: tuple[str, ...], stretches: Sequence[Sequence[Any]]
) -> Int[np.ndarray, " T"]:
    """Decode [class, frames] stretches into a label a frame."""
    for name, frames in stretches:
        if name not in class_names or frames < 1:
            raise ValueError(f"{where}: no stretch of {frames} frames of class {name!r} can be")
    labels = [class_names.index(name) for name, _ in stretches]
    return np.repeat(np.array(labels, dtype=np.int64), [frames for _, frames in stretches])
