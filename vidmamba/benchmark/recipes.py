"""What a benchmark compares: named recipes, each the common settings with a few things changed."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vidmamba.config import Config, from_plain, to_plain
from vidmamba.models.segmenter import SegmenterConfig
from vidmamba.tasks.optim import OptimConfig
from vidmamba.tasks.segmentation import LossConfig
from vidmamba.training import TrainerConfig

ONLY_VARIANT = "only"
"""The name of a recipe's one candidate where it lists no variants."""

PARTS = ("model", "optim", "loss", "trainer", "weak")
"""What a recipe may change."""

Overrides = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class WeakConfig:
    """Training by the order of each video's actions, which are placed in it first."""

    rounds: int = 0
    """Times that the actions are placed; 0 trains on the labels of frames."""

    epochs: int = 5
    """Passes over the training videos between two placings."""

    duration_weight: float | int = 20
    """Factor of the lengths' log-probabilities where actions are placed."""

    def __post_init__(self) -> None:
        if self.rounds < 0 or self.epochs < 1 or self.duration_weight < 0:
            raise ValueError(
                f"rounds >= 0, epochs >= 1 and duration_weight >= 0 must hold, got {self}"
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a recipe changes of the benchmark's common settings."""

    model: Overrides = field(default_factory=dict)
    """Fields of the model's config that this recipe sets, nested as there."""

    optim: Overrides = field(default_factory=dict)
    """Fields of the optimiser's config that this recipe sets."""

    loss: Overrides = field(default_factory=dict)
    """Fields of the loss's config that this recipe sets."""

    trainer: Overrides = field(default_factory=dict)
    """Fields of the trainer's config that this recipe sets, as its epochs."""

    weak: Overrides = field(default_factory=dict)
    """Fields of `WeakConfig` that this recipe sets: rounds above 0 train by orders alone."""

    variants: dict[str, dict[str, Overrides]] = field(default_factory=dict)
    """Candidates to choose among, by name: each changes more fields of the parts above; all of them
    are trained, one is chosen for each split, the first where they tie."""

    decodings: tuple[str, ...] | None = None
    """Names of the decodings to choose among; null for all that the benchmark lists."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that one training run is made of, but its data and seed."""

    model: SegmenterConfig = SegmenterConfig()
    """The network."""

    optim: OptimConfig = OptimConfig()
    """Optimiser and schedule."""

    loss: LossConfig = LossConfig()
    """What is minimised."""

    trainer: TrainerConfig = TrainerConfig()
    """Length, device and logs."""

    weak: WeakConfig = WeakConfig()
    """Whether training knows the order of actions alone."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One variant of a recipe, ready to train."""

    recipe: str
    """The recipe's name, a row of the table."""

    variant: str
    """The variant's name."""

    settings: Settings
    """What it trains with."""

    @property
    def name(self) -> str:
        """Recipe and variant, as folders and choices call it."""
        return self.recipe if self.variant == ONLY_VARIANT else f"{self.recipe}-{self.variant}"


def candidates_of(recipes: Mapping[str, Recipe], base: Settings) -> dict[str, list[Candidate]]:
    """Return every recipe's candidates.

    Raises:
        ValueError: there is no recipe, or a name that no folder should have, or a recipe sets what
            no config has (the message names it).
    """
    if not recipes:
        raise ValueError("recipes: name at least one, as `recipes: {mine: {}}`")
    for name in (*recipes, *(name for recipe in recipes.values() for name in recipe.variants)):
        if not re.fullmatch(r"\w[\w.]*", name):  # they name folders, joined by hyphens
            raise ValueError(f"recipes: names are letters, digits, _ and ., got {name!r}")
    return {name: [*_candidates(name, recipe, base)] for name, recipe in recipes.items()}


def _candidates(name: str, recipe: Recipe, base: Settings) -> Iterator[Candidate]:
    own = {part: getattr(recipe, part) for part in PARTS}
    settings = override(base, own, at=f"recipes.{name}")
    for variant, changes in (recipe.variants or {ONLY_VARIANT: {}}).items():
        at = f"recipes.{name}.variants.{variant}"
        yield Candidate(recipe=name, variant=variant, settings=override(settings, changes, at=at))


def override(settings: Config, changes: Mapping[str, Any], *, at: str) -> Config:
    """Return the settings with some nested fields set.

    Raises:
        ValueError: a key that no config has, or a value of another kind than the field's.
    """
    merged = _merge(type(settings), to_plain(settings), changes, at)
    try:
        return from_plain(type(settings), merged)
    except ValueError as error:
        raise ValueError(f"{at}: {error}") from error


def _merge(kind: Any, base: dict[str, Any], changes: Mapping[str, Any], at: str) -> dict[str, Any]:
    merged, types = dict(base), get_type_hints(kind)
    for key, value in changes.items():
        here = f"{at}.{key}"
        if key not in base:
            raise ValueError(f"{here}: there is no such option; there are {', '.join(base)}")
        if is_dataclass(types[key]) and isinstance(value, Mapping):
            merged[key] = _merge(types[key], base[key], value, here)
        elif _fits(types[key], value):
            merged[key] = value
        elif get_origin(types[key]) is Literal:
            known = ", ".join(map(str, get_args(types[key])))
            raise ValueError(f"{here}: expected one of {known}, got {value!r}")
        else:
            raise ValueError(f"{here}: expected something like {base[key]!r}, got {value!r}")
    return merged


def _fits(kind: Any, value: Any) -> bool:
    """Whether a plain value may be that of a field of a type; a whole number is a float, too."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in arguments)
    if origin in (Union, UnionType):
        return any(_fits(one, value) for one in arguments)
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_fits(arguments[0], one) for one in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is (NoneType if kind is None else kind)
