"""Where the actions of a known order begin and end."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Int64

from vidmamba.decoding.checks import boundary_costs, checked_log_probabilities
from vidmamba.decoding.durations import Durations
from vidmamba.decoding.grammar import chain
from vidmamba.decoding.search import Found, search


def align(
    log_probabilities: Float[np.ndarray, "T C"],
    transcript: Sequence[int],
    durations: Durations | None = None,
    *,
    stride: int = 1,
) -> Int64[np.ndarray, " T"]:
    """Return the likeliest frame labels of a given order of actions, each of one frame or more.

    Exact with a stride of 1, in time O(N T^2) for N actions, O(N T) without durations. A larger
    stride looks at every `stride`-th frame first and then moves each start by less than a stride.

    Args:
        log_probabilities: of each class at each frame.
        transcript: classes in order; one may follow itself, and has two segments then.
        durations: how long classes last; None where every length is as good.
        stride: frames between starts that are looked at first.

    Raises:
        ValueError: as `checked_log_probabilities`; the transcript is empty, names a class that
            there is not, or has more actions than the video has strides.
    """
    emissions = checked_log_probabilities(log_probabilities)
    T, C = emissions.shape
    if stride < 1:
        raise ValueError(f"stride must be 1 or more, got {stride}")
    if not len(transcript) or not 0 <= min(transcript) <= max(transcript) < C:
        raise ValueError(
            f"a transcript must be one class or more, each from 0 to {C - 1}, got {[*transcript]}"
        )
    if len(transcript) > -(-T // stride):
        raise ValueError(
            f"{len(transcript)} actions do not fit into {T} frames, one a stride of {stride}: "
            "shorten the transcript or take a smaller stride"
        )
    costs = boundary_costs(0, T, None)
    found = search(emissions, chain(transcript), durations, costs, stride=stride)
    return settle(emissions, found, durations, costs, stride=stride).frames(T)


def settle(
    emissions: Float64[np.ndarray, "T C"],
    found: Found,
    durations: Durations | None,
    costs: Float64[np.ndarray, " T"],
    *,
    stride: int,
) -> Found:
    """Move each start but the first by less than a stride, all at once, to the best places.

    The score that comes back is that of frames, lengths and costs alone.
    """
    T = len(emissions)
    moves = np.arange(1 - stride, stride)
    places = [np.zeros(1, dtype=np.int64)]
    for start in found.starts[1:]:
        near = start + moves
        places.append(near[(near > 0) & (near < T)])
    places.append(np.full(1, T))
    sums = np.concatenate([np.zeros((1, emissions.shape[1])), np.cumsum(emissions, axis=0)])
    paid = np.append(costs, 0.0)
    paid[0] = 0.0
    scores, origins = np.zeros(1), []
    for label, left, right in zip(found.labels, places[:-1], places[1:], strict=True):
        frames = right - left[:, None]
        worth = sums[right, label] - sums[left, label][:, None] - paid[right]
        if durations is not None:
            worth += _lasting(durations, label, frames)
        totals = np.where(frames > 0, scores[:, None] + worth, -np.inf)
        origins.append(totals.argmax(axis=0))
        scores = totals.max(axis=0)
    starts, at = [], 0
    for left, origin in zip(places[-2::-1], origins[::-1], strict=True):
        at = int(origin[at])
        starts.append(left[at])
    return Found(np.array(starts[::-1], dtype=np.int64), found.labels, float(scores[0]))


def _lasting(
    durations: Durations, label: np.int64, frames: Int64[np.ndarray, "P Q"]
) -> Float64[np.ndarray, "P Q"]:
    lengths = np.maximum(frames, 1).ravel()
    return durations.log_probabilities(np.array([label]), lengths).reshape(frames.shape)
