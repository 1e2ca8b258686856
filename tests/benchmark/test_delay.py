"""The tool that shows accuracy against delay: its models wait as long as it says, and no longer."""

import json
import runpy
from pathlib import Path

import pytest
import torch

from vidmamba.commands.parsing import values_of
from vidmamba.commands.train import train_segmentation
from vidmamba.models.segmenter import Segmenter, SegmenterConfig

from .conftest import Folder

TOOL = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "delay.py"))
FRAMES = 30
"""Of the video, and where the change is that a model may not see before its time."""
CHANGED = 20


@pytest.mark.parametrize("name", TOOL["MODELS"])
@pytest.mark.parametrize(("lookahead", "reached"), [("0", 20), ("3", 17), ("all", 0)])
def test_a_model_waits_for_as_many_frames_as_it_says(
    name: str, lookahead: str, reached: int
) -> None:
    config = TOOL["model_of"](SegmenterConfig(), name, lookahead)
    net = Segmenter(config, num_features=3, num_classes=2).eval()
    mask = torch.ones(1, FRAMES, dtype=torch.bool)
    features = torch.randn(1, FRAMES, 3)
    other = features.clone()
    other[:, CHANGED:] += 5
    with torch.no_grad():
        moved = (net(features, mask).logits - net(other, mask).logits).abs().amax(dim=(0, 2))
    first = int((moved > 1e-6).nonzero()[0])
    assert first <= reached if lookahead == "all" else first == reached


def test_it_prints_a_row_a_model_and_delay_and_a_second_call_trains_nothing(
    folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(
        f"data: {{root: {folder.root}, validation: 0.0}}\n"
        "model: {stack: {width: 8}}\n"
        "trainer: {epochs: 1, batch_size: 4, accelerator: cpu}\n"
    )
    out, figures = tmp_path / "out", tmp_path / "delay.json"
    arguments = [f"--config={config}", f"--out={out}", f"--json={figures}", "--models", "LSTM"]
    arguments += ["--lookahead", "0", "5", "--splits", "1", "2", "--seeds", "0", "1"]
    TOOL["main"](arguments)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[1:3] for line in lines[2:]] == [
        ["0", "0.0"],
        ["5", "1.0"],  # at 5 frames a second
        ["all", "the video"],
    ]
    assert (out / "delay.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads(figures.read_text())
    assert len(content["runs"]) == 12
    of_first = [run for run in content["runs"] if run["lookahead"] == "0"]
    mean = sum(run["scores"]["edit"] for run in of_first) / 4
    assert content["rows"][0]["edit"] == pytest.approx(mean)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.json")}
    TOOL["main"](arguments)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.json")} == times


def test_what_another_config_would_train_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    def key(*changes: str) -> str:
        given = ["--data.root=here", "--output=unused", *changes]
        return str(TOOL["key_of"](values_of(train_segmentation, given)))

    assert key() == key("--data.split=2") == key("--trainer.wandb=off", "--trainer.ribbons=0")
    others = ["--data.root=there", "--optim.lr=0.1", "--trainer.epochs=3", "--loss.smoothing=0"]
    assert len({key(), *map(key, others), key("--model.augment.noise=1")}) == 6


def test_a_delay_that_is_no_number_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        TOOL["main"](["--config=x.yaml", "--out=x", "--lookahead", "-1"])
    with pytest.raises(SystemExit):
        TOOL["main"](["--config=x.yaml", "--out=x", "--lookahead", "soon"])
    assert "takes numbers of frames and all, got soon" in capsys.readouterr().err
