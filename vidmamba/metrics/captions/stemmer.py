"""English words to stems: Porter's second algorithm, which METEOR uses.

M. F. Porter, "The English (Porter2) stemming algorithm", 2002,
https://snowballstem.org/algorithms/english/stemmer.html; the steps are numbered as there.
"""

import re
from functools import lru_cache

_FIXED = {
    "skis": "ski",
    "skies": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "idly": "idl",
    "gently": "gentl",
    "ugly": "ugli",
    "early": "earli",
    "only": "onli",
    "singly": "singl",
} | {word: word for word in ("sky", "news", "howe", "atlas", "cosmos", "bias", "andes")}
_KEPT = frozenset(
    ["inning", "outing", "canning", "herring", "earring", "proceed", "exceed", "succeed"]
)

_REGION = re.compile(r".*?[aeiouy][^aeiouy]")
_PREFIX = re.compile(r"gener|commun|arsen")
_VOWEL = re.compile(r"[aeiouy]")
_SHORT = re.compile(r"(?:^|.*[^aeiouy])[aeiouy][^aeiouywxY]|^[aeiouy][^aeiouy]")
_DOUBLES = ("bb", "dd", "ff", "gg", "mm", "nn", "pp", "rr", "tt")

_STEP_2 = {
    "ization": "ize",
    "ational": "ate",
    "fulness": "ful",
    "ousness": "ous",
    "iveness": "ive",
    "tional": "tion",
    "biliti": "ble",
    "lessli": "less",
    "entli": "ent",
    "ation": "ate",
    "alism": "al",
    "aliti": "al",
    "ousli": "ous",
    "iviti": "ive",
    "fulli": "ful",
    "enci": "ence",
    "anci": "ance",
    "abli": "able",
    "izer": "ize",
    "ator": "ate",
    "alli": "al",
    "bli": "ble",
    "ogi": "og",
    "li": "",
}
_STEP_3 = {
    "ational": "ate",
    "tional": "tion",
    "alize": "al",
    "icate": "ic",
    "iciti": "ic",
    "ative": "",
    "ical": "ic",
    "ness": "",
    "ful": "",
}
_STEP_4 = (
    *("ement", "ance", "ence", "able", "ible", "ment", "ant", "ent", "ism", "ate", "iti", "ous"),
    *("ive", "ize", "ion", "al", "er", "ic"),
)


@lru_cache(maxsize=2**17)
def stem(word: str) -> str:
    """Return the stem of a lower-case English word; other words come back as they are, or nearly.

    >>> [stem(word) for word in ("running", "runs", "happily", "generously")]
    ['run', 'run', 'happili', 'generous']
    """
    if len(word) <= 2:
        return word
    if word in _FIXED:
        return _FIXED[word]
    word = word.removeprefix("'")
    word = re.sub(r"^y|(?<=[aeiouy])y", "Y", word)
    first = _region_start(word, _PREFIX.match(word))
    second = _region_start(word, None, first)
    word = _step_1a(re.sub(r"'s?'?$", "", word))
    if word in _KEPT:
        return word
    word = _step_1b(word, first)
    word = re.sub(r"(?<=.[^aeiouy])[yY]$", "i", word)  # step 1c
    word = _step_2(word, first)
    word = _step_3(word, first, second)
    word = _step_4(word, second)
    return _step_5(word, first, second).lower()


def _region_start(word: str, prefix: re.Match[str] | None, start: int = 0) -> int:
    """Return where R1 or R2 starts: after the first consonant that follows a vowel."""
    if prefix is not None:
        return prefix.end()
    found = _REGION.match(word, start)
    return len(word) if found is None else found.end()


def _is_short(word: str) -> bool:
    return _SHORT.fullmatch(word) is not None


def _step_1a(word: str) -> str:
    if word.endswith("sses"):
        return word[:-2]
    if word.endswith(("ied", "ies")):
        return word[:-2] if len(word) > 4 else word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss")) and _VOWEL.search(word[:-2]):
        return word[:-1]
    return word


def _step_1b(word: str, first: int) -> str:
    for suffix in ("eedly", "ingly", "edly", "eed", "ing", "ed"):
        if not word.endswith(suffix):
            continue
        rest = word.removesuffix(suffix)
        if suffix.startswith("ee"):
            return rest + "ee" if len(rest) >= first else word
        if not _VOWEL.search(rest):
            return word
        if rest.endswith(("at", "bl", "iz")):
            return rest + "e"
        if rest.endswith(_DOUBLES):
            return rest[:-1]
        return rest + "e" if first >= len(rest) and _is_short(rest) else rest
    return word


def _step_2(word: str, first: int) -> str:
    for suffix, new in _STEP_2.items():
        if word.endswith(suffix):
            rest = word.removesuffix(suffix)
            allowed = {"ogi": "l", "li": "cdeghkmnrt"}.get(suffix)
            if len(rest) < first or (allowed is not None and rest[-1:] not in [*allowed]):
                return word
            return rest + new
    return word


def _step_3(word: str, first: int, second: int) -> str:
    for suffix, new in _STEP_3.items():
        if word.endswith(suffix):
            rest = word.removesuffix(suffix)
            return rest + new if len(rest) >= (second if suffix == "ative" else first) else word
    return word


def _step_4(word: str, second: int) -> str:
    for suffix in _STEP_4:
        if word.endswith(suffix):
            rest = word.removesuffix(suffix)
            if len(rest) < second or (suffix == "ion" and rest[-1:] not in ("s", "t")):
                return word
            return rest
    return word


def _step_5(word: str, first: int, second: int) -> str:
    rest = word[:-1]
    if word.endswith("e"):
        gone = len(rest) >= second or (len(rest) >= first and not _is_short(rest))
    else:
        gone = word.endswith("ll") and len(rest) >= second
    return rest if gone else word
