"""The best segments also by how often each action is done in a video, as training videos teach.

A salad's tomato is cut once: a second time is more likely the cucumber. No grammar of a few actions
knows that, and no path of Viterbi's remembers it; but a price on each beginning of an action, found
by trial, makes paths whose counts are likely the best ones.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from vidmamba.decoding.durations import Durations
from vidmamba.decoding.grammar import Grammar
from vidmamba.decoding.search import Found, Search

ROUNDS = 60
"""Prices that are tried for a video."""

SHORTER = 0.1
"""How much shorter than Polyak's each step is than the one before: his own go back and forth."""

PRIOR = 1
"""Videos' worth of doubt: every number of times up to one more than was seen has a share of it."""


def learn_counts(
    transcripts: Sequence[Sequence[int]], num_classes: int, *, weight: float | int
) -> Float64[np.ndarray, "C N"]:
    """Return `weight` times the log-probability that a class is done n times in a video.

    Args:
        transcripts: classes in order, one a video.
        num_classes: C.
        weight: factor of the log-probabilities.
    """
    counters = [Counter(transcript) for transcript in transcripts]
    most = max(max(counter.values()) for counter in counters) + 1
    seen = np.zeros((num_classes, most + 1))
    for counter in counters:
        seen[np.arange(num_classes), [counter[c] for c in range(num_classes)]] += 1
    return weight * np.log((seen + PRIOR / (most + 1)) / (len(counters) + PRIOR))


def search_counted(
    emissions: Float64[np.ndarray, "T C"],
    grammar: Grammar,
    durations: Durations | None,
    costs: Float64[np.ndarray, " T"],
    counts: Float64[np.ndarray, "C N"],
    *,
    stride: int = 1,
) -> Found:
    """Return good segments by `search`'s score and by how often each class is done.

    Dual decomposition: the path and the counts are chosen apart, and a price a class, moved by
    Polyak's subgradient steps, brings them to agree (Komodakis, Paragios and Tziritas, 2007). Where
    they do, no path is better; else the best path that was met comes back. Its score is `search`'s
    and the counts' together.
    """
    num_classes, most = counts.shape
    prices = np.zeros(num_classes)
    times = np.arange(most)
    best = Found(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), -np.inf)
    search = Search(emissions, grammar.labels, durations, costs, stride=stride)
    for number in range(ROUNDS):
        found = search.best(grammar.priced(prices))
        done = np.bincount(found.labels, minlength=num_classes)
        own = counts[np.arange(num_classes), np.minimum(done, most - 1)].sum()
        score = found.score + float(prices @ done) + float(own)
        if score > best.score:
            best = found._replace(score=score)
        refunds = counts + prices[:, None] * times
        wanted = refunds.argmax(axis=1)
        bound = found.score + float(refunds.max(axis=1).sum())
        apart = done - wanted
        if not apart.any() or bound - best.score < 1e-6:
            break
        step = (bound - best.score) / float(apart @ apart) / (1 + SHORTER * number)
        prices = prices + step * apart
    return best
