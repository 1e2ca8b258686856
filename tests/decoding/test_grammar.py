"""An n-gram with back-off, by hand and by its sums."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from vidmamba.decoding import Grammar, learn_grammar

ORDERS = [[0, 1, 2], [0, 1, 2], [0, 2], [1, 0]]


def ways(grammar: Grammar, transcript: list[int]) -> list[float]:
    """The log-probability of each path of states that does this order."""
    arcs = grammar.arcs
    found = [
        (state, grammar.start[state])
        for state in range(len(grammar.labels))
        if grammar.labels[state] == transcript[0] and grammar.start[state] > -np.inf
    ]
    for label in transcript[1:]:
        found = [
            (int(target), score + log_probability)
            for state, score in found
            for source, target, log_probability in zip(
                arcs.sources, arcs.targets, arcs.log_probabilities, strict=True
            )
            if source == state and grammar.labels[target] == label
        ]
    return [float(score + grammar.final[state]) for state, score in found]


def test_a_bigram_by_hand() -> None:
    end = 4
    # one word: 10 actions and 4 ends, of 4 kinds (0, 1, 2, the end) where 5 may be: m = 3 * 4
    counts = {0: 4, 1: 3, 2: 3, 3: 0, end: 4}
    one = {c: (n + 12 * Fraction(1, 5)) / (14 + 12) for c, n in counts.items()}
    # after 0: 1 twice, 2 once, the end once; three kinds
    after_0 = {1: 2, 2: 1, end: 1}
    given_0 = {c: (after_0.get(c, 0) + 9 * p) / (4 + 9) for c, p in one.items()}
    given_0 = {c: p / (1 - given_0[0]) for c, p in given_0.items() if c != 0}
    # at the start: 0 three times, 1 once; two kinds; a video does not end there
    begin = {0: 3, 1: 1}
    given_start = {c: (begin.get(c, 0) + 6 * p) / (4 + 6) for c, p in one.items()}
    given_start = {c: p / (1 - given_start[end]) for c, p in given_start.items()}
    grammar = learn_grammar(ORDERS, 4, order=2)
    expected = given_start[0] * given_0[end]
    assert ways(grammar, [0]) == pytest.approx([np.log(float(expected))])
    # 3 was never seen: after it, whatever else comes is as likely as anywhere
    expected = given_start[0] * given_0[3] * one[end] / (1 - one[3])
    assert ways(grammar, [0, 3]) == pytest.approx([np.log(float(expected))])


@pytest.mark.parametrize("order", [1, 2, 3, 4, 6])
def test_probabilities_sum_to_one_and_every_order_has_one_way(order: int) -> None:
    grammar = learn_grammar(ORDERS, 4, order=order)
    assert np.exp(grammar.start).sum() == pytest.approx(1)
    steps = np.bincount(
        grammar.arcs.sources, np.exp(grammar.arcs.log_probabilities), len(grammar.labels)
    )
    np.testing.assert_allclose(steps + np.exp(grammar.final), 1)
    for transcript in ([0], [3], [0, 1, 2], [3, 0, 3], [2, 1, 0, 1, 2, 0, 1, 2, 3]):
        assert len(ways(grammar, transcript)) == 1


def test_no_action_follows_itself() -> None:
    grammar = learn_grammar(ORDERS, 4, order=3)
    for source, target in zip(grammar.arcs.sources, grammar.arcs.targets, strict=True):
        assert grammar.labels[source] != grammar.labels[target]


def test_longer_contexts_remember_more() -> None:
    orders = [[0, 2, 1], [1, 2, 0]] * 5
    seen, unseen = [], []
    for order in (1, 2, 3, 4):
        grammar = learn_grammar(orders, 3, order=order)
        seen += ways(grammar, [0, 2, 1])
        unseen += ways(grammar, [0, 2, 0])
    # a bigram cannot tell what came before the 2
    assert seen[1] == pytest.approx(unseen[1])
    assert seen[2] > unseen[2] + 1
    assert all(a < b for a, b in pairwise(seen))


def test_weights_multiply_logarithms_and_keep_the_impossible() -> None:
    grammar = learn_grammar(ORDERS, 4, order=3)
    for transcript in ([0, 1], [3, 2]):
        (score,) = ways(grammar, transcript)
        assert ways(grammar.weighted(2.5), transcript) == pytest.approx([2.5 * score])
        assert ways(grammar.weighted(0), transcript) == [0]


def test_one_class_is_a_grammar() -> None:
    assert ways(learn_grammar([[0]], 1), [0]) == [0]


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0"):
        learn_grammar([], 3)
    with pytest.raises(ValueError, match="none empty, got 2"):
        learn_grammar([[0], []], 3)
    with pytest.raises(ValueError, match="order must be 1 or more, got 0"):
        learn_grammar([[0]], 3, order=0)
