"""Which state may follow which, and how likely that is."""

import numpy as np
from jaxtyping import Float64, Int


class Arcs:
    """Steps from state to state, in the order of where they lead.

    Args:
        sources: state that each step leaves.
        targets: state that it leads to.
        log_probabilities: of the step.
        num_states: S.
    """

    def __init__(
        self,
        sources: Int[np.ndarray, " A"],
        targets: Int[np.ndarray, " A"],
        log_probabilities: Float64[np.ndarray, " A"],
        num_states: int,
    ) -> None:
        order = np.argsort(targets, kind="stable")
        self.sources = sources[order]
        self.targets = targets[order]
        self.log_probabilities = log_probabilities[order]
        self.num_states = num_states
        self._reached, self._firsts = np.unique(self.targets, return_index=True)
        self._ends = np.append(self._firsts[1:], len(order))

    def best(self, scores: Float64[np.ndarray, " S"]) -> Float64[np.ndarray, " S"]:
        """Return the best score with which each state is reached; -inf where nothing leads."""
        found = np.full(self.num_states, -np.inf)
        if len(self.sources):
            arrived = scores[self.sources] + self.log_probabilities
            found[self._reached] = np.maximum.reduceat(arrived, self._firsts)
        return found

    def origin(self, scores: Float64[np.ndarray, " S"], state: int) -> int:
        """Return the state from which `state` is reached with the best score."""
        place = int(np.searchsorted(self._reached, state))
        steps = slice(self._firsts[place], self._ends[place])
        sources = self.sources[steps]
        return int(sources[(scores[sources] + self.log_probabilities[steps]).argmax()])
