"""Score the held-out videos of a run by every decoding that may be chosen, once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vidmamba.benchmark.choose import Scorer
from vidmamba.benchmark.code import DECODING, SCORING, code_key
from vidmamba.benchmark.keys import hash_of, labels_key
from vidmamba.benchmark.outputs import RunFiles
from vidmamba.config import to_plain
from vidmamba.datasets.records import VideoItem
from vidmamba.decoding import DecodingConfig, learn_decoder


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """A run's videos of one part, scored by several decodings: what a choice is made by.

    The scores lie beside the run, and no labels do: there are hundreds of looks for each label that
    is tested, and they are made and counted side by side, in any process.
    """

    folder: Path
    """The run's."""

    part: str
    """The part that the videos are of."""

    items: tuple[VideoItem, ...]
    """The videos, without their features."""

    taught: tuple[np.ndarray, ...]
    """Labels of the training videos that decodings learn from."""

    decodings: Mapping[str, DecodingConfig]
    """How the videos are labelled, by name."""

    scorer: Scorer
    """Counts the labels."""

    key: str
    """Names items, teachers, scorer and code."""

    @property
    def done(self) -> bool:
        """Whether all scores are there."""
        return not self._missing(RunFiles(self.folder).scores(self.key))

    def keep(self) -> None:
        """Label and score the videos by the decodings that are not there yet."""
        files = RunFiles(self.folder)
        known = files.scores(self.key)
        frames = files.frames(self.part)
        for config in self._missing(known):
            decode = learn_decoder(config, self.taught, len(self.scorer.class_names))
            labels = {item.name: decode(*frames[item.name]) for item in self.items}
            known[_name(config)] = self.scorer(labels, self.items)
        files.write_scores(self.key, known)

    def scores(self) -> dict[str, dict[str, float]]:
        """Return each decoding's scores, percent, made and kept if they are not there yet."""
        if not self.done:
            self.keep()
        known = RunFiles(self.folder).scores(self.key)
        return {name: known[_name(config)] for name, config in self.decodings.items()}

    def _missing(self, known: Mapping[str, object]) -> list[DecodingConfig]:
        return [config for config in self.decodings.values() if _name(config) not in known]


def look_key(items: Iterable[VideoItem], teachers: str, scorer: Scorer, part: str) -> str:
    """Return a hash of all that scores hang on, but the run and the decoding."""
    items = [*items]
    content = {
        "videos": labels_key(items),
        "scored": [
            None if item.scored_labels is None else item.scored_labels.tolist() for item in items
        ],
        "taught": teachers,
        "scorer": to_plain(scorer),
        "code": code_key(DECODING) + code_key(SCORING),
    }
    return f"{part}-{hash_of(content)}"


def without_features(items: Sequence[VideoItem]) -> tuple[VideoItem, ...]:
    """Return videos that are light enough to hand to another process."""
    return tuple(
        replace(item, features=np.empty((item.num_frames, 0), dtype=np.float32)) for item in items
    )


def _name(config: DecodingConfig) -> str:
    return hash_of(to_plain(config))
