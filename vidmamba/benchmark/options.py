"""What a choice is made among: a candidate of a recipe with one of its decodings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vidmamba.benchmark.recipes import Candidate, Recipe
from vidmamba.decoding import DecodingConfig


@dataclass(frozen=True, kw_only=True)
class Option:
    """A candidate with one of its decodings."""

    candidate: Candidate
    """What is trained."""

    decoding: str
    """The decoding's name."""

    @property
    def name(self) -> str:
        """Candidate and decoding, for people."""
        return f"{self.candidate.name}, {self.decoding}"


def options_of(
    recipe: Recipe, candidates: Sequence[Candidate], decodings: Mapping[str, DecodingConfig]
) -> list[Option]:
    """Return a recipe's candidates with the decodings that it lists, or all that fit them.

    Raises:
        ValueError: a decoding that there is not, or one that needs a boundary head without one.
    """
    return [
        Option(candidate=candidate, decoding=decoding)
        for candidate in candidates
        for decoding in _decodings_of(recipe, candidate, decodings)
    ]


def _decodings_of(
    recipe: Recipe, candidate: Candidate, decodings: Mapping[str, DecodingConfig]
) -> Iterator[str]:
    told = candidate.settings.model.boundaries
    at = f"recipes.{candidate.recipe}.decodings"
    for name in recipe.decodings or decodings:
        if name not in decodings:
            raise ValueError(f"{at} {name!r}: there are only {', '.join(decodings)}")
        if decodings[name].kind != "boundary" or told:
            yield name
        elif recipe.decodings:
            raise ValueError(
                f"{at} {name!r}: {candidate.name} has no boundary head; set model.boundaries"
            )
