"""How long actions last."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int

from vidmamba.timeline import runs

PSEUDO_SEGMENTS = 5
"""Segments of all classes' lengths that each class has seen beside its own."""

LEAST_DEVIATION = 0.1
"""Of a logarithm: lengths within a tenth of each other."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Durations:
    """A log-normal distribution of each class's lengths in frames.

    Chosen on Breakfast, fitted on half of the people, by the log-likelihood of the other half's
    segments (nats a segment, both ways round): log-normal -6.1; exponential -6.3; Poisson, which
    Richard, Kuehne, Iqbal and Gall (NeuralNetwork-Viterbi, CVPR 2018) use, -7.6 in blocks of 30
    frames and -75 in frames. Its spread is its mean's root: 30 frames for 900, where people differ
    by hundreds. `PSEUDO_SEGMENTS` of 2 to 10 give the same to 0.02.
    """

    log_means: Float64[np.ndarray, " C"]
    """Mean of the logarithm of a segment's frames."""

    log_deviations: Float64[np.ndarray, " C"]
    """Standard deviation of that logarithm."""

    weight: float | int = 1
    """Factor of all log-probabilities."""

    def log_probabilities(
        self, labels: Int[np.ndarray, " S"], frames: Int[np.ndarray, " N"]
    ) -> Float64[np.ndarray, "S N"]:
        """Return how likely a segment of each label is to last each number of frames, from 1 up."""
        logs = np.log(frames)
        deviations = self.log_deviations[labels, None]
        distances = (logs - self.log_means[labels, None]) / deviations
        return self.weight * (-0.5 * distances**2 - np.log(deviations * np.sqrt(2 * np.pi)) - logs)


def labelled_runs(labels: Int[np.ndarray, " _"]) -> list[tuple[int, int]]:
    """Return (label, frames) of each stretch of equal labels; below 0, frames have none."""
    return [(label, end - start) for start, end, label in runs(labels) if label >= 0]


def learn_durations(
    labels: Sequence[Int[np.ndarray, " _"]], num_classes: int, *, weight: float | int = 1
) -> Durations:
    """Fit each class's lengths, drawn towards those of all segments where it has few.

    A class never seen has the distribution of all segments.

    Args:
        labels: frame labels of training videos, at the rate that will be decoded; those below 0
            are of frames that nobody labelled, where a segment ends.
        num_classes: C.
        weight: factor of all log-probabilities.

    Raises:
        ValueError: no frame is labelled, or a label is none of the classes.
    """
    for number, video in enumerate(labels):
        wrong = video[video >= num_classes]
        if wrong.size:
            raise ValueError(
                f"labels must be classes from 0 to {num_classes - 1}, or below 0 for frames "
                f"without one, got {wrong[0]} in video {number}"
            )
    segments = [segment for video in labels for segment in labelled_runs(video)]
    if not segments:
        raise ValueError("durations are learned from labels of one frame or more, got none")
    classes = np.array([label for label, _ in segments])
    logs = np.log([frames for _, frames in segments])
    counts = np.bincount(classes, minlength=num_classes) + PSEUDO_SEGMENTS
    means = np.bincount(classes, logs, num_classes) + PSEUDO_SEGMENTS * logs.mean()
    means /= counts
    squares = np.bincount(classes, (logs - means[classes]) ** 2, num_classes)
    deviations = np.sqrt((squares + PSEUDO_SEGMENTS * logs.var()) / counts)
    return Durations(
        log_means=means,
        log_deviations=np.maximum(deviations, LEAST_DEVIATION),
        weight=weight,
    )
