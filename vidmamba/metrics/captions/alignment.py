"""Which word of one sentence is matched with which of another, as METEOR 1.5 aligns them.

Denkowski and Lavie, Meteor 1.3, WMT 2011, section 2.1: a word is matched at most once, as many
words as can be, in the fewest chunks (runs that are adjacent in both sentences), over the smallest
distances. METEOR itself, when asked, ranks them so: words that can be matched in one way are; of
the others, first come most exact matches, then fewest chunks, most matches, smallest distance.
"""

from collections.abc import Sequence

_BEAM = 40  # partial alignments that are followed, as in METEOR
_APART = -2  # "the place before" where the word before has none

Pair = tuple[int, int, bool]
"""A word's place in the predicted sentence, its match's in the reference, and if they are equal."""

# (not exact, chunks, not matched, distance, pairs) of a sentence's first words: least is best
_Path = tuple[int, int, int, int, tuple[Pair, ...]]
# (bits of the places taken that others want too, the place of the word before)
_State = tuple[int, int]


def align(
    predicted: Sequence[str],
    reference: Sequence[str],
    predicted_stems: Sequence[str],
    reference_stems: Sequence[str],
) -> tuple[tuple[Pair, ...], int]:
    """Return the matched pairs, in the predicted sentence's order, and the number of chunks."""
    places: dict[str, list[int]] = {}
    for place, stem in enumerate(reference_stems):
        places.setdefault(stem, []).append(place)
    candidates = [places.get(stem, ()) for stem in predicted_stems]
    wanted = [0] * len(reference)
    for own in candidates:
        for place in own:
            wanted[place] += 1
    paths: dict[_State, _Path] = {(0, _APART): (0, 0, 0, 0, ())}
    for position, own in enumerate(candidates):
        if own:
            exact = [predicted[position] == reference[place] for place in own]
            bits = [1 << place if wanted[place] > 1 else 0 for place in own]
            options = [*zip(own, exact, bits, strict=True)]
            optional = len(own) > 1 or wanted[own[0]] > 1
            paths = _extend(paths, position, options, optional)
        else:
            paths = _skip(paths)
    best = min(paths.values())
    return best[4], best[1]


def _extend(
    paths: dict[_State, _Path],
    position: int,
    options: Sequence[tuple[int, bool, int]],
    optional: bool,
) -> dict[_State, _Path]:
    """Return the paths with one more word; `options`: place, exactness and bit of its matches."""
    following = _skip(paths) if optional else {}
    for (taken, before), (inexact, chunks, unmatched, distance, pairs) in paths.items():
        for place, exact, bit in options:
            if taken & bit:
                continue
            state = (taken | bit, place)
            path = (
                inexact + (not exact),
                chunks + (place != before + 1),
                unmatched,
                distance + abs(position - place),
                (*pairs, (position, place, exact)),
            )
            if state not in following or path < following[state]:
                following[state] = path
    if len(following) > _BEAM:
        following = dict(sorted(following.items(), key=lambda item: item[1])[:_BEAM])
    return following


def _skip(paths: dict[_State, _Path]) -> dict[_State, _Path]:
    """Return the paths with one more word, which is not matched."""
    following: dict[_State, _Path] = {}
    for (taken, _), (inexact, chunks, unmatched, distance, pairs) in paths.items():
        state = (taken, _APART)
        path = (inexact + 1, chunks, unmatched + 1, distance, pairs)
        if state not in following or path < following[state]:
            following[state] = path
    return following
