"""The tool that scores captioners on long errands: what they see, train on, and leave behind."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vidmamba.nn.stack import Stack

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(TOOLS))
    return runpy.run_path(str(TOOLS / "long_captions.py"))


def test_what_stands_for_no_long_state_sees_31_frames_to_either_side(
    tool: dict[str, Any],
) -> None:
    model = tool["MODELS"]["31 frames around"]
    assert model.event_slots == 0
    frames = torch.randn(1, 101, model.stack.width, requires_grad=True)
    Stack(model.stack).eval()(frames)[0, 50].sum().backward()
    assert frames.grad is not None
    seen = torch.nonzero(frames.grad[0].abs().sum(dim=1)).flatten()
    assert [int(seen.min()), int(seen.max())] == [50 - 31, 50 + 31]


def test_it_prints_a_row_a_model_and_a_second_call_trains_nothing(
    tool: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["long_captions.py", f"--out={tmp_path}", "--gap=20", "--videos=8", "--epochs=1"]
    arguments += ["--validation=2", "--test=2", "--seeds", "0", "--weights=random"]
    arguments += ["--models", "31 frames around, slots", "frames alone"]
    monkeypatch.setattr(sys, "argv", arguments)
    tool["main"]()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[-2:]] == arguments[-2:]
    rows = json.loads((tmp_path / "long_captions.json").read_text())["rows"]
    for row in rows:
        assert 0 <= row["memory_sentence"][0] <= 100
    assert rows[0]["parameters"] > rows[1]["parameters"]
    left = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*seed0-test.json")}
    assert len(left) == 2
    tool["main"]()
    assert {path: path.stat().st_mtime_ns for path in left} == left
    monkeypatch.setattr(sys, "argv", [*arguments, "--epochs=2"])
    with pytest.raises(SystemExit, match=r"of other options.*\nepochs: expected 1, found 2"):
        tool["main"]()
    monkeypatch.setattr(sys, "argv", [*arguments, "--gap=30"])
    with pytest.raises(SystemExit, match=r"features is of other options.*\ngap: expected 20, fou"):
        tool["main"]()
