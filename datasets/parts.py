"""Which videos train, which choose and which are tested on: a format's own subsets, or shares."""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vidmamba.datasets.annotations import AnnotatedVideo

logger = logging.getLogger(__name__)

Part = Literal["train", "validation", "test"]

SUBSETS: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""What formats call their subsets."""


@dataclass(frozen=True, kw_only=True)
class PartRule:
    """How a set is cut where its format does not cut it, or not all the way."""

    validation: float | int = 0.2
    """Held out from the training videos, as a share or a count (int)."""
    validation_seed: int = 0
    """Fixes which."""
    test: float | int = 0.2
    """Tested on, where no subset is; as a share of all videos, or a count (int)."""
    test_seed: int = 0
    """Fixes which."""
    train_subsets: tuple[str, ...] | None = None
    """Subsets to train on; None for what their names say."""
    test_subsets: tuple[str, ...] | None = None
    """Subsets to test on."""


def assign_parts(videos: Sequence[AnnotatedVideo], rule: PartRule) -> dict[str, Part]:
    """Return the part of each video, by its name.

    Subsets named train, validation or test (or alike) are those parts. Where one is missing, or has
    no annotations (its videos are then left out): of train and validation, validation is tested on,
    as is done on ActivityNet; of validation and test, validation is trained on, as is done on
    THUMOS. What then has no part of its own is cut, by the names of the videos: `test` from the
    training videos, and `validation` from those that remain, never from the test videos.

    Raises:
        ValueError: a subset has an unknown name, or only some videos have a subset, or a share
            leaves nothing to train on.
    """
    roles = _roles(videos, rule)
    parts: dict[str, Part] = {
        v.name: roles[v.subset] for v in videos if v.subset in roles and v.subset is not None
    }
    if not roles:
        parts = {video.name: "train" for video in videos}
    groups = {v.name: v.video_labels[0] if v.video_labels else "" for v in videos}
    shares: tuple[tuple[Part, float | int, int], ...] = (
        ("test", rule.test, rule.test_seed),
        ("validation", rule.validation, rule.validation_seed),
    )
    for part, share, seed in shares:
        if part not in roles.values():
            train = [name for name, own in parts.items() if own == "train"]
            drawn = hold_out(train, share, seed=seed, groups=groups, part=part)
            parts |= dict.fromkeys(drawn, part)
            logger.info("%s: %d of %d videos, drawn by name", part, len(drawn), len(train))
    return parts


def hold_out(
    names: Sequence[str],
    share: float | int,
    *,
    seed: int,
    groups: Mapping[str, str] | None = None,
    part: str = "validation",
) -> set[str]:
    """Draw some of the training videos, from every group as large a share.

    Which ones, follows from their names and the seed: the order of a list has no say.

    Args:
        names: of the training videos.
        share: how many, as a count (int), or as a share of which one or more is left.
        seed: fixes the draw.
        groups: of each video, such as its class.
        part: what they become, for the error.

    Raises:
        ValueError: nothing would be left to train on.
    """
    count = share
    if not isinstance(count, int):
        count = max(1, round(share * len(names))) if share > 0 else 0
    if not 0 <= count < len(names):
        raise ValueError(
            f"{part} must leave one or more of {len(names)} training videos, got {share}; "
            "0 holds none back"
        )
    drawn = np.random.default_rng(seed).permutation(len(names))
    order = [sorted(names)[index] for index in drawn]
    group_of = {name: (groups or {}).get(name, "") for name in order}
    sizes, met = Counter(group_of.values()), Counter[str]()
    rank = {}
    for name in order:
        group = group_of[name]
        rank[name] = (met[group] + 0.5) / sizes[group]
        met[group] += 1
    return {*sorted(order, key=lambda name: rank[name])[:count]}  # stable: then as drawn


def _roles(videos: Sequence[AnnotatedVideo], rule: PartRule) -> dict[str, Part]:
    """Return what each annotated subset is for; nothing where the format has no subsets."""
    where: dict[str | None, str] = {}
    for video in videos:
        where.setdefault(video.subset, video.where)
    if None in where:
        if len(where) > 1:
            others = sorted(name for name in where if name is not None)
            raise ValueError(f"{where[None]}: no subset is named here, but {others} elsewhere")
        if rule.train_subsets or rule.test_subsets:
            raise ValueError(f"{where[None]}: no video has a subset; leave them out, or give test")
        return {}
    annotated = {v.subset for v in videos if v.subset and (v.segments or v.video_labels)}
    subsets = [name for name in where if name in annotated and name is not None]
    if rule.train_subsets is not None or rule.test_subsets is not None:
        return _chosen_roles(subsets, rule)
    roles: dict[str, Part] = {}
    for name in subsets:
        if name.casefold() not in SUBSETS:
            raise ValueError(
                f"{where[name]}: subset {name!r} is none of {', '.join(SUBSETS)}; say what it is "
                "for with train_subsets and test_subsets"
            )
        roles[name] = SUBSETS[name.casefold()]
    if set(roles.values()) == {"train", "validation"}:
        roles = {n: "test" if role == "validation" else role for n, role in roles.items()}
    elif "train" not in roles.values():
        roles = {n: "train" if role == "validation" else role for n, role in roles.items()}
    if "train" not in roles.values():
        at = videos[0].where
        raise ValueError(f"{at}: of subsets, only {subsets} are annotated; none is to train on")
    _tell(roles, {name for name in where if name is not None} - annotated)
    return roles


def _chosen_roles(subsets: Collection[str], rule: PartRule) -> dict[str, Part]:
    train, test = rule.train_subsets or (), rule.test_subsets or ()
    if unknown := sorted({*train, *test} - {*subsets}):
        raise ValueError(f"no annotated subset is called {unknown}; there are {sorted(subsets)}")
    if both := sorted({*train} & {*test}):
        raise ValueError(f"subsets {both} are to be trained and tested on")
    if not train:
        raise ValueError(f"train_subsets must name some of {sorted(subsets)}")
    roles: dict[str, Part] = {}
    for name in subsets:
        if name in train:
            roles[name] = "train"
        elif name in test:
            roles[name] = "test"
        elif SUBSETS.get(name.casefold()) == "validation":
            roles[name] = "validation"
    _tell(roles, {*subsets} - {*roles})
    return roles


def _tell(roles: Mapping[str, Part], left_out: Collection[str]) -> None:
    said = ", ".join(f"{name} for {part}" for name, part in roles.items())
    more = f"; left out: {', '.join(sorted(left_out))}" if left_out else ""
    logger.info("subsets: %s%s", said, more)
