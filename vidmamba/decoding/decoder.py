"""One entry to all ways of decoding: what a config says, and what training videos teach."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64

from vidmamba.decoding.align import settle
from vidmamba.decoding.boundaries import decode_boundaries
from vidmamba.decoding.checks import boundary_costs, checked_boundaries, checked_log_probabilities
from vidmamba.decoding.config import DecodingConfig
from vidmamba.decoding.counts import learn_counts, search_counted
from vidmamba.decoding.durations import Durations, labelled_runs, learn_durations
from vidmamba.decoding.grammar import learn_grammar
from vidmamba.decoding.search import search
from vidmamba.decoding.switch import decode_switch

PLACES = 1000
"""Where a segment of a video may start at most, before starts are moved to the best frames."""


class Decoder:
    """Labels videos by what a model says of their frames.

    Args:
        config: how.
        num_classes: C.
        transcripts: orders of training videos.
        durations: lengths of their segments, in frames.
    """

    def __init__(
        self,
        config: DecodingConfig,
        *,
        num_classes: int,
        transcripts: Sequence[Sequence[int]],
        durations: Durations,
    ) -> None:
        self.config = config
        self.num_classes = num_classes
        self.transcripts = [[*transcript] for transcript in transcripts]
        self.durations = durations
        self._decode = {
            "argmax": self._argmax,
            "switch": self._switch,
            "boundary": self._boundary,
            "grammar": self._grammar,
        }[config.kind]
        self._allowed = self._seen() if config.only_seen_transitions else None
        if config.kind == "grammar":
            learned = learn_grammar(self.transcripts, num_classes, order=config.grammar_order)
            self._orders = learned.weighted(config.grammar_weight)
            self._counts = learn_counts(self.transcripts, num_classes, weight=config.count_weight)

    def __call__(
        self,
        log_probabilities: Float[np.ndarray, "T C"],
        boundaries: Float[np.ndarray, " T"] | None = None,
    ) -> Int64[np.ndarray, " T"]:
        """Return each frame's label.

        Args:
            log_probabilities: of each class at each frame, at the rate of the training labels.
            boundaries: probability that a segment starts at each frame, None if the model has no
                say in it.

        Raises:
            ValueError: as `checked_log_probabilities` and `checked_boundaries`; there are not C
                classes; or the kind is boundary and there are no boundaries.
        """
        if log_probabilities.shape[1] != self.num_classes:
            raise ValueError(
                f"the decoder was learned for {self.num_classes} classes, got "
                f"{log_probabilities.shape[1]}"
            )
        return self._decode(checked_log_probabilities(log_probabilities), boundaries)

    def to_plain(self) -> dict[str, Any]:
        """Return config and all that was learned as dicts, lists, numbers and strings."""
        return {
            "config": asdict(self.config),
            "num_classes": self.num_classes,
            "transcripts": self.transcripts,
            "log_means": self.durations.log_means.tolist(),
            "log_deviations": self.durations.log_deviations.tolist(),
        }

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "Decoder":
        """Build the decoder again.

        Raises:
            ValueError: a key is missing or unknown, as from another version of the package.
        """
        try:
            config = DecodingConfig(**values["config"])
            durations = Durations(
                log_means=np.array(values["log_means"], dtype=np.float64),
                log_deviations=np.array(values["log_deviations"], dtype=np.float64),
                weight=config.duration_weight,
            )
            return cls(
                config,
                num_classes=values["num_classes"],
                transcripts=values["transcripts"],
                durations=durations,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"these are not a decoder's values: {error}") from error

    def _argmax(
        self, emissions: Float64[np.ndarray, "T C"], boundaries: Float[np.ndarray, " T"] | None
    ) -> Int64[np.ndarray, " T"]:
        return emissions.argmax(axis=1)

    def _switch(
        self, emissions: Float64[np.ndarray, "T C"], boundaries: Float[np.ndarray, " T"] | None
    ) -> Int64[np.ndarray, " T"]:
        return decode_switch(
            emissions,
            cost=self.config.switch_cost,
            allowed=self._allowed,
            boundaries=self._weighed(boundaries, len(emissions)),
        )

    def _boundary(
        self, emissions: Float64[np.ndarray, "T C"], boundaries: Float[np.ndarray, " T"] | None
    ) -> Int64[np.ndarray, " T"]:
        if boundaries is None:
            raise ValueError(
                "decoding of kind boundary needs boundary probabilities, got none: train a model "
                "with a boundary head, or take kind switch or grammar"
            )
        return decode_boundaries(emissions, boundaries, threshold=self.config.boundary_threshold)

    def _grammar(
        self, emissions: Float64[np.ndarray, "T C"], boundaries: Float[np.ndarray, " T"] | None
    ) -> Int64[np.ndarray, " T"]:
        T = len(emissions)
        costs = boundary_costs(
            self.config.switch_cost, T, self._weighed(boundaries, len(emissions))
        )
        durations = self.durations if self.config.duration_weight else None
        stride = self.config.stride or -(-T // PLACES)
        if self.config.count_weight:
            found = search_counted(
                emissions, self._orders, durations, costs, self._counts, stride=stride
            )
        else:
            found = search(emissions, self._orders, durations, costs, stride=stride)
        return settle(emissions, found, durations, costs, stride=stride).frames(T)

    def _weighed(
        self, boundaries: Float[np.ndarray, " _"] | None, num_frames: int
    ) -> Float64[np.ndarray, " _"] | None:
        if boundaries is None:
            return None
        return self.config.boundary_weight * checked_boundaries(boundaries, num_frames)

    def _seen(self) -> Bool[np.ndarray, "C C"]:
        allowed = np.eye(self.num_classes, dtype=bool)
        for transcript in self.transcripts:
            allowed[transcript[:-1], transcript[1:]] = True
        return allowed


def learn_decoder(
    config: DecodingConfig, labels: Sequence[Int[np.ndarray, " _"]], num_classes: int
) -> Decoder:
    """Learn orders and lengths from training videos; one without a label teaches nothing.

    Where nobody labelled a stretch of frames, the segments around it are two, each of its own
    length; the order goes on behind it, naming once an action that stands on both sides.

    Args:
        config: how videos will be labelled.
        labels: each training video's frame labels, at the rate that will be decoded, below 0 where
            there is none.
        num_classes: C.

    Raises:
        ValueError: a label is no class, or no frame is labelled.
    """
    return Decoder(
        config,
        num_classes=num_classes,
        transcripts=[order for video in labels if (order := _order(video))],
        durations=learn_durations(labels, num_classes, weight=config.duration_weight),
    )


def _order(labels: Int[np.ndarray, " _"]) -> list[int]:
    return [label for label, _ in groupby(label for label, _ in labelled_runs(labels))]
