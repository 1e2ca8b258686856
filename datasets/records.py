"""What every data set is read into: videos with frame features and frame labels, in named parts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64, Int

from vidmamba.datasets.feature_file import FeatureFile
from vidmamba.timeline import Caption

UNLABELLED = -1
"""The label of a frame that nobody labelled: it is neither trained on nor scored."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoItem:
    """One video: a feature vector, a label and a time (seconds) for each of its T frames.

    `video_labels` are classes of the whole video, `captions` sentences about parts of it. A video
    whose frames nobody labelled has the label UNLABELLED in all of them.

    A protocol may score other frames than the model sees (MS-TCN's data at half rate is scored at
    the full one): then `scored_labels` holds the labels it scores, and `scored_frames` the index of
    the item's frame that answers for each of them. Without the two, every labelled frame is scored.

    `shifted` are the same video with other of its stored frames, where a stride takes some: each
    time that training sees the video, it sees the item or one of these.

    Raises:
        ValueError: features, labels, timestamps, or the two fields of the protocol, do not match.
    """

    name: str
    features: Float[np.ndarray, "T D"] | FeatureFile
    labels: Int[np.ndarray, " T"]
    timestamps: Float64[np.ndarray, " T"]
    media: Path | None = None
    scored_frames: Int[np.ndarray, " S"] | None = None
    scored_labels: Int[np.ndarray, " S"] | None = None
    video_labels: tuple[int, ...] = ()
    captions: tuple[Caption, ...] = ()
    shifted: tuple["VideoItem", ...] = ()

    def __post_init__(self) -> None:
        lengths = len(self.features), len(self.labels), len(self.timestamps)
        if len(set(lengths)) > 1 or lengths[0] == 0:
            raise ValueError(
                f"{self.name}: features, labels and timestamps must cover the same frames, one or "
                f"more, got {lengths[0]}, {lengths[1]}, {lengths[2]}"
            )
        if (self.scored_frames is None) != (self.scored_labels is None):
            raise ValueError(f"{self.name}: scored_frames and scored_labels go together")
        if self.scored_frames is not None and self.scored_labels is not None:
            if len(self.scored_frames) != len(self.scored_labels):
                got = f"{len(self.scored_frames)}, {len(self.scored_labels)}"
                raise ValueError(f"{self.name}: one scored label a scored frame, got {got}")
            if self.scored_frames.min() < 0 or self.scored_frames.max() >= len(self.labels):
                got = f"{self.scored_frames.min()} to {self.scored_frames.max()}"
                raise ValueError(f"{self.name}: {len(self.labels)} frames, but scored are {got}")

    @property
    def num_frames(self) -> int:
        """How many frames the model sees."""
        return len(self.labels)

    @property
    def views(self) -> tuple["VideoItem", ...]:
        """The item itself and those that training may see in its place."""
        return self, *self.shifted

    def read_features(self) -> Float32[np.ndarray, "T D"]:
        """Return the features in memory, read from their file if they live in one.

        Raises:
            ValueError: a frame's are not finite, which would spoil all that is trained on them.
        """
        features = np.ascontiguousarray(np.asarray(self.features), dtype=np.float32)
        if not np.isfinite(features).all():
            bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
            where = self.features.path if isinstance(self.features, FeatureFile) else self.name
            raise ValueError(
                f"{where}: features of {len(bad)} of {len(features)} frames are not finite, first "
                f"of frame {bad[0]}; make them anew, or leave the video out"
            )
        return features

    def scored(
        self, predicted: Int[np.ndarray, " T"], *, stride: int = 1
    ) -> tuple[Int[np.ndarray, " R"], Int[np.ndarray, " R"]]:
        """Return predicted and true labels at every `stride`-th frame that the protocol scores.

        Raises:
            ValueError: there is not one predicted label a frame.
        """
        if len(predicted) != self.num_frames:
            got = f"{len(predicted)} predicted labels for {self.num_frames} frames"
            raise ValueError(f"{self.name}: {got}")
        true = self.labels
        if self.scored_frames is not None and self.scored_labels is not None:
            predicted, true = predicted[self.scored_frames], self.scored_labels
        predicted, true = predicted[::stride], true[::stride]
        labelled = true != UNLABELLED
        return predicted[labelled], true[labelled]


@dataclass(frozen=True, kw_only=True)
class LabelledSet:
    """A data set's videos in three parts, and what is known of their labels and features.

    Args:
        class_names: the name of label 0, 1, ...
        background: labels that Edit and F1 leave out.
        train, validation, test: `validation` is cut from the training videos, never from `test`.
        feature_key: what the features are, JSON-able; a checkpoint carries it.
        memory_classes: labels that one frame cannot tell apart; empty where nobody marked them.
        evaluation_stride: the `stride` for `VideoItem.scored` that the set's protocol asks for.
        video_class_names: the names of the classes of whole videos; empty where there are none.
        multi_label: a video may belong to any number of those classes, else to exactly one.

    Raises:
        ValueError: a label, of a frame or of a video, that no class has, or not one video label
            where there must be one.
    """

    class_names: tuple[str, ...]
    background: tuple[int, ...]
    train: tuple[VideoItem, ...]
    validation: tuple[VideoItem, ...]
    test: tuple[VideoItem, ...]
    feature_key: dict[str, Any]
    memory_classes: tuple[int, ...] = ()
    evaluation_stride: int = 1
    video_class_names: tuple[str, ...] = ()
    multi_label: bool = False

    def __post_init__(self) -> None:
        named = range(len(self.class_names))
        for field in ("background", "memory_classes"):
            if unknown := [label for label in getattr(self, field) if label not in named]:
                raise ValueError(f"{field} {unknown}: there are {len(named)} classes")
        videos = (*self.train, *self.validation, *self.test)
        for item in (view for video in videos for view in video.views):
            if item.labels.min() < UNLABELLED or item.labels.max() >= len(named):
                got = f"{item.labels.min()} to {item.labels.max()}"
                raise ValueError(f"{item.name}: {len(named)} classes, but labels from {got}")
            self._check_video_labels(item)

    def _check_video_labels(self, item: VideoItem) -> None:
        named, labels = range(len(self.video_class_names)), item.video_labels
        if len(set(labels)) < len(labels) or any(label not in named for label in labels):
            raise ValueError(
                f"{item.name}: {len(named)} video classes, each named once, but video labels "
                f"{[*labels]}"
            )
        if named and not self.multi_label and len(labels) != 1:
            raise ValueError(
                f"{item.name}: one video label a video, got {[*labels]}; more, or none, need "
                "multi_label"
            )
