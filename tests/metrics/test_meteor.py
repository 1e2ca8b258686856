from itertools import combinations, pairwise, permutations

import numpy as np
import pytest

from vidmamba.metrics.captions import tokenize
from vidmamba.metrics.captions.alignment import align
from vidmamba.metrics.captions.meteor import MeteorCounts, best_counts, meteor_counts, meteor_words

from .oracles import meteor_scores

WORDS = "a the man dog dogs dog's run runs running red t-shirt in is plays playing 1/2".split()  # noqa: SIM905


def _counts(predicted: str, reference: str) -> MeteorCounts:
    return meteor_counts(meteor_words(tokenize(predicted)), meteor_words(tokenize(reference)))


def _drawn(number: int, longest: int) -> list[tuple[str, str]]:
    random = np.random.default_rng(0)
    lengths = random.integers(1, longest, (number, 2))
    return [
        (" ".join(random.choice(WORDS, first)), " ".join(random.choice(WORDS, second)))
        for first, second in lengths
    ]


def test_a_pair_worked_by_hand() -> None:
    # content words weigh 3/4 and function words 1/4: the sides weigh 2 and 2.5. `man` matches, and
    # `running` as a stem: 1.6 * 3/4 = 1.2 on each side, precision 0.6, recall 0.48, in two chunks
    mean = 0.6 * 0.48 / (0.85 * 0.6 + 0.15 * 0.48)
    penalty = 0.6 * (2 / 2) ** 0.2
    score = _counts("a man is running", "the man runs fast").score()
    assert score == pytest.approx(mean * (1 - penalty), abs=1e-12)


def test_equal_sentences_score_one_and_strangers_nothing() -> None:
    assert _counts("a dog runs", "a dog runs").score() == 1
    assert _counts("a dog runs", "the cats sat").score() == 0
    assert _counts("", "a dog").score() == _counts("a dog", "").score() == 0


def test_the_best_reference_counts() -> None:
    predicted = meteor_words(["a", "dog", "runs"])
    references = [meteor_words(text.split()) for text in ("the cat", "a dog sleeps", "a dog runs")]
    assert best_counts(predicted, references).score() == 1


def test_scores_are_the_jars_for_its_first_two_stages() -> None:
    pairs = [
        *_drawn(60, 9),
        ("a dog runs", "a dog runs"),
        ("x", "y"),
        ("don't go etc.", "go etc. ."),
    ]
    ours = [_counts(*pair) for pair in pairs]
    read = [(" ".join(tokenize(first)), " ".join(tokenize(second))) for first, second in pairs]
    scores, corpus = meteor_scores(read)
    np.testing.assert_allclose([counts.score() for counts in ours], scores, rtol=0, atol=1e-9)
    assert sum(ours, MeteorCounts()).score() == pytest.approx(corpus, abs=1e-9)


def _cost(pairs: list[tuple[int, int, bool]]) -> tuple[int, int, int, int]:
    chunks = 1 if pairs else 0
    for before, after in pairwise(pairs):
        chunks += (after[0], after[1]) != (before[0] + 1, before[1] + 1)
    exact = sum(pair[2] for pair in pairs)
    return -exact, chunks, -len(pairs), sum(abs(first - second) for first, second, _ in pairs)


def test_no_matching_is_better_than_the_one_found() -> None:
    random = np.random.default_rng(1)
    for _ in range(150):
        first, second = (random.choice(["a", "b", "c"], random.integers(1, 6)) for _ in range(2))
        pairs, chunks = align(first.tolist(), second.tolist(), first.tolist(), second.tolist())
        best = _cost([])
        for size in range(1, min(len(first), len(second)) + 1):
            for own in combinations(range(len(first)), size):
                for other in permutations(range(len(second)), size):
                    if all(first[i] == second[j] for i, j in zip(own, other, strict=True)):
                        drawn = [(i, j, True) for i, j in zip(own, other, strict=True)]
                        best = min(best, _cost(drawn))
        assert _cost(list(pairs)) == best, (first, second)
        assert chunks == best[1]
