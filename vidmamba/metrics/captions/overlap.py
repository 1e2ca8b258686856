"""Which predicted events are about the same time as which reference ones."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from vidmamba.timeline import Caption

_SMALL = 1e-8  # densevid_eval's and SODA's, so that nothing is divided by zero


def overlaps(
    predicted: Sequence[Caption], references: Sequence[Caption]
) -> Float64[np.ndarray, "P R"]:
    """Return the tIoU, intersection over union of the times, of each two events."""
    own = np.array([(event.start, event.end) for event in predicted]).reshape(-1, 1, 2)
    other = np.array([(event.start, event.end) for event in references]).reshape(1, -1, 2)
    earliest, latest = np.minimum(own, other), np.maximum(own, other)
    shared = np.maximum(0.0, earliest[..., 1] - latest[..., 0])
    lengths = (own[..., 1] - own[..., 0]) + (other[..., 1] - other[..., 0])
    # events that are apart have as union the sum of their lengths, not the span of both
    union = np.minimum(latest[..., 1] - earliest[..., 0], lengths)
    return shared / (union + _SMALL)
