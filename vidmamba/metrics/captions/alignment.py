"""Which word of one sentence is matched with which of another, as METEOR aligns them.

Denkowski and Lavie, Meteor 1.3, WMT 2011, section 2.1: of all one-to-one matchings, the one that
covers most words; of those, the one with fewest chunks (runs of words that are adjacent in both
sentences); of those, the one with the smallest sum of distances between the matches' positions.
"""

from collections.abc import Sequence
from typing import NamedTuple

_BEAM = 40  # partial alignments that are followed, as in METEOR


class Pair(NamedTuple):
    """A word of the predicted sentence and the word of the reference that it is matched with."""

    predicted: int
    reference: int
    exact: bool


class _Path(NamedTuple):
    """Matched pairs of the first words; the smallest is the best."""

    inexact: int
    chunks: int
    unmatched: int
    distance: int
    pairs: tuple[Pair, ...]


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
    candidates = [places.get(stem, []) for stem in predicted_stems]
    rivals = [0] * len(reference)
    for own in candidates:
        for place in own:
            rivals[place] += 1
    # (places taken that others want too, the place of the word before) -> the best path there
    paths: dict[tuple[frozenset[int], int], _Path] = {
        (frozenset(), -2): _Path(0, 0, 0, 0, ()),
    }
    for position, own in enumerate(candidates):
        certain = len(own) == 1 and rivals[own[0]] == 1
        following: dict[tuple[frozenset[int], int], _Path] = {}
        for (taken, before), path in paths.items():
            for place in own:
                if place in taken:
                    continue
                state = (taken if rivals[place] == 1 else taken | {place}, place)
                pair = Pair(position, place, predicted[position] == reference[place])
                longer = _Path(
                    path.inexact + (not pair.exact),
                    path.chunks + (place != before + 1),
                    path.unmatched,
                    path.distance + abs(position - place),
                    (*path.pairs, pair),
                )
                if state not in following or longer < following[state]:
                    following[state] = longer
            if not certain:
                state = (taken, -2)
                skipped = path._replace(inexact=path.inexact + 1, unmatched=path.unmatched + 1)
                if state not in following or skipped < following[state]:
                    following[state] = skipped
        if len(following) > _BEAM:
            best = sorted(following.items(), key=lambda item: item[1])
            following = dict(best[:_BEAM])
        paths = following
    best_path = min(paths.values())
    return best_path.pairs, best_path.chunks
