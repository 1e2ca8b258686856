"""The shipped benchmarks are complete, and each of their recipes trains."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonargparse import ArgumentParser, set_parsing_settings

from vidmamba.benchmark import benchmark
from vidmamba.benchmark.recipes import Candidate, Settings, candidates_of, override
from vidmamba.datasets.records import LabelledSet, VideoItem
from vidmamba.tasks.segmentation import make_task
from vidmamba.training import fit, seed_everything

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(
    {*(ROOT / "configs").glob("*_benchmark.yaml")}
    - {*(ROOT / "configs").glob("*_captioning_benchmark.yaml")}  # test_captions.py reads those
)
RIVALS = {"dilated_tcn", "windowed_attention", "bilstm"}


def read(config: Path) -> Any:
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_function_arguments(benchmark)
    return parser.instantiate(parser.parse_args([f"--config={config}"]))


def candidates(config: Path) -> list[Candidate]:
    options = read(config)
    settings = Settings(
        model=options.model, optim=options.optim, loss=options.loss, trainer=options.trainer
    )
    found = candidates_of(options.recipes, settings)
    return [candidate for variants in found.values() for candidate in variants]


CANDIDATES = [
    pytest.param(candidate, id=f"{config.stem}-{candidate.name}")
    for config in CONFIGS
    for candidate in candidates(config)
]


WEAK = [config for config in CONFIGS if config.stem.endswith("weak_benchmark")]
CONTESTS = [config for config in CONFIGS if config not in WEAK]


@pytest.mark.parametrize("config", CONTESTS, ids=lambda path: path.stem)
def test_it_is_complete_and_compares_with_equal_care(config: Path) -> None:
    options = read(config)
    assert str(options.output) == f"runs/{config.stem}"
    assert config.stem == f"{options.protocol.published}_benchmark"
    assert len(options.protocol.seeds) == 5
    assert options.protocol.choose_by != "validation"  # the features of training videos are clean
    assert set(options.recipes) > RIVALS
    # as many candidates each, chosen among the same decodings, and never more training for ours
    tried = {name: max(len(recipe.variants), 1) for name, recipe in options.recipes.items()}
    assert len(set(tried.values())) == 1
    assert {recipe.decodings for recipe in options.recipes.values()} == {None}
    assert all(not recipe.loss for recipe in options.recipes.values())


@pytest.mark.parametrize("config", CONTESTS, ids=lambda path: path.stem)
def test_there_are_few_enough_decodings_and_none_is_there_twice(config: Path) -> None:
    decodings = [*read(config).decodings.values()]
    assert len({str(decoding) for decoding in decodings}) == len(decodings) <= 14


@pytest.mark.parametrize("config", WEAK, ids=lambda path: path.stem)
def test_the_weak_recipe_differs_in_its_supervision_alone_and_no_lengths_are_learned(
    config: Path,
) -> None:
    frames, transcripts = candidates(config)
    assert frames.settings.loss.supervision == "frames"
    weak = {"weak": {"rounds": transcripts.settings.weak.rounds}}
    assert transcripts.settings.weak.rounds > 0
    assert transcripts.settings == override(frames.settings, weak, at="test")
    contest = candidates(config.with_stem(config.stem.replace("_weak", "")))
    assert frames.settings in [candidate.settings for candidate in contest]
    options = read(config)
    assert str(options.output) == f"runs/{config.stem}"
    assert options.protocol == read(CONTESTS[WEAK.index(config)]).protocol
    for decoding in options.decodings.values():
        assert decoding.kind != "boundary"
        assert decoding.kind != "grammar" or decoding.duration_weight == 0


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_it_trains_for_a_step(candidate: Candidate, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    items = tuple(
        VideoItem(
            name=f"v{i}",
            features=random.standard_normal((40 + 7 * i, 128)).astype(np.float32),
            labels=random.integers(0, 3, 40 + 7 * i),
            timestamps=np.arange(40 + 7 * i) / 3.0,
        )
        for i in range(2)
    )
    data = LabelledSet(
        class_names=("background", "stir", "pour"),
        background=(0,),
        train=items,
        validation=(),
        test=items,
        feature_key={"width": 128},
    )
    once = {"epochs": 1, "batch_size": 2, "accelerator": "cpu", "ema": None}
    settings = override(candidate.settings, {"trainer": once}, at="test")
    seed_everything(0)
    task = make_task(
        data,
        model=settings.model,
        optim=settings.optim,
        loss=settings.loss,
        data_config={},
    )
    before = {name: value.clone() for name, value in task.net.named_parameters()}
    fit(task, data, settings.trainer, seed=0, output=tmp_path)
    after = dict(task.net.named_parameters())
    assert all(bool(value.isfinite().all()) for value in after.values())
    assert any(not value.equal(after[name]) for name, value in before.items())
