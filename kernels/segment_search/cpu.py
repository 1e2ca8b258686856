"""Viterbi's way over all edges, in numba: what each state can score there.

Imported on first use only, since numba takes a second to load.
"""

import numpy as np

from vidmamba.kernels.simd import compiled


@compiled
def sweep(entered, ended, evidence, costs, sources, targets, log_probabilities, lengths, last):
    """Fill in the best scores with which segments of each state begin and end at each edge.

    Args:
        entered: [S, K] of a segment that begins at an edge, less the evidence before it; the first
            column is given.
        ended: [K + 1, S] of a segment that ends there; the first row is given.
        evidence: [S, K + 1] sum of a state's emissions before each edge.
        costs: [K] of a beginning.
        sources: state that each step leaves.
        targets: state that it leads to.
        log_probabilities: of the step.
        lengths: [S, N] log-probability of segments by edges to their end, the longest first; N = 0
            where every length is as good.
        last: [S, N] the same of segments that end at the last edge.
    """
    states, edges = entered.shape
    if lengths.shape[1] == 0:
        best = np.full(states, -np.inf)
    for k in range(1, edges + 1):
        if k > 1:
            arrived = np.full(states, -np.inf)
            for step in range(len(sources)):
                score = ended[k - 1, sources[step]] + log_probabilities[step]
                if score > arrived[targets[step]]:
                    arrived[targets[step]] = score
            for state in range(states):
                entered[state, k - 1] = arrived[state] - costs[k - 1] - evidence[state, k - 1]
        for state in range(states):
            if lengths.shape[1] == 0:
                best[state] = max(best[state], entered[state, k - 1])
                ended[k, state] = best[state] + evidence[state, k]
                continue
            lasting = last[state] if k == edges else lengths[state, edges - k :]
            highest = -np.inf
            for begun in range(k):
                score = entered[state, begun] + lasting[begun]
                if score > highest:
                    highest = score
            ended[k, state] = highest + evidence[state, k]
