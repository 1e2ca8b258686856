"""How often an action is done: counted right, and the best labels by it among all there are."""

from itertools import groupby, pairwise, product
from typing import Any

import numpy as np
import pytest

from vidmamba.decoding import DecodingConfig, learn_decoder, learn_grammar
from vidmamba.decoding.counts import learn_counts, search_counted
from vidmamba.decoding.grammar import Grammar

NUM_CLASSES = 3
ORDERS = [[0, 1, 2], [0, 2, 1], [1, 2], [0, 1, 2, 1]]


def noise(seed: int, num_frames: int) -> np.ndarray:
    raw = np.random.default_rng(seed).normal(size=(num_frames, NUM_CLASSES))
    return raw - np.log(np.exp(raw).sum(axis=1, keepdims=True))


def test_a_class_is_likely_to_be_done_as_often_as_it_was() -> None:
    counts = learn_counts(ORDERS, NUM_CLASSES, weight=2)
    assert counts.shape == (NUM_CLASSES, 4)  # none, once, twice, and once more than was seen
    np.testing.assert_allclose(np.exp(counts / 2).sum(axis=1), 1)
    # class 1: once in three videos, twice in one; a video's worth of doubt is shared by four
    np.testing.assert_allclose(np.exp(counts[1] / 2), [0.25 / 5, 3.25 / 5, 1.25 / 5, 0.25 / 5])


def score_of(
    labels: tuple[int, ...],
    emissions: np.ndarray,
    grammar: Grammar,
    costs: np.ndarray,
    counts: np.ndarray,
) -> float:
    """Score one label a frame, by a grammar of one state a class."""
    order = [label for label, _ in groupby(labels)]
    arcs = grammar.arcs
    steps = {
        (int(grammar.labels[a]), int(grammar.labels[b])): p
        for a, b, p in zip(arcs.sources, arcs.targets, arcs.log_probabilities, strict=True)
    }
    score = emissions[np.arange(len(labels)), labels].sum() + grammar.start[order[0]]
    score += sum(steps[pair] for pair in pairwise(order))
    score += grammar.final[order[-1]]
    score -= sum(costs[t] for t in range(1, len(labels)) if labels[t] != labels[t - 1])
    done = [min(order.count(label), counts.shape[1] - 1) for label in range(NUM_CLASSES)]
    return float(score + counts[np.arange(NUM_CLASSES), done].sum())


def test_it_finds_what_trying_all_labels_finds() -> None:
    grammar = learn_grammar(ORDERS, NUM_CLASSES, order=2)
    assert grammar.labels.tolist() == [0, 1, 2]
    counts = learn_counts(ORDERS, NUM_CLASSES, weight=3)
    costs = np.linspace(0.2, 1, 7)
    missed = []
    for seed in range(20):
        emissions = noise(seed, 7)
        found = search_counted(emissions, grammar, None, costs, counts)
        labels = tuple(found.frames(7).tolist())
        own = score_of(labels, emissions, grammar, costs, counts)
        assert found.score == pytest.approx(own)  # it says what its labels are worth
        best = max(
            score_of(other, emissions, grammar, costs, counts)
            for other in product(range(NUM_CLASSES), repeat=7)
        )
        missed.append(best - own)
    assert min(missed) > -1e-6
    # frames that say nothing are the worst case: prices cannot always make path and counts agree
    assert sum(loss > 1e-6 for loss in missed) <= 4


def test_of_two_doubtful_stretches_one_is_what_has_not_been_done_yet() -> None:
    # every video does 1 once and 2 once, in either order, with 0 between
    taught = [np.repeat([0, a, 0, b, 0], 5) for a, b in ((1, 2), (2, 1))] * 5
    true = np.repeat([0, 1, 0, 2, 0], 5)
    emissions = np.full((25, NUM_CLASSES), np.log(0.01))
    emissions[true == 0, 0] = np.log(0.98)
    emissions[true == 1] = np.log([0.02, 0.68, 0.30])
    emissions[true == 2] = np.log([0.02, 0.52, 0.46])  # likelier 1 again
    weights: dict[str, Any] = {"switch_cost": 1, "grammar_order": 2, "duration_weight": 0}
    plain = learn_decoder(DecodingConfig(kind="grammar", **weights), taught, NUM_CLASSES)
    counted = learn_decoder(
        DecodingConfig(kind="grammar", count_weight=2, **weights), taught, NUM_CLASSES
    )
    np.testing.assert_array_equal(plain(emissions), np.repeat([0, 1, 0, 1, 0], 5))
    np.testing.assert_array_equal(counted(emissions), true)
