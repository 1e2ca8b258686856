"""Errands with features: what a model trains on.

The classes of whole videos are the kinds of errand, by what becomes of the thing: `pocket`,
`put_back`, `put_on_table`. Memory decides them: the fifteen to twenty frames in which the thing is
dealt with are the only ones that tell, and the hundreds after them, the leaving included, are the
same pictures whatever the kind is. A clip of several errands has the kinds of them all, so that a
set with such clips is multi-label.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vidmamba.datasets.errands.plan import Part
from vidmamba.datasets.errands.read import ErrandsClip, read_errands
from vidmamba.datasets.errands.script import OUTCOMES
from vidmamba.datasets.records import LabelledSet, VideoItem

FeaturesOf = Callable[[Path], tuple[np.ndarray, np.ndarray]]
"""From a video file to its features [T, D] and timestamps [T] in seconds."""


def errands_set(
    root: str | Path, features_of: FeaturesOf, feature_key: dict[str, Any]
) -> LabelledSet:
    """Join an errands folder with stored features; each feature gets the label of its time.

    Args:
        root: the folder that `generate_errands` filled.
        features_of: called with each video file.
        feature_key: what the features are; it goes into checkpoints.

    Raises:
        ValueError: the folder is damaged, or a video's features do not match their timestamps.
    """
    errands = read_errands(root)

    def items(part: Part) -> tuple[VideoItem, ...]:
        found = []
        for clip in errands.part(part):
            features, timestamps = features_of(clip.media)
            found.append(
                VideoItem(
                    name=clip.name,
                    features=features,
                    labels=clip.labels_at(timestamps),
                    timestamps=timestamps,
                    media=clip.media,
                    video_labels=_kinds(clip),
                    captions=clip.captions,
                )
            )
        return tuple(found)

    return LabelledSet(
        class_names=errands.class_names,
        background=(errands.class_names.index("background"),),
        train=items("train"),
        validation=items("validation"),
        test=items("test"),
        feature_key=feature_key,
        memory_classes=tuple(errands.class_names.index(name) for name in errands.memory_classes),
        video_class_names=OUTCOMES,
        multi_label=any(len(clip.errands) > 1 for clip in errands.clips),
    )


def _kinds(clip: ErrandsClip) -> tuple[int, ...]:
    outcomes = {errand.outcome for errand in clip.errands}
    if unknown := sorted(outcomes - {*OUTCOMES}):
        raise ValueError(f"{clip.media}: an errand ends with one of {OUTCOMES}, got {unknown}")
    return tuple(label for label, outcome in enumerate(OUTCOMES) if outcome in outcomes)
