"""The command line: what it says when things are wrong, and what its help says."""

import re
from pathlib import Path

import numpy as np
import pytest

from vidmamba.cli import COMMANDS, main
from vidmamba.commands.train import TRAIN
from vidmamba.video.writer import VideoWriter


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)


@pytest.mark.parametrize("command", [*COMMANDS, *(f"train --task {task}" for task in TRAIN)])
def test_every_option_of_every_command_is_explained(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    options = capsys.readouterr().out.split("options:")[1]
    # argparse gives each option an entry: its flags, then its words, then its type in brackets
    entries = [entry for entry in re.split(r"\n  (?=-)", options) if entry.strip()]
    words = {
        entry.split()[0]: re.sub(r"\(type:.*", "", entry, flags=re.DOTALL) for entry in entries
    }
    bare = [flag for flag, text in words.items() if len(text.split()) < 5]
    assert len(words) > 3
    assert bare == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["extract", "nowhere.mp4", "--out=store"], "nowhere.mp4"),
        (["extract", "*.nothing", "--out=store"], "*.nothing"),
        (["predict", "clip.mp4", "--checkpoint=none.ckpt", "--out=o"], "clip.mp4"),
        (["evaluate", "--checkpoint=none.ckpt"], "none.ckpt"),
        (["train", "--data.root=nowhere", "--output=o"], "nowhere"),
        (["train", "--task=classification", "--data.root=nowhere", "--output=o"], "nowhere"),
        (["train", "--data.root=$NOT_SET_AT_ALL", "--output=o"], "NOT_SET_AT_ALL"),
        (["train", "--data.root=x", "--output=o", "--optim.lr=-1"], "lr=-1.0"),
        (["train", "--data.root=x", "--data.format=coin", "--data.split=2", "--output=o"], "split"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_what_is_missing_or_wrong_is_named_in_one_line_with_a_failing_exit_code(
    arguments: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.strip().splitlines()) == 1
    assert named in printed.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["extract", "a.mp4", "--out=s", "--fsp=3"],
        ["train", "--output=o"],
        ["train", "--data.root=x", "--output=o", "--task=paint"],
        ["unknown"],
    ],
    ids=lambda arguments: arguments[-1],
)
def test_a_wrong_call_ends_with_2_and_a_hint(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "--help" in capsys.readouterr().err


def test_a_folder_of_good_and_bad_videos_is_embedded_but_for_the_bad(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    with VideoWriter(videos / "good.mp4", width=64, height=48, fps=5.0) as writer:
        for level in range(6):
            writer.write(np.full((48, 64, 3), 40 * level, dtype=np.uint8))
    (videos / "empty.mp4").write_bytes(b"")
    (videos / "text.avi").write_text("not a video")
    store = tmp_path / "store"
    arguments = ["extract", str(videos), f"--out={store}", "--image_size=32"]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert "1 embedded" in printed.out
    failures = [line for line in printed.err.splitlines() if line.startswith("failed: ")]
    assert len(failures) == 2
    assert {"empty.mp4", "text.avi"} <= set(
        " ".join(failures).replace("/", " ").replace(":", " ").split()
    )
    assert main(arguments) == 1
    assert "0 embedded, 1 were there" in capsys.readouterr().out
    features = [np.load(path) for path in store.glob("good*.npy") if "timestamps" not in path.name]
    assert [array.shape for array in features] == [(6, 1280)]


def test_another_backbone_without_weights_says_what_to_do_offline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"")
    assert main(["extract", str(video), f"--out={tmp_path}/s", "--backbone=resnet999"]) == 1
    assert "resnet" in capsys.readouterr().err
