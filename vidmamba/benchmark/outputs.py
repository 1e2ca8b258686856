"""The files that a run leaves: what it was, what it predicts for videos it did not train on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from vidmamba.evaluation import log_probabilities
from vidmamba.features.files import write_json, written_whole
from vidmamba.tasks.segmentation import FramePrediction


class FrameScores(NamedTuple):
    """What a decoder labels a video by."""

    log_probabilities: Float[np.ndarray, "T C"]
    """Of the classes."""

    boundaries: Float[np.ndarray, " T"] | None
    """Probabilities that a segment begins; None where the model does not say."""


class RunFiles:
    """A run's folder.

    run.json            settings, seconds, speed, device; written last: without it nothing counts
    predictions.npz     `<part>/<video>`: log-probabilities [T, C], float16; and where the model
                        says it, `boundaries/<part>/<video>`: that a segment begins [T], float16
    labels-<key>.npz    `<video>`: labels [T] by one decoding, made again where it is missing
    scores-<key>.json   by decoding, what it scores on one part; made again where it is missing
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def done(self) -> bool:
        """Whether the run came to its end."""
        return (self.folder / "run.json").is_file()

    def write(self, record: Mapping[str, Any], found: Mapping[str, FramePrediction]) -> None:
        """Store what is said of videos, by part/video, then the record."""
        stored = {}
        for name, frames in found.items():
            stored[name] = log_probabilities(frames.probabilities).astype(np.float16)
            if frames.boundaries is not None:
                stored[f"boundaries/{name}"] = frames.boundaries.astype(np.float16)
        write_arrays(self.folder / "predictions.npz", stored)
        write_json(self.folder / "run.json", record)

    def record(self) -> dict[str, Any]:
        """Return what `write` was told of the run."""
        record: dict[str, Any] = json.loads((self.folder / "run.json").read_text())
        return record

    def frames(self, part: str) -> dict[str, FrameScores]:
        """Return what is said of every video of a part."""
        with np.load(self.folder / "predictions.npz") as stored:
            found = {name: stored[name].astype(np.float32) for name in stored.files}
        return {
            name.removeprefix(f"{part}/"): FrameScores(array, found.get(f"boundaries/{name}"))
            for name, array in found.items()
            if name.startswith(f"{part}/")
        }

    def has_labels(self, key: str) -> bool:
        """Whether labels are stored under a key."""
        return self._labels(key).is_file()

    def write_labels(self, key: str, labels: Mapping[str, Int[np.ndarray, " T"]]) -> None:
        """Store each video's labels."""
        small = {name: array.astype(np.int16) for name, array in labels.items()}
        write_arrays(self._labels(key), small)

    def labels(self, key: str) -> dict[str, Int[np.ndarray, " T"]]:
        """Return each video's labels."""
        with np.load(self._labels(key)) as stored:
            return {name: stored[name].astype(np.int64) for name in stored.files}

    def scores(self, key: str) -> dict[str, dict[str, float]]:
        """Return the scores that are stored under a key; none where there are none."""
        path = self._scores(key)
        return dict(json.loads(path.read_text())) if path.is_file() else {}

    def write_scores(self, key: str, scores: Mapping[str, Mapping[str, float]]) -> None:
        """Store scores under a key."""
        write_json(self._scores(key), scores)

    def _scores(self, key: str) -> Path:
        return self.folder / f"scores-{key}.json"

    def _labels(self, key: str) -> Path:
        return self.folder / f"labels-{key}.npz"


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write named arrays, whole or not at all."""
    with written_whole(path) as file:
        np.savez_compressed(file, **arrays)
