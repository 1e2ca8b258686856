"""Segments between likely boundaries, each of the class that its frames say most."""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from vidmamba.decoding.checks import checked_boundaries, checked_log_probabilities


def decode_boundaries(
    log_probabilities: Float[np.ndarray, "T C"],
    boundaries: Float[np.ndarray, " T"],
    *,
    threshold: float | int = 0.5,
) -> Int64[np.ndarray, " T"]:
    """Cut the video at peaks of `boundaries`; each piece takes the class of most probability.

    Ishikawa, Kasai, Aoki and Kataoka, Alleviating Over-segmentation Errors by Detecting Action
    Boundaries, WACV 2021. There each frame of a piece has one vote; here each class gets the sum of
    its probabilities, so that frames in doubt weigh less.

    Args:
        log_probabilities: of each class at each frame.
        boundaries: probability that a segment starts at a frame.
        threshold: least probability of a peak that cuts.

    Raises:
        ValueError: as `checked_log_probabilities` and `checked_boundaries`, or `threshold` lies
            outside [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must lie in [0, 1], got {threshold}")
    probabilities = np.exp(checked_log_probabilities(log_probabilities))
    cuts = _peaks(checked_boundaries(boundaries, len(probabilities)), threshold)
    cuts[0] = True
    starts = np.flatnonzero(cuts)
    mass = np.add.reduceat(probabilities, starts, axis=0)
    return np.repeat(mass.argmax(axis=1), np.diff(starts, append=len(cuts)))


def _peaks(values: Float64[np.ndarray, " T"], threshold: float | int) -> Bool[np.ndarray, " T"]:
    """Mark the first frame of each stretch of equal values that both its neighbours are below."""
    rises = np.diff(values, prepend=-np.inf) > 0
    edges = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)  # last frames of stretches
    last = edges[np.searchsorted(edges, np.arange(len(values)))]
    falls = np.append(values, -np.inf)[last + 1] < values
    return rises & falls & (values >= threshold)
