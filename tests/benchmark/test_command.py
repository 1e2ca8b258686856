"""The command from end to end: what it writes, and what a second call does."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vidmamba.benchmark.command as command
import vidmamba.benchmark.workers as workers
from vidmamba.benchmark import Protocol, Recipe
from vidmamba.cli import main
from vidmamba.decoding import DecodingConfig
from vidmamba.metrics import score_videos

from .conftest import DECODINGS, SPLITS, Folder

Bench = Callable[..., Path]


def arrays_in(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return dict(stored)


def orders_right(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Percent of videos whose actions, less background (0), come in the true order."""

    def order(labels: np.ndarray) -> list[int]:
        starts = [0, *(t for t in range(1, len(labels)) if labels[t] != labels[t - 1])]
        return [int(labels[t]) for t in starts if labels[t]]

    return 100 * float(np.mean([order(predicted) == order(true) for predicted, true in pairs]))


def test_one_table_as_text_json_pictures_and_predictions(
    run_benchmark: Bench, folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run_benchmark(
        protocol=Protocol(
            splits=(1, 2, 3), seeds=(0, 1), choose_by="other_splits", published="gtea"
        ),
        recipes={"mine": Recipe(variants={"a": {}, "b": {"trainer": {"epochs": 3}}})},
        decodings=DECODINGS,
        ribbons=2,
    )
    printed = capsys.readouterr().out
    markdown = (out / "benchmark.md").read_text()
    for text in (printed, markdown):
        assert "TDRN: from memory" in text
        assert "other_splits: the test videos of the other splits" in text
        assert "split 2: mine-" in text
    assert max(len(line) for line in printed.split("Choices")[0].splitlines()) <= 80
    content = json.loads((out / "benchmark.json").read_text())
    found = content["recipes"]["mine"]
    assert len(content["runs"]) == 6
    assert all(run["train_seconds"] > 0 and run["parameters"] == 75 for run in content["runs"])
    # the scores, counted again from the predictions by other means
    stored = arrays_in(out / "predictions.npz")
    accuracy = {}
    for seed in (0, 1):
        of_splits = []
        for split, videos in SPLITS.items():
            names = [f"split{split}/{video}" for video in videos]
            for name, video in zip(names, videos, strict=True):
                np.testing.assert_array_equal(stored[f"{name}/true"], folder.labels[video])
            pairs = [
                (stored[f"{name}/mine/seed{seed}"][::2], stored[f"{name}/true"][::2])
                for name in names
            ]
            scores = score_videos(pairs, background=(0,))
            assert found["scores"][str(split)][str(seed)] == pytest.approx(
                scores | {"sequence": orders_right(pairs)}
            )
            of_splits.append(scores["accuracy"])
        accuracy[seed] = np.mean(of_splits)
    assert found["mean"]["accuracy"] == pytest.approx((accuracy[0] + accuracy[1]) / 2)
    spread = abs(accuracy[0] - accuracy[1]) / np.sqrt(2)
    assert found["spread_over_seeds"]["accuracy"] == pytest.approx(spread)
    assert f"{found['mean']['edit']:.1f}" in markdown
    pictures = sorted((out / "ribbons").iterdir())
    assert [path.name for path in pictures] == ["split1_v0.png", "split2_v3.png"]
    with Image.open(pictures[0]) as picture:
        assert picture.width == 1200


def test_a_second_call_trains_nothing_and_a_stopped_one_goes_on(
    run_benchmark: Bench, trained: list[str]
) -> None:
    out = run_benchmark()
    assert len(trained) == 3
    first = (out / "benchmark.json").read_text()
    trained.clear()
    run_benchmark()
    assert trained == []
    assert (out / "benchmark.json").read_text() == first
    [stopped] = (out / "runs").glob("probe/split2-*/run.json")
    stopped.unlink()  # as if killed before the end
    run_benchmark()
    assert trained == ["probe, split 2, seed 0"]


def test_what_changes_a_run_makes_a_new_one_and_what_does_not_finds_the_old(
    run_benchmark: Bench, folder: Folder, trained: list[str]
) -> None:
    run_benchmark()
    trained.clear()
    run_benchmark(decodings=DECODINGS, recipes={"probe": Recipe(trainer={"ribbons": 1})})
    assert trained == []
    run_benchmark(recipes={"probe": Recipe(optim={"lr": 0.02})})
    assert len(trained) == 3
    trained.clear()
    folder.change_labels_of_test(1)  # which splits 2 and 3 train on
    run_benchmark()
    assert trained == ["probe, split 2, seed 0", "probe, split 3, seed 0"]


def test_labels_of_frames_that_only_a_shifted_view_shows_make_a_new_run(
    run_benchmark: Bench, folder: Folder, trained: list[str]
) -> None:
    data = replace(folder.config, stride=3, random_start=True)
    run_benchmark(data=data)
    trained.clear()
    labels = folder.labels["v0"].copy()
    labels[1::3] = (labels[1::3] + 1) % 3
    folder.write_labels("v0", labels)  # which splits 2 and 3 train on
    run_benchmark(data=data)
    assert trained == ["probe, split 2, seed 0", "probe, split 3, seed 0"]


def test_background_makes_a_new_run_where_epochs_are_chosen_by_it_and_there_alone(
    run_benchmark: Bench, folder: Folder, trained: list[str]
) -> None:
    other = replace(folder.config, background=("stir",))
    run_benchmark()
    run_benchmark(data=other)
    assert len(trained) == 3
    trained.clear()
    protocol = Protocol(splits=(1,), seeds=(0,))
    run_benchmark(protocol=protocol)
    run_benchmark(protocol=protocol, data=other)
    assert trained == ["probe, split 1, seed 0"] * 2


def test_nested_choices_train_without_the_split_and_only_what_is_chosen_is_tested(
    run_benchmark: Bench, trained: list[str]
) -> None:
    run_benchmark(
        protocol=Protocol(splits=(1, 2), seeds=(0, 1), choose_by="nested", choose_seeds=1),
        recipes={"mine": Recipe(variants={"a": {}, "b": {"trainer": {"epochs": 3}}})},
    )
    choosing = [name for name in trained if "without" in name]
    assert choosing == [
        "mine-a, split 1 without test 2, seed 0",
        "mine-b, split 1 without test 2, seed 0",
        "mine-a, split 2 without test 1, seed 0",
        "mine-b, split 2 without test 1, seed 0",
    ]
    tested = [name for name in trained if "without" not in name]
    assert len(tested) == 4
    assert {name.split(", ", 1)[1] for name in tested} == {
        f"split {split}, seed {seed}" for split in (1, 2) for seed in (0, 1)
    }


def test_what_is_done_in_time_makes_the_table_and_what_is_not_is_named(
    run_benchmark: Bench,
    trained: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options: dict[str, Any] = {
        "protocol": Protocol(splits=(1, 2, 3), seeds=(0, 1, 2), choose_by="other_splits"),
        "recipes": {"mine": Recipe(), "rival": Recipe(optim={"lr": 0.1})},
        "decodings": DECODINGS,
    }
    with pytest.raises(ValueError, match="nothing to show yet"):
        run_benchmark(**options, minutes=0.0)
    assert trained == []

    clock = (60.0 * minute for minute in range(100))
    with monkeypatch.context() as patch:  # a minute passes before each run
        for module in (command, workers):
            patch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
        out = run_benchmark(**options, minutes=10.0)
    # nine runs: a whole seed of both, and one split of the next
    assert [name.rsplit(", ", 1)[1] for name in trained] == ["seed 0"] * 6 + ["seed 1"] * 3
    unfinished = "Unfinished, and not in this table: mine: seeds 1, 2; rival: seeds 1, 2."
    assert unfinished in capsys.readouterr().out
    assert unfinished in (out / "benchmark.md").read_text()
    content = json.loads((out / "benchmark.json").read_text())
    assert [*content["recipes"]["mine"]["scores"]["1"]] == ["0"]
    assert {run["seed"] for run in content["runs"]} == {0}

    run_benchmark(**options)
    assert len(trained) == len({*trained}) == 18
    assert "Unfinished" not in (out / "benchmark.md").read_text()
    # as if it had never been stopped
    at_once = run_benchmark(**options, output=out.parent / "at once")
    resumed, whole = (
        json.loads((folder / "benchmark.json").read_text())["recipes"] for folder in (out, at_once)
    )
    for name in ("mine", "rival", "chosen recipe"):
        for part in ("mean", "scores", "choices"):
            assert resumed[name][part] == whole[name][part]


def test_a_recipe_without_a_whole_seed_is_left_out_and_nothing_is_chosen_across_recipes(
    run_benchmark: Bench, trained: list[str]
) -> None:
    recipes = {"mine": Recipe(), "rival": Recipe(optim={"lr": 0.1})}
    out = run_benchmark(recipes=recipes)
    [gone] = (out / "runs").glob("rival/split2-*/run.json")
    gone.unlink()
    run_benchmark(recipes=recipes, minutes=0.0)
    content = json.loads((out / "benchmark.json").read_text())
    assert [*content["recipes"]] == ["mine"]
    assert "mine: seed" not in (out / "benchmark.md").read_text()
    assert "rival: seeds 0." in (out / "benchmark.md").read_text()


def test_where_the_first_run_fails_no_other_is_begun_and_the_command_names_it(
    folder: Folder, tmp_path: Path, trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "broken.yaml"
    config.write_text(
        f"data: {{root: {folder.root}}}\n"
        "protocol: {splits: [1, 2, 3], seeds: [0], choose_by: other_splits}\n"
        "model: {stack: {width: 6, pattern: A}}\n"  # of 6 channels no 4 heads can be made
        "recipes: {mine: {}}\n"
        f"output: {tmp_path / 'out'}\n"
    )
    assert main(["benchmark", f"--config={config}"]) == 1
    assert "width 6 must split into 4 heads" in (said := capsys.readouterr().err)
    assert said.endswith(" (in mine, split 1, seed 0)\n")
    assert trained == ["mine, split 1, seed 0"]


def test_cuts_at_boundaries_are_for_models_that_tell_them(run_benchmark: Bench) -> None:
    out = run_benchmark(
        recipes={"plain": Recipe(), "cutting": Recipe(model={"boundaries": True})},
        decodings=DECODINGS | {"cut": DecodingConfig(kind="boundary")},
    )
    recipes = json.loads((out / "benchmark.json").read_text())["recipes"]
    tried = {name: [*recipes[name]["choices"]["1"]["scores"]] for name in ("plain", "cutting")}
    assert tried["plain"] == ["plain, likeliest", "plain, steady"]
    assert tried["cutting"] == ["cutting, likeliest", "cutting, steady", "cutting, cut"]


def test_checkpoints_are_kept_on_request(run_benchmark: Bench) -> None:
    out = run_benchmark()
    assert not [*out.rglob("*.ckpt")]
    out = run_benchmark(output=out / "kept", keep_checkpoints=True)
    assert len([*out.rglob("best.ckpt")]) == 3


@pytest.mark.slow
def test_side_by_side_finds_what_one_by_one_does(run_benchmark: Bench, tmp_path: Path) -> None:
    outputs = [run_benchmark(output=tmp_path / str(jobs), jobs=jobs) for jobs in (1, 2)]
    one, two = (arrays_in(output / "predictions.npz") for output in outputs)
    assert [*one] == [*two]
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipes": {}}, "name at least one"),
        ({"recipes": {"a b": Recipe()}}, "got 'a b'"),
        ({"recipes": {"a": Recipe(model={"stak": {}})}}, r"recipes\.a\.model\.stak: .* stack"),
        (
            {"recipes": {"a": Recipe(optim={"lr": "fast"})}},
            r"recipes\.a\.optim\.lr: expected something like 0\.03, got 'fast'",
        ),
        (
            {"recipes": {"a": Recipe(variants={"b": {"trainer": {"epochs": 0}}})}},
            r"recipes\.a\.variants\.b: .*epochs",
        ),
        (
            {"recipes": {"a": Recipe(model={"stack": {"direction": "backwards"}})}},
            r"a\.model\.stack\.direction: expected one of causal, bidirectional, got 'backwards'",
        ),
        (
            {"recipes": {"a": Recipe(variants={"b": {"loss": {"supervision": "frame"}}})}},
            r"a\.variants\.b\.loss\.supervision: expected one of frames, transcripts, got 'frame'",
        ),
        (
            {"recipes": {"a": Recipe(model={"stack": {"width": None}})}},
            r"a\.model\.stack\.width: expected something like 8, got None",
        ),
        (
            {"recipes": {"a": Recipe(model={"stack": None})}},
            r"a\.model\.stack: expected something like \{'width': 8, .*, got None",
        ),
        (
            {"recipes": {"a": Recipe(model={"stack": {"strides": ["wide"]}})}},
            r"a\.model\.stack\.strides: expected something like \[1\], got \['wide'\]",
        ),
        (
            {"recipes": {"a": Recipe(trainer={"ema": "much"})}},
            r"a\.trainer\.ema: expected something like None, got 'much'",
        ),
        ({"recipes": {"a": Recipe(decodings=("best",))}}, "'best': there are only likeliest"),
        (
            {
                "recipes": {"a": Recipe(decodings=("cut",))},
                "decodings": {"cut": DecodingConfig(kind="boundary")},
            },
            r"recipes\.a\.decodings 'cut': a has no boundary head",
        ),
        ({"jobs": 0}, "jobs must be 1 or more, got 0"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    changes: dict[str, Any], message: str, run_benchmark: Bench, trained: list[str]
) -> None:
    with pytest.raises(ValueError, match=message):
        run_benchmark(**changes)
    assert trained == []
