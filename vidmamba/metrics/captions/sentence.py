"""A tokenized sentence and what the metrics count in it, each computed once."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from vidmamba.metrics.captions.meteor import MeteorWords, meteor_words
from vidmamba.metrics.captions.tokens import tokenize

LONGEST = 4
"""Words of the longest n-grams that BLEU and CIDEr count."""

NGram = tuple[str, ...]


@dataclass(frozen=True)
class Sentence:
    """The tokens of a caption."""

    tokens: NGram

    @cached_property
    def ngrams(self) -> Counter[NGram]:
        """How often each n-gram of 1 to LONGEST words occurs."""
        return Counter(
            self.tokens[start : start + size]
            for size in range(1, LONGEST + 1)
            for start in range(len(self.tokens) - size + 1)
        )

    @cached_property
    def meteor(self) -> MeteorWords:
        """The sentence as METEOR reads it."""
        return meteor_words(self.tokens)


Scored = Sequence[tuple[Sentence, Sequence[Sentence]]]
"""Predicted sentences, each with its references, of which there is at least one."""


def read_sentences(texts: Iterable[str]) -> dict[str, Sentence]:
    """Return each text's sentence; equal ones share one."""
    return {text: Sentence(tuple(tokenize(text))) for text in set(texts)}
