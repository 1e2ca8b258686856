"""Who did what: sentences of a known grammar, taken apart and compared part by part."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vidmamba.timeline import Caption

PARTS = ("subject", "verb", "object", "place")


class Statement(NamedTuple):
    """The parts of a sentence; an empty one where the sentence has none."""

    subject: str
    verb: str
    object: str
    place: str


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """The forms that the sentences of a data set have."""

    forms: tuple[str, ...]
    """Regular expressions with the groups `subject`, `verb`, `object`, `place`, as far as the form
    has them; the first that matches the whole sentence, in lower case and without its full stop,
    counts."""

    memory_verbs: frozenset[str] = frozenset()
    """Verbs that the moment's pictures do not tell: what they say happened before."""

    def parse(self, sentence: str) -> Statement | None:
        """Return the parts of a sentence, None if no form fits it."""
        text = " ".join(sentence.lower().split()).rstrip(". ")
        for form in self.forms:
            if match := re.fullmatch(form, text):
                found = match.groupdict(default="")
                return Statement(*(found.get(part, "") for part in PARTS))
        return None


_SUBJECT = r"(?:the|a) (?P<subject>\w+ in \w+)"

ERRANDS = Grammar(
    forms=tuple(
        f"{_SUBJECT} {predicate}"
        for predicate in (
            r"(?P<verb>enters) through the (?P<place>\w+ door)",
            r"(?P<verb>walks) (?:to the )?(?P<place>\w+ shelf|about)",
            r"(?P<verb>looks around|waits|passes by|leaves empty-handed)",
            r"(?P<verb>takes) the (?P<object>\w+ \w+) from the (?P<place>\w+ shelf)",
            r"(?P<verb>puts) the (?P<object>\w+ \w+) into (?:his|her|their) (?P<place>satchel)",
            r"(?P<verb>puts) the (?P<object>\w+ \w+) back on the (?P<place>\w+ shelf)",
            r"(?P<verb>puts) the (?P<object>\w+ \w+) into the crate on the (?P<place>table)",
            r"(?P<verb>leaves with) the (?P<object>\w+ \w+)",
        )
    ),
    memory_verbs=frozenset({"leaves with", "leaves empty-handed"}),
)
"""The sentences of `errands`; who leaves with a thing took it hundreds of frames before."""


def score_who_did_what(
    videos: Sequence[tuple[Sequence[Caption], Sequence[Caption]]],
    grammar: Grammar,
    *,
    least_overlap: float | int = 0.5,
) -> dict[str, float]:
    """Return how many percent of the true sentences were told right, as a whole and by part.

    Each true sentence is answered by the predicted one that `pair_captions` gives it; without one,
    all its parts are wrong. A part counts among the true sentences that have it: `subject`, `verb`,
    `object`, `place`; `sentence` asks for all four at once. With `memory_` before it, the same of
    the sentences whose true verb is among the grammar's `memory_verbs`; `found` is how many were
    answered at all.

    Args:
        videos: predicted and true captions of each.
        grammar: the forms of the true sentences; a predicted one that fits none is wrong.
        least_overlap: least temporal IoU, in 0..1, with which one sentence answers another.

    Raises:
        ValueError: there is no true sentence, or one that the grammar has no form for.
    """
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for predicted, true in videos:
        answers = pair_captions(predicted, true, least_overlap=least_overlap)
        for caption, answer in zip(true, answers, strict=True):
            statement = grammar.parse(caption.text)
            if statement is None:
                raise ValueError(f"the grammar has no form for the true sentence {caption.text!r}")
            told = None if answer is None else grammar.parse(predicted[answer].text)
            marks = _mark(statement, told) | {"found": answer is not None}
            for prefix in ("", "memory_") if statement.verb in grammar.memory_verbs else ("",):
                asked.update(prefix + name for name in marks)
                right.update(prefix + name for name, is_right in marks.items() if is_right)
    if not asked:
        raise ValueError("who did what needs one true sentence or more, got none")
    names = [p + n for p in ("", "memory_") for n in ("sentence", *PARTS, "found")]
    return {name: 100 * right[name] / asked[name] for name in names if asked[name]}


def pair_captions(
    predicted: Sequence[Caption], true: Sequence[Caption], *, least_overlap: float | int
) -> list[int | None]:
    """Return for each true caption the index of the predicted one that is about the same time.

    The pairs of highest temporal IoU come first, each caption in one pair at most; among equals,
    the earlier ones.
    """
    overlaps = [
        (-_overlap(p, t), row, column)
        for row, t in enumerate(true)
        for column, p in enumerate(predicted)
        if min(p.end, t.end) > max(p.start, t.start)
    ]
    answers: list[int | None] = [None] * len(true)
    used: set[int] = set()
    for negative, row, column in sorted(overlaps):
        if -negative < least_overlap:
            break
        if answers[row] is None and column not in used:
            answers[row] = column
            used.add(column)
    return answers


def _mark(true: Statement, told: Statement | None) -> dict[str, bool]:
    """Say of each part that the true sentence has whether it was told right."""
    marks = {
        part: told is not None and getattr(told, part) == getattr(true, part)
        for part in PARTS
        if getattr(true, part)
    }
    return {"sentence": told == true} | marks


def _overlap(one: Caption, other: Caption) -> float:
    shared = min(one.end, other.end) - max(one.start, other.start)
    return shared / (one.end - one.start + other.end - other.start - shared)
