"""What every way of decoding asks of its input."""

import numpy as np
from jaxtyping import Float, Float64

LEAST = -1e4
"""Log-probabilities below, -inf too, count as this: sums over a day of frames stay exact enough."""


def checked_log_probabilities(
    log_probabilities: Float[np.ndarray, "T C"],
) -> Float64[np.ndarray, "T C"]:
    """Return log-probabilities as finite float64.

    Raises:
        ValueError: there is no frame or no class, or a value is NaN or +inf.
    """
    if 0 in log_probabilities.shape:
        raise ValueError(
            "log_probabilities must have a frame and a class or more, "
            f"got shape {[*log_probabilities.shape]}"
        )
    scores = log_probabilities.astype(np.float64)
    wrong = np.isnan(scores) | (scores == np.inf)
    if wrong.any():
        frame, label = np.argwhere(wrong)[0].tolist()
        raise ValueError(
            f"log_probabilities must be numbers below +inf, got {scores[frame, label]} "
            f"at frame {frame}, class {label}"
        )
    return np.maximum(scores, LEAST)


def checked_boundaries(
    boundaries: Float[np.ndarray, " _"], num_frames: int
) -> Float64[np.ndarray, " _"]:
    """Return boundary probabilities as float64.

    Raises:
        ValueError: there is not one for each frame, or a value lies outside [0, 1].
    """
    if len(boundaries) != num_frames:
        raise ValueError(f"{num_frames} frames need a boundary each, got {len(boundaries)}")
    values = boundaries.astype(np.float64)
    wrong = ~((values >= 0) & (values <= 1))  # NaN too
    if wrong.any():
        frame = int(wrong.argmax())
        raise ValueError(
            f"boundaries must be probabilities in [0, 1], got {values[frame]} at frame {frame}"
        )
    return values


def boundary_costs(
    cost: float | int, num_frames: int, boundaries: Float[np.ndarray, " _"] | None
) -> Float64[np.ndarray, " _"]:
    """Return what a segment that starts at each frame costs: cost (1 - b), b its boundary's chance.

    Where a boundary is certain it is free; where none is likely it costs what it would without
    this knowledge.

    Raises:
        ValueError: `cost` is negative or no finite number, or `boundaries` are no probabilities.
    """
    if not 0 <= cost < np.inf:
        raise ValueError(f"the cost of a switch must be a number from 0 up, got {cost}")
    if boundaries is None:
        return np.full(num_frames, float(cost))
    return cost * (1 - checked_boundaries(boundaries, num_frames))
