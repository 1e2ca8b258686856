"""CIDEr-D, which captioning tables call CIDEr, and the plain CIDEr it was made from.

Vedantam, Zitnick and Parikh, CIDEr, CVPR 2015. N-grams count by how rare they are among the scored
set's own references, so that a score depends on the set: scores of one sentence are no use.
Between 0 and 10; tables show it times 100.
"""

from collections import Counter
from collections.abc import Callable
from math import exp, log, sqrt
from typing import NamedTuple

from vidmamba.metrics.captions.sentence import LONGEST, NGram, Scored, Sentence

_SIGMA = 6.0
_SCALE = 10.0


class _Vector(NamedTuple):
    weights: dict[NGram, float]
    norms: list[float]  # of the weights of each size of n-gram


_Product = Callable[[float, float], float]


def cider_d(scored: Scored) -> float:
    """Return the mean CIDEr-D: clipped to what a reference has, and less where lengths differ."""
    return sum(cider_d_each(scored)) / len(scored)


def cider_d_each(scored: Scored) -> list[float]:
    """Return the CIDEr-D of each sentence, the rarities being those of all references together."""
    # a product of the reference's weight with the smaller of both
    return _each(scored, lambda own, other: min(own, other) * other, _length_penalty)


def cider_plain(scored: Scored) -> float:
    """Return the mean CIDEr of the paper's equation 2: cosines, neither clipped nor penalized.

    The paper counts stems; as in its authors' code, words are counted here.
    """
    each = _each(scored, lambda own, other: own * other, lambda own, other: 1.0)
    return sum(each) / len(scored)


def _each(
    scored: Scored, product: _Product, penalty: Callable[[Sentence, Sentence], float]
) -> list[float]:
    frequency: Counter[NGram] = Counter()
    for _, references in scored:
        frequency.update({ngram for reference in references for ngram in reference.ngrams})
    rarest = log(len(scored))
    rarity = {ngram: rarest - log(count) for ngram, count in frequency.items()}
    found = []
    for predicted, references in scored:
        own = _vector(predicted, rarity, rarest)
        score = sum(
            _similarity(own, reference, rarity, product) * penalty(predicted, reference)
            for reference in references
        )
        found.append(_SCALE * score / len(references))
    return found


def _vector(sentence: Sentence, rarity: dict[NGram, float], rarest: float) -> _Vector:
    weights = {ngram: count * rarity.get(ngram, rarest) for ngram, count in sentence.ngrams.items()}
    squares = [0.0] * LONGEST
    for ngram, weight in weights.items():
        squares[len(ngram) - 1] += weight * weight
    return _Vector(weights, [sqrt(square) for square in squares])


def _similarity(
    own: _Vector, reference: Sentence, rarity: dict[NGram, float], product: _Product
) -> float:
    """Return the mean over sizes of n-grams of the cosine between two sentences' weights."""
    sums, squares = [0.0] * LONGEST, [0.0] * LONGEST
    weights = own.weights
    for ngram, count in reference.ngrams.items():
        weight = count * rarity[ngram]
        size = len(ngram) - 1
        squares[size] += weight * weight
        if ngram in weights:
            sums[size] += product(weights[ngram], weight)
    cosines = (
        value / (norm * sqrt(square)) if norm and square else value
        for value, norm, square in zip(sums, own.norms, squares, strict=True)
    )
    return sum(cosines) / LONGEST


def _length_penalty(predicted: Sentence, reference: Sentence) -> float:
    # coco-caption measures length in pairs of words, so that one word is as long as none
    own, other = (max(0, len(sentence.tokens) - 1) for sentence in (predicted, reference))
    return exp(-((own - other) ** 2) / (2 * _SIGMA**2))
