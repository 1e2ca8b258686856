"""Sentences to tokens as coco-caption does it, which runs Stanford's PTBTokenizer in Java."""

import re
from functools import lru_cache
from itertools import zip_longest
from typing import get_args

from vidmamba.metrics.captions.token_rules import (
    ALIKE,
    DIVIDED,
    ENTITIES,
    NAMES,
    PUNCTUATION,
    SPACED,
    STARTERS,
    Following,
    token_pattern,
)

_PATTERNS = {following: token_pattern(following) for following in get_args(Following)}
_AREA_CODE = re.compile(r"\((\d{3})\)(?=\s?\d{3}-\d{4}(?!\d))")
_ENTITY = re.compile("|".join(ENTITIES))
_SPACED = re.compile("|".join(SPACED))


def tokenize(sentence: str) -> list[str]:
    """Return the tokens of a sentence in lower case, without punctuation.

    Equal to pycocoevalcap's `PTBTokenizer` but for what that one loses or cannot read: it drops
    emoji and other characters above U+FFFF, which are kept here, as tokens.
    """
    if not sentence.isascii() or "(" in sentence or "&" in sentence:
        sentence = sentence.translate(ALIKE)
        sentence = _ENTITY.sub(lambda found: ENTITIES[found.group()], sentence)
        sentence = _SPACED.sub(lambda found: f" {SPACED[found.group()]} ", sentence)
        sentence = _AREA_CODE.sub(r"-lrb-\1-rrb-", sentence)
    words = sentence.split()
    tokens: list[str] = []
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        tokens += _tokens_of(word, _kind(following))
    return tokens


def _kind(word: str) -> Following:
    if word[:1].isdecimal():
        return "number"
    return "starter" if word in STARTERS else "other"


@lru_cache(maxsize=2**17)
def _tokens_of(word: str, following: Following) -> tuple[str, ...]:
    """Return the tokens of what stands between spaces."""
    lowered = word.lower()
    if word.isascii() and word.isalpha():
        return DIVIDED.get(lowered, (lowered,))
    tokens: list[str] = []
    for found in _PATTERNS[following].finditer(word):
        token = found.group().lower()
        if found["suffix"] is not None:
            token = token.replace("’", "'")  # noqa: RUF001
        elif not token[0].isalnum():
            token = _name(token)
        if token not in PUNCTUATION:
            tokens += DIVIDED.get(token, (token,))
    return tuple(tokens)


def _name(mark: str) -> str:
    """Return the token that a mark becomes; runs of two to four hyphens are one dash."""
    if mark.startswith("--") and len(mark) < 5:
        return "--"
    if len(mark) == 1:
        return NAMES.get(mark, mark)
    return mark.replace("(", "-lrb-").replace(")", "-rrb-") if mark[-1] in "()" else mark
