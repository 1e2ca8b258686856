"""The tool that names whole videos over splits and seeds: it never chooses by what it tests."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from vidmamba.commands.parsing import values_of
from vidmamba.commands.train import train_classification

from .conftest import Folder

TOOL = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "video_classes.py"))


def _run(top1: float, log_likelihood: float = -1.0) -> dict[str, Any]:
    part = {"scores": {"top1": top1}, "log_likelihood": log_likelihood}
    return {"test": part}


def test_a_splits_own_test_videos_have_no_say_in_its_choice() -> None:
    top1 = {("a", 1): 0, ("a", 2): 90, ("a", 3): 80, ("b", 1): 100, ("b", 2): 50, ("b", 3): 60}
    runs = {(name, split, 0): _run(value) for (name, split), value in top1.items()}
    choices = TOOL["choose"](runs, ["a", "b"], [1, 2, 3], [0])
    assert {split: choice["variant"] for split, choice in choices.items()} == {
        1: "a",  # 85 beats 55
        2: "b",  # 80 beats 40
        3: "b",  # 75 beats 45
    }


def test_of_equal_figures_the_likelier_is_chosen() -> None:
    runs = {("a", 1, 0): _run(50), ("a", 2, 0): _run(50, -1.0)}
    runs |= {("b", 1, 0): _run(50), ("b", 2, 0): _run(50, -0.5)}
    assert TOOL["choose"](runs, ["a", "b"], [1, 2], [0])[1]["variant"] == "b"


def test_a_row_is_the_mean_over_splits_and_its_deviation_over_seeds() -> None:
    runs = {(1, 0): _run(40), (2, 0): _run(60), (1, 1): _run(50), (2, 1): _run(90)}
    row = TOOL["row_of"]("a", runs)
    assert row["splits"]["top1"] == [45, 75]
    assert row["top1"] == {"mean": 60, "spread": pytest.approx(200**0.5)}


def test_it_prints_a_line_a_variant_and_a_second_call_trains_nothing(
    folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(
        "task: classification\n"
        f"data: {{root: {folder.root}, validation: 0.0, video_class_pattern: 'v(.)$'}}\n"
        "model: {stack: {width: 8}}\n"
        "trainer: {epochs: 1, batch_size: 4, accelerator: cpu}\n"
    )
    out = tmp_path / "out"
    arguments = [f"--config={config}", f"--out={out}", "--splits", "1", "2", "--seeds", "0"]
    arguments += ["--options=--model.stack.depth 0", "--variant", "mean: --model.pool mean"]
    TOOL["main"](arguments)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["config", "mean", "chosen", "split", "split"]
    content = json.loads((out / "video_classes.json").read_text())
    chosen = content["choices"]["1"]["variant"]
    by_name = {row["name"]: row["splits"]["map"] for row in content["rows"]}
    assert by_name["chosen"][0] == by_name[chosen][0]
    times = {path: path.stat().st_mtime_ns for path in out.glob("*split*.json")}
    assert len(times) == 4
    TOOL["main"](arguments)
    assert {path: path.stat().st_mtime_ns for path in out.glob("*split*.json")} == times


def test_what_another_option_would_train_is_not_taken_for_this_ones() -> None:
    def key(*changes: str) -> str:
        given = ["--data.root=here", "--output=unused", *changes]
        return str(TOOL["key_of"](values_of(train_classification, given)))

    assert key() == key("--data.split=2") == key("--trainer.wandb=off")
    others = ["--model.pool=mean", "--label_smoothing=0.1", "--trainer.epochs=3", "--data.stride=2"]
    assert len({key(), *map(key, others)}) == 5


@pytest.mark.parametrize("variant", ["no name", "config: --model.pool mean", ": --seed 1"])
def test_a_variant_without_a_name_of_its_own_is_refused(
    variant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        TOOL["main"](["--config=x.yaml", "--out=x", "--variant", variant])
    assert "--variant takes 'NAME: OPTIONS'" in capsys.readouterr().err
