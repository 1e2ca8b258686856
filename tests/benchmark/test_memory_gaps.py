"""The tool of the memory test: what its models can see, what they learn from, how it chooses."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidmamba.datasets.errands.script import CLASS_NAMES, MEMORY_CLASSES, frame_labels
from vidmamba.datasets.records import UNLABELLED
from vidmamba.nn.attention import WindowAttention
from vidmamba.nn.rivals import DilatedConvolution
from vidmamba.nn.stack import Stack

TOOL = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "memory_gaps.py"))


@pytest.mark.parametrize("name", ["dilated TCN", "windowed attention"])
def test_the_second_setting_sees_over_the_longest_gap_and_the_first_does_not(name: str) -> None:
    config = TOOL["errands_of"](10_000, videos=20)
    needed = max(
        errand.end - errand.handled
        for _, script in TOOL["scripts_of"](config)
        for errand in script.errands
    )
    seen = []
    for setting in TOOL["MODELS"][name].values():
        mixers = [block.mixer for block in Stack(setting.stack).blocks]
        steps = [max(mixer.steps) for mixer in mixers if isinstance(mixer, DilatedConvolution)]
        steps += [mixer.window for mixer in mixers if isinstance(mixer, WindowAttention)]
        seen.append(sum(steps))
    assert seen[0] < needed <= seen[1]


def test_every_setting_is_causal_and_no_wider_than_another() -> None:
    stacks = [one.stack for settings in TOOL["MODELS"].values() for one in settings.values()]
    assert {(stack.direction, stack.width) for stack in stacks} == {("causal", 64)}
    assert {len(settings) for settings in TOOL["MODELS"].values()} == {2}


def test_long_gaps_are_labelled_thinly_and_all_else_in_full() -> None:
    config = TOOL["errands_of"](1_000, videos=3)
    for _, script in TOOL["scripts_of"](config):
        labels = frame_labels(script)
        kept = TOOL["thinned"](labels, script)
        known = kept != UNLABELLED
        np.testing.assert_array_equal(kept[known], labels[known])
        (errand,) = script.errands
        gap = np.zeros(len(labels), dtype=bool)
        gap[errand.handled : errand.leaves] = True
        assert known[~gap].all()
        assert min(gap.sum(), 200) <= known[gap].sum() < 400
        remembered = np.isin(labels, [CLASS_NAMES.index(name) for name in MEMORY_CLASSES])
        assert known[remembered].all()


def _run(validation: float, test: float) -> dict[str, Any]:
    scores = {
        "validation": {"memory_accuracy": validation, "accuracy": 50.0},
        "test": {"memory_accuracy": test, "accuracy": 50.0},
    }
    return {**scores, "seconds": 1.0, "parameters": 1, "device": "CPU"}


def test_the_setting_is_chosen_by_validation_whatever_the_test_says() -> None:
    runs = {"a": [_run(60, 99), _run(60, 99)], "b": [_run(50, 70), _run(80, 60)]}
    row = TOOL["row_of"](100, "Mamba", runs)
    assert row["setting"] == "b"
    assert row["memory_accuracy"] == 65
    assert row["by_seed"] == [70, 60]
    assert row["spread"] == pytest.approx(50**0.5)


def test_it_prints_a_row_a_model_and_gap_and_a_second_call_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["memory_gaps.py", f"--out={tmp_path}", "--gaps", "12", "--models", "LSTM"]
    arguments += ["--seeds", "0", "--videos=5", "--epochs=1", "--weights=random"]
    monkeypatch.setattr(sys, "argv", arguments)
    TOOL["main"]()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split()[:3] == ["gap", "12", "LSTM"]
    (row,) = json.loads((tmp_path / "memory_gaps.json").read_text())["rows"]
    assert 0 <= row["memory_accuracy"] <= 100
    assert (tmp_path / "memory_gaps.png").read_bytes().startswith(b"\x89PNG")
    runs = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("gap12*/*")}
    assert len(runs) == 2 + 5  # a run a setting, features of each clip
    TOOL["main"]()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("gap12*/*")} == runs
