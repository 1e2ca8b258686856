"""SODA_c: how well a video's captions, taken in order, tell its story.

Fujita, Hirao, Kamigaito, Okumura and Nagata, SODA: Story Oriented Dense Video Captioning Evaluation
Framework, ECCV 2020, section 3. Their code's METEOR takes the prediction for the reference and the
reference for the prediction, and published figures are made with it: so it is here.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from vidmamba.metrics.captions.meteor import meteor_counts
from vidmamba.metrics.captions.sentence import Sentence


def soda_c(
    predicted: Sequence[Sentence],
    references: Sequence[Sentence],
    overlap: Float64[np.ndarray, "P R"],
) -> float:
    """Return a video's F-measure, 0 to 1, of the best matching that keeps the order of both sides.

    Args:
        predicted: captions sorted by start.
        references: one person's captions, sorted by start.
        overlap: tIoU of each pair.
    """
    if not predicted or not references:
        return 0.0
    value = np.zeros(overlap.shape)
    for row, column in np.argwhere(overlap > 0):
        counts = meteor_counts(references[column].meteor, predicted[row].meteor)
        value[row, column] = overlap[row, column] * counts.score()
    best = best_in_order(value)
    # F of precision best / P and recall best / R
    return 2 * best / (len(predicted) + len(references))


def best_in_order(value: Float64[np.ndarray, "P R"]) -> float:
    """Return the largest sum over pairs that share no row or column, and do not cross."""
    best = [0.0] * (value.shape[1] + 1)
    for row in value.tolist():
        above, best = best, [0.0]
        for column, own in enumerate(row):
            best.append(max(above[column + 1], best[column], above[column] + own))
    return best[-1]
