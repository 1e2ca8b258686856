"""The best segments by frames, grammar and lengths at once: Viterbi over segments.

Richard, Kuehne, Iqbal and Gall, NeuralNetwork-Viterbi, CVPR 2018, sections 3.2 and 3.3: the best
score with which a segment of a grammar's state ends at an edge is a maximum over where it began.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from vidmamba.decoding.durations import Durations
from vidmamba.decoding.grammar import Grammar


class Found(NamedTuple):
    """Segments in order, and what they score."""

    starts: Int64[np.ndarray, " N"]
    """First frame of each segment."""

    labels: Int64[np.ndarray, " N"]
    """Class of each."""

    score: float
    """Sum of their log-probabilities, less costs; -inf where there is no way at all."""

    def frames(self, num_frames: int) -> Int64[np.ndarray, " T"]:
        """Return the label of each frame."""
        return np.repeat(self.labels, np.diff(self.starts, append=num_frames))


def search(
    emissions: Float64[np.ndarray, "T C"],
    grammar: Grammar,
    durations: Durations | None,
    costs: Float64[np.ndarray, " T"],
    *,
    stride: int = 1,
) -> Found:
    """Return the best segments among those that start at every `stride`-th frame; exact.

    Time O(S K^2) for K = T / stride and S states, memory O(S K); without durations O(S K) and the
    grammar's steps, K times.

    Args:
        emissions: finite log-probabilities.
        grammar: which class follows which.
        durations: how long classes last; None where every length is as good.
        costs: of a segment that starts at a frame, but for the first one.
        stride: frames between places where a segment may start.
    """
    return Search(emissions, grammar.labels, durations, costs, stride=stride).best(grammar)


class Search:
    """`search` for several grammars of the same states: what they share is prepared once.

    Args:
        emissions: finite log-probabilities.
        labels: each state's class.
        durations: how long classes last; None where every length is as good.
        costs: of a segment that starts at a frame, but for the first one.
        stride: frames between places where a segment may start.
    """

    def __init__(
        self,
        emissions: Float64[np.ndarray, "T C"],
        labels: Int64[np.ndarray, " S"],
        durations: Durations | None,
        costs: Float64[np.ndarray, " T"],
        *,
        stride: int,
    ) -> None:
        T = len(emissions)
        self._edges = np.append(np.arange(0, T, stride), T)
        self._evidence = _sums_at(emissions, self._edges)[:, labels].T.copy()  # S K+1
        self._costs = _least_around(costs, self._edges[:-1], stride)
        self._lengths = (
            AnyLength(len(labels)) if durations is None else Lengths(durations, labels, self._edges)
        )

    def best(self, grammar: Grammar) -> Found:
        """Return the best segments by a grammar."""
        from vidmamba.kernels.segment_search.cpu import sweep

        edges, evidence, lengths = self._edges, self._evidence, self._lengths
        arcs = grammar.arcs
        entered = np.empty((len(evidence), len(edges) - 1))  # S K: less the evidence before
        ended = np.full((len(edges), len(evidence)), -np.inf)  # K+1 S
        entered[:, 0] = grammar.start
        steps = arcs.sources, arcs.targets, arcs.log_probabilities
        sweep(entered, ended, evidence, self._costs, *steps, lengths.table, lengths.last)
        return _trace(grammar, lengths, entered, ended, edges)


class AnyLength:
    """Every length is as good, so that the best beginning is remembered, not looked for."""

    def __init__(self, num_states: int) -> None:
        self.table = self.last = np.empty((num_states, 0))

    def of_state(self, state: int, k: int) -> float:
        """Return what each beginning adds."""
        return 0.0


class Lengths:
    """Lengths by their durations' log-probabilities."""

    def __init__(
        self, durations: Durations, labels: Int64[np.ndarray, " S"], edges: Int64[np.ndarray, " E"]
    ) -> None:
        # column j: from edge j to the last but one, were that at K strides; so the lengths up to
        # edge k are its last k columns
        blocks = np.arange(len(edges) - 1, 0, -1) * (edges[1] - edges[0])
        self.table = durations.log_probabilities(labels, blocks)
        # the last stretch may be shorter than a stride
        self.last = durations.log_probabilities(labels, edges[-1] - edges[:-1])

    def of_state(self, state: int, k: int) -> Float64[np.ndarray, " k"]:
        """Return what each beginning before edge `k` adds."""
        size = self.table.shape[1]
        return self.last[state] if k == size else self.table[state, size - k :]


def _sums_at(
    emissions: Float64[np.ndarray, "T C"], edges: Int64[np.ndarray, " E"]
) -> Float64[np.ndarray, "E C"]:
    """Return the sums over all frames before each edge."""
    within = np.add.reduceat(emissions, edges[:-1], axis=0)
    return np.concatenate([np.zeros((1, emissions.shape[1])), np.cumsum(within, axis=0)])


def _least_around(
    costs: Float64[np.ndarray, " T"], edges: Int64[np.ndarray, " K"], stride: int
) -> Float64[np.ndarray, " K"]:
    """Return the least cost of the frames that are nearest to each edge."""
    return np.minimum.reduceat(costs, np.maximum(edges - stride // 2, 0))


def _trace(
    grammar: Grammar,
    lengths: AnyLength | Lengths,
    entered: Float64[np.ndarray, "S K"],
    ended: Float64[np.ndarray, "E S"],
    edges: Int64[np.ndarray, " E"],
) -> Found:
    """Find the way to the best end again: no step of it was written down."""
    k, totals = len(edges) - 1, ended[-1] + grammar.final
    state = int(totals.argmax())
    score = float(totals[state])
    starts: list[int] = []
    labels: list[int] = []
    while score > -np.inf:
        k = int((entered[state, :k] + lengths.of_state(state, k)).argmax())
        starts.append(int(edges[k]))
        labels.append(int(grammar.labels[state]))
        if k == 0:
            break
        state = grammar.arcs.origin(ended[k], state)
    return Found(
        np.array(starts[::-1], dtype=np.int64), np.array(labels[::-1], dtype=np.int64), score
    )
