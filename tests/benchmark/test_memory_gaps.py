"""The tool of the memory test: what its models can see, what they learn from, how it chooses."""

import json
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from vidmamba.benchmark.memory_clips import (
    Clip,
    clips_at,
    errands_of,
    reach_of,
    thinned,
    training_clips,
)
from vidmamba.datasets.errands.script import CLASS_NAMES, MEMORY_CLASSES, frame_labels
from vidmamba.datasets.records import UNLABELLED
from vidmamba.nn.attention import WindowAttention
from vidmamba.nn.stack import Stack

TOOL = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "memory_gaps.py"))


@pytest.mark.parametrize("gap", [100, 1_000, 10_000])
def test_from_dealing_with_the_thing_to_leaving_is_no_farther_than_models_are_told(
    gap: int,
) -> None:
    config = errands_of(gap, videos=20)
    for _, script in (*training_clips(config), *clips_at(config, gap, 10)):
        (errand,) = script.errands
        first = next(act.start for act in errand.acts if act.label == errand.outcome)
        assert errand.end - 1 - first <= reach_of(config)


@pytest.mark.parametrize("reach", [174, 1_164, 11_064])
def test_dilated_layers_and_windows_see_as_far_as_they_are_told(reach: int) -> None:
    convolutions = Stack(TOOL["stack_of"]("dilated TCN", reach))
    frames = torch.randn(1, reach + 1, 64, requires_grad=True)
    convolutions(frames)[0, -1].sum().backward()
    assert frames.grad is not None
    assert bool((frames.grad[0, 0] != 0).any())
    attention = Stack(TOOL["stack_of"]("windowed attention", reach))
    windows = [module.window for module in attention.modules() if type(module) is WindowAttention]
    assert len(windows) == 6
    assert sum(windows) >= reach


def test_every_model_is_causal_and_as_wide_as_the_others() -> None:
    stacks = [TOOL["stack_of"](model, 1_000) for model in TOOL["LOOKS"]]
    assert {(stack.direction, stack.width) for stack in stacks} == {("causal", 64)}


def test_an_lstms_gates_keep_from_one_frame_to_the_longest_gap() -> None:
    torch.manual_seed(0)
    stack = Stack(TOOL["stack_of"]("LSTM", 1_000))
    TOOL["open_gates"](stack, 1_000)
    lstms = [module for module in stack.modules() if isinstance(module, torch.nn.LSTM)]
    assert len(lstms) == 2
    for lstm in lstms:
        own = {name: value.detach() for name, value in lstm.named_parameters()}
        bias = own["bias_ih_l0"] + own["bias_hh_l0"]
        memory = 1 / (1 - bias[64:128].sigmoid())  # frames after which 1 / e is left
        assert 1 < float(memory.min()) < 100
        assert 700 < float(memory.max()) <= 1_000
        torch.testing.assert_close(bias[:64], -bias[64:128])


def gaps_of(clips: Sequence[Clip]) -> list[int]:
    """Frames between dealing with the thing and leaving, in each clip."""
    return [errand.leaves - errand.handled for _, script in clips for errand in script.errands]


def test_training_gaps_grow_from_the_shortest_to_the_longest() -> None:
    gaps = gaps_of(training_clips(errands_of(1_000, videos=20)))
    # walks that began within a gap end a little later
    assert gaps[0] < 80
    assert 1_100 <= gaps[-1] < 1_150
    assert sum(gap < 300 for gap in gaps) > len(gaps) / 2


def test_clips_to_test_on_have_the_gap_and_are_others_of_the_same_room() -> None:
    config = errands_of(1_000, videos=20)
    sets = {gap: clips_at(config, gap, 10) for gap in (100, 1_000)}
    for gap, clips in sets.items():
        assert all(gap <= found < gap * 1.1 + 50 for found in gaps_of(clips))
        outcomes = [errand.outcome for _, script in clips for errand in script.errands]
        assert outcomes.count("pocket") == 5
    numbers = [clip.number for clips in (training_clips(config), *sets.values()) for clip in clips]
    assert len({*numbers}) == 40


def test_short_gaps_come_first_and_at_last_all_clips_are_trained_on() -> None:
    growing = round(1_000 * TOOL["GROWING"])
    course = TOOL["course_of"](40, steps=1_000, batch_size=4, seed=1)
    assert len(course) == 1_000
    assert all(len({*clips}) == 4 and max(clips) - min(clips) < 8 for clips in course)
    longest = [max(clips) for clips in course]
    for step in range(growing):
        assert longest[step] < 10 + 30 * step / growing + 1  # a quarter at first
    assert {clip for clips in course[growing:] for clip in clips} == {*range(40)}
    assert course == TOOL["course_of"](40, steps=1_000, batch_size=4, seed=1)
    assert course != TOOL["course_of"](40, steps=1_000, batch_size=4, seed=2)


def test_a_course_of_fewer_clips_than_a_batch_takes_them_all() -> None:
    assert {*map(len, TOOL["course_of"](3, steps=5, batch_size=8, seed=0))} == {3}


def test_long_gaps_are_labelled_thinly_and_all_else_in_full() -> None:
    for _, script in clips_at(errands_of(1_000, videos=3), 1_000, 3):
        labels = frame_labels(script)
        kept = thinned(labels, script)
        known = kept != UNLABELLED
        np.testing.assert_array_equal(kept[known], labels[known])
        (errand,) = script.errands
        gap = np.zeros(len(labels), dtype=bool)
        gap[errand.handled : errand.leaves] = True
        assert known[~gap].all()
        assert min(gap.sum(), 200) <= known[gap].sum() < 400
        remembered = np.isin(labels, [CLASS_NAMES.index(name) for name in MEMORY_CLASSES])
        assert known[remembered].all()


def test_a_row_is_the_mean_over_seeds_and_its_deviation() -> None:
    runs = [
        {"scores": {"100": {"memory_accuracy": memory, "accuracy": 50.0}}, "seconds": 1.0}
        | {"trained_on": {"memory_accuracy": 90.0}, "parameters": 1, "device": "CPU"}
        for memory in (70.0, 60.0)
    ]
    row = TOOL["row_of"](100, "Mamba", runs)
    assert row["memory_accuracy"] == 65
    assert row["by_seed"] == [70, 60]
    assert row["spread"] == pytest.approx(50**0.5)


def test_runs_of_other_clips_steps_or_weights_lie_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def place(*changes: str) -> Path:
        arguments = ["memory_gaps.py", "--out=out", "--models", "LSTM", "--seeds", "0", *changes]
        monkeypatch.setattr(sys, "argv", arguments)
        [file] = TOOL["files_of"](TOOL["parse"]()).values()
        assert isinstance(file, Path)
        return file

    names = ("videos", "tests", "batch_size", "steps", "clips_seed", "weights")
    assert place() == place("--jobs=3")
    assert len({place(), *(place(f"--{name}=7") for name in names)}) == 7


def test_it_prints_a_row_a_model_and_gap_and_a_second_call_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["memory_gaps.py", f"--out={tmp_path}", "--gaps", "5", "12", "--models", "LSTM"]
    arguments += ["--seeds", "0", "--videos=4", "--tests=2", "--steps=2", "--weights=random"]
    monkeypatch.setattr(sys, "argv", arguments)
    TOOL["main"]()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [["gap", "5", "LSTM"], ["gap", "12", "LSTM"]]
    rows = json.loads((tmp_path / "memory_gaps.json").read_text())["rows"]
    assert all(0 <= row["memory_accuracy"] <= 100 for row in rows)
    assert (tmp_path / "memory_gaps.png").read_bytes().startswith(b"\x89PNG")
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*/*.*")}
    assert {path.suffix for path in made} == {".npy", ".json"}
    assert len(made) == 1 + 4 + 2 * 2  # the run, and features of each clip
    TOOL["main"]()
    assert {path: path.stat().st_mtime_ns for path in made} == made
