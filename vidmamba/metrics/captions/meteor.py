"""METEOR 1.5's score for English, from the two of its four stages that need no dictionary.

Denkowski and Lavie, Meteor Universal, WMT 2014. The stages here are exact and stem; METEOR has two
more, synonyms (of WordNet) and paraphrases (of a table), so that its score is somewhat higher.
`java -jar meteor-1.5.jar - - -stdio -l en -norm -m 'exact stem' -w '1.0 0.6'` is what this equals.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from vidmamba.metrics.captions.alignment import align
from vidmamba.metrics.captions.stemmer import stem

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.20, 0.60, 0.75
"""Precision's weight in the mean, the penalty's exponent and weight, the content words' weight."""
STEM_WEIGHT = 0.60
"""What a match of stems counts; an exact one counts 1."""

FUNCTION_WORDS = frozenset(
    [
        *(
            "'",
            "''",
            "'s",
            "'t",
            ",",
            "-",
            "-lrb-",
            "-rrb-",
            ".",
            ":",
            "?",
            "`",
            "``",
            "$",
            "--",
            '"',
        ),
        *("a", "about", "after", "all", "also", "an", "and", "are", "as", "at", "be", "been"),
        *("but", "by", "can", "could", "first", "for", "from", "had", "has", "have", "he", "her"),
        *("his", "i", "if", "in", "into", "is", "it", "its", "last", "more", "new", "no", "not"),
        *("of", "on", "one", "or", "other", "out", "over", "people", "s", "said", "she", "so"),
        *("some", "than", "that", "the", "their", "there", "they", "this", "time", "to", "two"),
        *("up", "was", "we", "were", "what", "when", "which", "who", "will", "with", "would"),
        *("year", "years", "you"),
    ]
)
"""Words above one in a thousand of newspapers' text, which count less."""


@dataclass(frozen=True, slots=True)
class MeteorWords:
    """A sentence as METEOR reads it."""

    words: tuple[str, ...]
    stems: tuple[str, ...]
    weight: float
    """Of all words: DELTA for each content word, 1 - DELTA for each function word."""


@dataclass(frozen=True, slots=True)
class MeteorCounts:
    """What a score is computed from; the counts of a corpus are the sums of its sentences'."""

    predicted_weight: float = 0.0
    reference_weight: float = 0.0
    predicted_matched: float = 0.0
    reference_matched: float = 0.0
    matches: int = 0
    chunks: int = 0

    def __add__(self, other: "MeteorCounts") -> "MeteorCounts":
        return MeteorCounts(
            self.predicted_weight + other.predicted_weight,
            self.reference_weight + other.reference_weight,
            self.predicted_matched + other.predicted_matched,
            self.reference_matched + other.reference_matched,
            self.matches + other.matches,
            self.chunks + other.chunks,
        )

    def score(self) -> float:
        """Return the score, 0 to 1: a weighted mean of precision and recall, less a penalty."""
        if self.matches == 0:
            return 0.0
        precision = self.predicted_matched / self.predicted_weight
        recall = self.reference_matched / self.reference_weight
        mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
        return mean * (1 - GAMMA * (self.chunks / self.matches) ** BETA)


def meteor_words(tokens: Sequence[str]) -> MeteorWords:
    """Return a tokenized sentence in the words that METEOR's `-norm` makes of it."""
    last = len(tokens) - 1
    words = tuple(
        word
        for place, token in enumerate(tokens)
        for word in _divide(token, place < last and tokens[place + 1][0].islower())
    )
    weight = sum((_weight(word) for word in words), 0.0)
    return MeteorWords(words, tuple(stem(word) for word in words), weight)


def meteor_counts(predicted: MeteorWords, reference: MeteorWords) -> MeteorCounts:
    """Return the counts of a sentence against one reference."""
    pairs, chunks = align(predicted.words, reference.words, predicted.stems, reference.stems)
    in_predicted = in_reference = 0.0
    for place, other, exact in pairs:
        value = 1.0 if exact else STEM_WEIGHT
        in_predicted += value * _weight(predicted.words[place])
        in_reference += value * _weight(reference.words[other])
    complete = chunks == 1 and len(pairs) == len(predicted.words) == len(reference.words)
    return MeteorCounts(
        predicted.weight,
        reference.weight,
        in_predicted,
        in_reference,
        len(pairs),
        0 if complete else chunks,  # two equal sentences have no penalty
    )


def best_counts(predicted: MeteorWords, references: Sequence[MeteorWords]) -> MeteorCounts:
    """Return the counts against the reference with the highest score, the first among equals."""
    return max(
        (meteor_counts(predicted, reference) for reference in references), key=MeteorCounts.score
    )


def _weight(word: str) -> float:
    return 1 - DELTA if word in FUNCTION_WORDS else DELTA


@lru_cache(maxsize=2**17)
def _divide(token: str, before_word: bool) -> tuple[str, ...]:
    """Return the words of a token: hyphens, symbols, apostrophes and a last period part them."""
    if token.isalnum():
        return (token,)
    token = re.sub(r"([^\w.'`,-]|_)", r" \1 ", token)
    token = re.sub(r"(?<!\d),|,(?!\d)", " , ", token)
    token = re.sub(r"(\w)-+(\w)", r"\1 \2", token)  # of a-b-c, the first alone: b is taken
    token = re.sub(r"(?<![^\W\d_])'", " ' ", token)
    token = re.sub(r"(?<=[^\W\d_])'(?![^\W\d_])", " ' ", token)
    token = re.sub(r"(?<=[^\W\d_])'(?=[^\W\d_])", " '", token)
    if token.endswith(".") and not before_word and not re.search(r"\w\.\w.*\.$", token):
        token = token[:-1] + " ."
    return tuple(token.split())
