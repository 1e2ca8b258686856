"""The whole way at its smallest: what `vidmamba demo` leaves behind, and what works on it."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidmamba.cli import main
from vidmamba.datasets.errands import read_errands
from vidmamba.demo import DemoConfig, run_demo
from vidmamba.metrics import frame_accuracy
from vidmamba.tasks.checkpoints import load_task
from vidmamba.timeline import labels_at, load_json

TINY = DemoConfig(
    videos=10,
    validation=0.1,
    test=0.2,
    gap=(10, 20),
    train_gap=(10, 20),
    image_size=64,
    epochs=2,
    caption_epochs=2,
    pages=1,
)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a tiny demo filled."""
    out = tmp_path_factory.mktemp("demo")
    run_demo(out, TINY)
    return out


@pytest.fixture(scope="session")
def summary(demo: Path) -> dict[str, Any]:
    return json.loads((demo / "summary.json").read_text())


def test_the_summary_holds_what_scripts_rely_on(summary: dict[str, Any]) -> None:
    scores = {"accuracy", "edit", "f1@10", "f1@25", "f1@50", "memory_accuracy"}
    assert set(summary) == {
        "model", "probe", "captions", "captions_without_stack", "seconds", "checkpoint",
        "captioner", "reports", "wandb_dir",
    }  # fmt: skip
    for name in ("captions", "captions_without_stack"):
        told = summary[name]
        assert {"soda_c", "cider_d", "bleu4", "who_did_what"} <= set(told)
        assert all(0 <= value <= 100 for value in told["who_did_what"].values())
    for name in ("model", "probe"):
        assert set(summary[name]) == scores
        assert all(0 <= value <= 100 for value in summary[name].values())
    assert Path(summary["checkpoint"]).is_file()
    assert [*Path(summary["wandb_dir"]).glob("*.wandb")]
    assert all(Path(page).is_file() for page in summary["reports"])
    assert len(summary["reports"]) == 2
    assert Path(summary["captioner"]).is_file()
    assert [*Path(summary["captioner"]).parents[1].glob("captions/*.vtt")]


def test_evaluate_gives_the_figures_of_the_summary(
    demo: Path, summary: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "scores.json"
    assert main(["evaluate", f"--checkpoint={summary['checkpoint']}", f"--out={out}"]) == 0
    scores = json.loads(out.read_text())["scores"]
    assert scores == pytest.approx(summary["model"])


def test_a_predicted_timeline_agrees_with_the_truth_as_often_as_its_page_says(
    demo: Path, summary: dict[str, Any]
) -> None:
    clip = read_errands(demo / "errands").part("test")[0]
    names = load_task(Path(summary["checkpoint"])).class_names
    timeline = load_json(demo / "reports" / f"{clip.name}.json")
    times = np.arange(0, clip.num_frames, 2) / clip.fps  # every second frame is embedded
    predicted = labels_at(timeline.segments, times + 0.5 / clip.fps, names, default=-1)
    assert timeline.duration == pytest.approx(clip.duration, abs=2 / clip.fps)
    accuracy = frame_accuracy(predicted, clip.labels_at(times))
    assert f"{accuracy:.1f}" in (demo / "reports" / f"{clip.name}.html").read_text()


def test_predict_goes_on_with_the_good_videos_and_lists_the_bad(
    demo: Path, summary: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = read_errands(demo / "errands").part("test")[0].media
    bad = tmp_path / "notes.mp4"
    bad.write_text("this is no video")
    out = tmp_path / "predictions"
    arguments = [str(bad), str(good), f"--checkpoint={summary['checkpoint']}", f"--out={out}"]
    assert main(["predict", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out.strip() == str(out / f"{good.stem}.html")
    assert "notes.mp4" in printed.err
    suffixes = {path.suffix for path in out.glob(f"{good.stem}.*")}
    assert suffixes == {".json", ".csv", ".vtt", ".html"}
    assert not [*out.glob("notes.*")]


def test_videos_that_share_a_stem_get_results_of_their_own(
    demo: Path, summary: dict[str, Any], tmp_path: Path
) -> None:
    source = read_errands(demo / "errands").part("test")[0].media
    copies = [tmp_path / folder / "clip.mp4" for folder in ("a", "b")]
    for copy in copies:
        copy.parent.mkdir()
        copy.write_bytes(source.read_bytes())
    out = tmp_path / "out"
    main(["predict", str(tmp_path), f"--checkpoint={summary['checkpoint']}", f"--out={out}"])
    assert len([*out.glob("*.html")]) == 2


def test_training_again_from_a_config_reaches_the_same_features(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        f"data:\n  root: {demo}/errands\n  format: errands\n  fps: 5.0\n"
        f"  backbone:\n    image_size: 64\n    pooling: stages\n"
        f"model:\n  stack:\n    width: 16\n    depth: 1\n"
        f"trainer:\n  epochs: 1\n  wandb: 'off'\noutput: {tmp_path}/run\n"
    )
    stored = {path: path.stat().st_mtime_ns for path in (demo / "errands/features").glob("*.npy")}
    assert main(["train", f"--config={config}"]) == 0
    assert {path: path.stat().st_mtime_ns for path in stored} == stored
    assert (tmp_path / "run" / "best.ckpt").is_file()
    assert (tmp_path / "run" / "last.ckpt").is_file()
    assert "F1@50" in capsys.readouterr().out
    checkpoint = f"--checkpoint={tmp_path}/run/last.ckpt"
    assert main(["evaluate", checkpoint, f"--config={config}"]) == 0


def test_a_checkpoint_refuses_features_of_another_size(
    demo: Path, summary: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "other.yaml"
    config.write_text(
        f"data:\n  root: {demo}/errands\n  format: errands\n  fps: 1.0\n"
        f"  backbone:\n    image_size: 32\n  store: {tmp_path}/features\noutput: {tmp_path}/run\n"
    )
    checkpoint = f"--checkpoint={summary['checkpoint']}"
    assert main(["evaluate", checkpoint, f"--config={config}"]) == 1
    message = capsys.readouterr().err
    assert "image_size" in message
    assert "fps: expected 5.0, found 1.0" in message


def test_a_trained_model_takes_a_video_of_one_frame(demo: Path, summary: dict[str, Any]) -> None:
    task = load_task(Path(summary["checkpoint"]))
    probabilities = task.probabilities(np.zeros((1, task.feature_key["width"]), dtype=np.float32))
    assert math.isclose(float(probabilities.sum()), 1, rel_tol=1e-5)
