"""BLEU, ROUGE-L and METEOR of predicted sentences against references, as coco-caption prints them.

All are between 0 and 1; tables show them times 100.
"""

from collections.abc import Sequence
from math import exp

from vidmamba.metrics.captions.meteor import MeteorCounts, best_counts
from vidmamba.metrics.captions.sentence import LONGEST, NGram, Scored, Sentence

_ROUGE_BETA = 1.2
_TINY, _SMALL = 1e-15, 1e-9  # coco-caption's, so that nothing is divided by zero


def bleu(scored: Scored) -> list[float]:
    """Return BLEU-1 to BLEU-4 of a corpus; of the references' lengths, the closest counts.

    Papineni et al., BLEU, ACL 2002: counts are summed over the corpus before they are divided.
    """
    length = reference_length = 0
    correct = [0] * LONGEST
    guessed = [0] * LONGEST
    for predicted, references in scored:
        own = len(predicted.tokens)
        length += own
        lengths = (len(reference.tokens) for reference in references)
        reference_length += min((abs(other - own), other) for other in lengths)[1]
        for ngram, count in predicted.ngrams.items():
            found = max(reference.ngrams.get(ngram, 0) for reference in references)
            correct[len(ngram) - 1] += min(count, found)
        for size in range(LONGEST):
            guessed[size] += max(0, own - size)
    ratio = (length + _TINY) / (reference_length + _SMALL)
    penalty = exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores, product = [], 1.0
    for size in range(LONGEST):
        product *= (correct[size] + _TINY) / (guessed[size] + _SMALL)
        scores.append(product ** (1 / (size + 1)) * penalty)
    return scores


def rouge_l(scored: Scored) -> float:
    """Return the mean ROUGE-L: F of the best precision and the best recall of any reference.

    Lin, ROUGE, 2004, section 3, with coco-caption's beta of 1.2.
    """
    return sum(_rouge_l(predicted, references) for predicted, references in scored) / len(scored)


def meteor(scored: Scored) -> float:
    """Return METEOR's score of the corpus: the best references' counts, summed."""
    total = MeteorCounts()
    for predicted, references in scored:
        total += best_counts(predicted.meteor, [reference.meteor for reference in references])
    return total.score()


def _rouge_l(predicted: Sentence, references: Sequence[Sentence]) -> float:
    # coco-caption splits at blanks, which makes one empty word of an empty sentence
    own = predicted.tokens or ("",)
    others = [reference.tokens or ("",) for reference in references]
    common = [_common_length(own, other) for other in others]
    precision = max(common) / len(own)
    recall = max(length / len(other) for length, other in zip(common, others, strict=True))
    if precision == 0:
        return 0.0
    squared = _ROUGE_BETA**2
    return (1 + squared) * precision * recall / (recall + squared * precision)


def _common_length(first: NGram, second: NGram) -> int:
    """Return the length of the longest common subsequence; each bit is a place of `first`.

    Hyyrö, Bit-parallel LCS-length computation revisited, AWOCA 2004.
    """
    places: dict[str, int] = {}
    for place, token in enumerate(first):
        places[token] = places.get(token, 0) | 1 << place
    row = full = (1 << len(first)) - 1
    for token in second:
        matched = row & places.get(token, 0)
        row = (row + matched | row - matched) & full
    return len(first) - row.bit_count()
