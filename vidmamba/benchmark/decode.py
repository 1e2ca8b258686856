"""Label the held-out videos of a run, and keep the labels beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from vidmamba.benchmark.code import DECODING, code_key
from vidmamba.benchmark.keys import hash_of, labels_key
from vidmamba.benchmark.outputs import RunFiles
from vidmamba.config import to_plain
from vidmamba.datasets.records import VideoItem
from vidmamba.decoding import DecodingConfig, learn_decoder


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodingJob:
    """A run's videos of one part, a decoding, and the labels that it learns from."""

    folder: Path
    """The run's."""

    part: str
    """The part whose videos are labelled."""

    config: DecodingConfig
    """How."""

    num_classes: int
    """C."""

    taught: tuple[np.ndarray, ...]
    """Labels of training videos."""

    key: str
    """Names config, teachers and part."""

    @property
    def done(self) -> bool:
        """Whether the labels are there."""
        return RunFiles(self.folder).has_labels(self.key)

    def keep(self) -> None:
        """Label the videos and write the labels beside the run."""
        files = RunFiles(self.folder)
        decode = learn_decoder(self.config, self.taught, self.num_classes)
        found = {name: decode(*frames) for name, frames in files.frames(self.part).items()}
        files.write_labels(self.key, found)

    def labels(self) -> dict[str, Int[np.ndarray, " T"]]:
        """Return each video's labels, made and kept if they are not there yet."""
        if not self.done:
            self.keep()
        return RunFiles(self.folder).labels(self.key)


class Teachers:
    """Training videos as decoders learn from them, prepared once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], tuple[tuple[np.ndarray, ...], str]] = {}

    def of(self, videos: Sequence[VideoItem]) -> tuple[tuple[np.ndarray, ...], str]:
        """Return the videos' labels, and a name for them."""
        at = tuple(id(video) for video in videos)
        if at not in self._known:
            labels = tuple(video.labels.astype(np.int16) for video in videos)
            self._known[at] = labels, labels_key(videos)
        return self._known[at]

    def job(
        self,
        folder: Path,
        part: str,
        config: DecodingConfig,
        num_classes: int,
        videos: Sequence[VideoItem],
    ) -> DecodingJob:
        """Return the job of labelling a run's part by what these videos teach."""
        taught, teachers = self.of(videos)
        content = {"decoding": to_plain(config), "taught": teachers, "code": code_key(DECODING)}
        return DecodingJob(
            folder=folder,
            part=part,
            config=config,
            num_classes=num_classes,
            taught=taught,
            key=f"{part}-{hash_of(content)}",
        )
