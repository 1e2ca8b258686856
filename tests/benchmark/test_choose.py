"""Choices are made by the best mean, and never by anything of the split's own test videos."""

import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidmamba.benchmark import Protocol, Recipe
from vidmamba.benchmark.choose import Choice, Scorer, best_of, choose, sequence_accuracy
from vidmamba.benchmark.evidence import Evidence, Splits
from vidmamba.benchmark.harness import Harness
from vidmamba.benchmark.options import Option
from vidmamba.benchmark.outputs import RunFiles
from vidmamba.benchmark.protocol import ChooseBy
from vidmamba.benchmark.recipes import Candidate, Settings
from vidmamba.benchmark.runs import train_run
from vidmamba.datasets.records import VideoItem
from vidmamba.metrics.videos import COMPATS
from vidmamba.tasks.segmentation import FramePrediction

from .conftest import DECODINGS, MODEL, OPTIM, SPLITS, TRAINER, Folder

WAYS: tuple[ChooseBy, ...] = ("validation", "other_splits", "nested")
RECIPES = {
    "mine": Recipe(variants={"slow": {}, "fast": {"optim": {"lr": 0.1}}}),
    "rival": Recipe(optim={"lr": 1e-3}),
}


def harness_of(
    folder: Folder,
    root: Path,
    choose_by: ChooseBy,
    seeds: tuple[int, ...] = (0, 1),
    choose_seeds: int | None = None,
) -> Harness:
    protocol = Protocol(
        splits=tuple(SPLITS), seeds=seeds, choose_by=choose_by, choose_seeds=choose_seeds
    )
    settings = Settings(model=MODEL, optim=OPTIM, trainer=TRAINER)
    return Harness(folder.config, protocol, RECIPES, settings, DECODINGS, root)


def pretend_to_train(harness: Harness) -> None:
    """Give every missing run predictions that depend on its name and the video's alone."""
    for run, folder in harness.choosing_runs():
        data = harness.splits.data(run.data.split, run.without)
        found = {}
        for part in ("validation", "test"):
            for item in getattr(data, part):
                random = np.random.default_rng(zlib.crc32(f"{run.name} {item.name}".encode()))
                probabilities = random.dirichlet([1, 1, 1], item.num_frames)
                found[f"{part}/{item.name}"] = FramePrediction(probabilities, None)
        RunFiles(folder).write({"run": run.name}, found)


def figures(choices: Mapping[str, Mapping[int, Choice]], split: int) -> dict[str, Any]:
    """What was chosen for a split, and every score behind it, exactly."""
    return {name: by_split[split].as_dict() for name, by_split in choices.items()}


@pytest.mark.parametrize("choose_by", WAYS)
def test_no_video_that_a_split_tests_is_scored_or_decoded_by_for_its_choice(
    choose_by: ChooseBy, folder: Folder, tmp_path: Path
) -> None:
    harness = harness_of(folder, tmp_path / "runs", choose_by)
    for split, tested in SPLITS.items():
        evidence = harness.splits.evidence(split)
        scored = {item.name for one in evidence for item in one.items}
        taught = {item.name for one in evidence for item in one.taught}
        assert scored
        assert taught
        assert not (scored | taught) & {*tested}
        assert all(
            not {i.name for i in one.items} & {i.name for i in one.taught} for one in evidence
        )


@pytest.mark.parametrize("choose_by", WAYS)
def test_labels_of_a_splits_test_videos_cannot_change_its_choice_by_given_models(
    choose_by: ChooseBy, folder: Folder, tmp_path: Path
) -> None:
    before = harness_of(folder, tmp_path / "before", choose_by)
    pretend_to_train(before)
    folder.change_labels_of_test(2)
    after = harness_of(folder, tmp_path / "after", choose_by)
    pretend_to_train(after)
    assert figures(after.choices(), 2) == figures(before.choices(), 2)
    if choose_by != "validation":  # the same labels do count for the others
        assert figures(after.choices(), 1) != figures(before.choices(), 1)


def test_a_seed_is_run_whole_before_the_next(folder: Folder, tmp_path: Path) -> None:
    harness = harness_of(folder, tmp_path, "other_splits", seeds=(0, 1, 2), choose_seeds=1)
    pretend_to_train(harness)
    seeds = [run.seed for run, _ in harness.test_runs(harness.choices())]
    assert seeds == sorted(seeds)
    assert {*seeds} == {1, 2}


@pytest.mark.parametrize("choose_by", ["validation", "nested"])
def test_they_cannot_change_it_through_training_either(
    choose_by: ChooseBy, folder: Folder, tmp_path: Path
) -> None:
    def trained(root: Path) -> Harness:
        harness = harness_of(folder, root, choose_by, seeds=(0,))
        own = [
            (run, at)
            for run, at in harness.choosing_runs()
            if 2 in (run.without, run.data.split if choose_by == "validation" else None)
        ]
        for run, at in own:
            train_run(run, at, jobs=1, keep_checkpoint=False)
        return harness

    def choice(harness: Harness) -> dict[str, Any]:
        options = [option for options in harness.options.values() for option in options]
        return harness.choose_among(2, options).as_dict()

    before = choice(trained(tmp_path / "before"))
    folder.change_labels_of_test(2)
    assert choice(trained(tmp_path / "after")) == before


def test_the_models_of_the_other_splits_did_train_on_a_splits_test_videos(folder: Folder) -> None:
    """What `other_splits` saves training by, and what `nested` is for."""
    ways: dict[ChooseBy, bool] = {"other_splits": True, "nested": False}
    for choose_by, seen in ways.items():
        protocol = Protocol(splits=(1, 2, 3), choose_by=choose_by)
        splits = Splits(folder.config, protocol)
        for one in splits.evidence(1):
            train = {item.name for item in splits.data(one.model, one.without).train}
            assert bool(train & {*SPLITS[1]}) == seen


def test_a_sequence_is_right_if_all_its_actions_are_there_in_order() -> None:
    true = np.array([0, 1, 1, 0, 2, 2, 0, 1])
    late = np.array([1, 0, 0, 2, 0, 0, 0, 1])
    twice = np.array([0, 1, 0, 1, 2, 2, 0, 1])
    joined = np.array([0, 1, 1, 0, 2, 2, 2, 0])
    pairs = [(late, true), (twice, true), (joined, true), (true, true)]
    assert sequence_accuracy(pairs, (0,)) == 50
    assert sequence_accuracy(pairs) == 25  # late begins without the background


def _item(name: str, true: list[int]) -> VideoItem:
    return VideoItem(
        name=name,
        features=np.zeros((len(true), 1), dtype=np.float32),
        labels=np.array(true),
        timestamps=np.arange(len(true), dtype=np.float64),
    )


def _option(name: str) -> Option:
    candidate = Candidate(recipe=name, variant="only", settings=Settings())
    return Option(candidate=candidate, decoding="likeliest")


def test_the_best_mean_over_models_and_seeds_wins_and_of_equals_the_first() -> None:
    one, other = _item("one", [1, 1]), _item("other", [2, 2])
    evidence = [
        Evidence(model=1, part="test", items=(one,), taught=()),
        Evidence(model=2, part="test", items=(other,), taught=()),
        Evidence(model=3, part="test", items=(), taught=()),  # all of its videos were left out
    ]
    right: dict[tuple[str, int, int], bool] = {
        # (option, model, seed): a uneven, b and c right three times in four
        ("a", 1, 0): True, ("a", 1, 1): True, ("a", 2, 0): False, ("a", 2, 1): False,
        ("b", 1, 0): True, ("b", 1, 1): False, ("b", 2, 0): True, ("b", 2, 1): True,
        ("c", 1, 0): True, ("c", 1, 1): True, ("c", 2, 0): True, ("c", 2, 1): False,
    }  # fmt: skip

    scorer = Scorer(
        compat=COMPATS["lea"], class_names=("0", "1", "2", "3"), background=(), evaluation_stride=1
    )

    def score(option: Option, one: Evidence, seed: int) -> dict[str, float]:
        good = right[option.candidate.recipe, one.model, seed]
        labels = {item.name: item.labels if good else item.labels * 0 + 3 for item in one.items}
        return scorer(labels, one.items)

    options = [_option(name) for name in "abc"]
    choice = choose(4, options, evidence, score, seeds=(0, 1))
    assert choice.scores == {"a, likeliest": 50, "b, likeliest": 75, "c, likeliest": 75}
    assert choice.option == options[1]
    assert choice.scored == ("one", "other")
    alone = choose(4, options[:1], evidence, score, seeds=(0, 1))
    assert best_of([alone, choice]).option == options[1]
    assert best_of([choice, alone]).option == options[1]
    assert replace(best_of([alone]), scores=alone.scores) == alone
