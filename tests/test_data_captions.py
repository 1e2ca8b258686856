"""Files of sentences, by a config: parts, features, and a line for all that is wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidmamba.cli import main
from vidmamba.data import DataConfig, load_data
from vidmamba.models.backbone import BackboneConfig
from vidmamba.submission import read_submission
from vidmamba.video.writer import VideoWriter

DENSE = {"duration": 10.0, "timestamps": [[0, 4], [5, 9]], "sentences": ["A dog.", "A cat."]}


def write_dense(root: Path, *, videos: int = 6) -> None:
    """Two files in ActivityNet's form, and features of four frames a second."""
    random = np.random.default_rng(0)
    names = [f"v_{number}" for number in range(videos)]
    features: dict[str, Any] = {
        name: random.standard_normal((40, 3)).astype(np.float32) for name in names
    }
    np.savez(root / "features.npz", **features)
    (root / "train.json").write_text(json.dumps(dict.fromkeys(names[:-2], DENSE)))
    (root / "val_1.json").write_text(json.dumps(dict.fromkeys(names[-2:], DENSE)))


def dense(root: Path, **options: Any) -> DataConfig:
    usual: dict[str, Any] = {
        "annotations": ("train=train.json", "test=val_1.json"),
        "features": "features.npz",
        "validation": 0.25,
    }
    return DataConfig(root=str(root), format="activitynet_captions", **usual | options)


def test_files_say_which_part_they_are_and_validation_is_held_out_of_training(
    tmp_path: Path,
) -> None:
    write_dense(tmp_path)
    data = load_data(dense(tmp_path, fps=4.0))
    assert [item.name for item in data.test] == ["v_4", "v_5"]
    assert (len(data.train), len(data.validation)) == (3, 1)
    item = data.train[0]
    assert [(c.start, c.end, c.text) for c in item.captions] == [(0, 4, "A dog."), (5, 9, "A cat.")]
    np.testing.assert_allclose(item.timestamps, np.arange(40) / 4)


def test_without_a_rate_features_are_spread_over_the_video(tmp_path: Path) -> None:
    write_dense(tmp_path)
    np.testing.assert_allclose(load_data(dense(tmp_path)).test[0].timestamps, np.arange(40) / 4)


@pytest.mark.parametrize("features", ["features.npz", "features"])
def test_a_stride_takes_features_and_their_times_alike(tmp_path: Path, features: str) -> None:
    write_dense(tmp_path)
    (tmp_path / "features").mkdir()
    with np.load(tmp_path / "features.npz") as stored:
        for name, array in stored.items():
            np.save(tmp_path / "features" / f"{name}.npy", array)
    data = load_data(dense(tmp_path, features=features, fps=4.0, stride=2))
    assert [item.num_frames for item in data.test] == [20, 20]
    np.testing.assert_allclose(data.test[0].timestamps, np.arange(20) / 2)


def test_one_object_of_a_file_that_holds_several_is_named_behind_it(tmp_path: Path) -> None:
    write_dense(tmp_path)
    both = {"train": {"v_0": DENSE, "v_1": DENSE, "v_2": DENSE}, "val_1": {"v_3": DENSE}}
    (tmp_path / "all.json").write_text(json.dumps(both))
    config = dense(tmp_path, annotations=("train=all.json#train", "test=all.json#val_1"))
    assert [item.name for item in load_data(config).test] == ["v_3"]


def test_whatever_is_wrong_has_a_line_and_the_rest_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_dense(tmp_path)
    record = {
        "v_0": {
            "duration": 10.0,
            "timestamps": [[6, 9], [0, 4], [1, 3], [20, 30], [7, 12], [5, 5]],
            "sentences": ["…!?", "犬が走る 🐕", "A dog runs.", "Too late.", "Over.", "Never."],
        },
        "v_1": DENSE,
        "v_2": DENSE,
        "v_gone": DENSE,
    }
    (tmp_path / "train.json").write_text(json.dumps(record))
    data = load_data(dense(tmp_path, validation=0.0))
    told = [caption.text for caption in data.train[0].captions]
    assert told == ["犬が走る 🐕", "A dog runs.", "Over."]
    for line in (
        "no words: 1 left out",
        "no span: 1 left out",
        "outside: 1 left out",
        "past the end: 1 cut at the end",
        "overlapping: 1 kept",
        "no features: 1 left out",
        "v_gone: 2 captions of a video without features",
        "not annotated: 1 left out",
    ):
        assert line in caplog.text, line


def test_numbers_in_names_may_say_the_parts(tmp_path: Path) -> None:
    names = [f"video{number}" for number in (0, 799, 800, 899, 900, 999)]
    features: dict[str, Any] = {name: np.ones((5, 2), dtype=np.float32) for name in names}
    np.savez(tmp_path / "f.npz", **features)
    videos = [
        {"video_id": name, "start": 1.0, "end": 6.0, "captions": ["a", "b"], "category_name": "x"}
        for name in names
    ]
    (tmp_path / "c.json").write_text(json.dumps({"videos": videos}))
    config = DataConfig(
        root=str(tmp_path),
        format="packed_clips",
        annotations=("c.json",),
        features="f.npz",
        numbers="msrvtt_1k",
    )
    data = load_data(config)
    assert [item.name for item in data.train] == names[:2]
    assert [item.name for item in data.validation] == names[2:4]
    assert [item.name for item in data.test] == names[4:]


def write_video(path: Path, *, seconds: int) -> None:
    with VideoWriter(path, width=32, height=32, fps=5) as writer:
        for level in range(5 * seconds):
            writer.write(np.full((32, 32, 3), 5 * level, dtype=np.uint8))


def embedded(root: Path) -> DataConfig:
    backbone = BackboneConfig("resnet10t", "random", image_size=32)
    return dense(root, features=None, fps=2.5, backbone=backbone, validation=0.0)


def test_videos_are_embedded_at_their_rate_and_known_by_their_names(tmp_path: Path) -> None:
    write_dense(tmp_path)
    for number in range(6):
        write_video(tmp_path / f"v_{number}.mp4", seconds=10)
    data = load_data(embedded(tmp_path))
    assert [item.num_frames for item in data.test] == [25, 25]
    assert data.feature_key["backbone"]["name"] == "resnet10t"


def test_two_videos_of_one_name_are_refused_before_either_is_embedded(tmp_path: Path) -> None:
    write_dense(tmp_path)
    for name in ("v_0.mp4", "v_1.mp4", "v_0.mkv"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"v_0\.mkv and .*v_0\.mp4: captions know videos by name"):
        load_data(embedded(tmp_path))


def test_what_is_said_after_the_end_of_a_shorter_video_is_left_out_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_dense(tmp_path)
    late = DENSE | {"timestamps": [[5, 9]], "sentences": ["A cat."]}
    (tmp_path / "train.json").write_text(json.dumps({"v_0": DENSE, "v_1": late, "v_2": DENSE}))
    for number in range(6):
        write_video(tmp_path / f"v_{number}.mp4", seconds=3 if number < 2 else 10)
    data = load_data(embedded(tmp_path))
    told = {item.name: [caption.text for caption in item.captions] for item in data.train}
    assert told == {"v_0": ["A dog."], "v_2": ["A dog.", "A cat."]}
    assert "v_0: 'A cat.' starts at 5 s, the video ends at 3.2 s: left out (outside)" in caplog.text
    assert "v_1: 1 caption, none before its end: left out (no captions)" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"annotations": None}, "needs annotations"),
        ({"annotations": ("dev=train.json",)}, "part must be one of train, validation, test"),
        ({"annotations": ("train=gone.json",)}, "gone.json"),
        ({"features": None}, "set fps"),
        ({"features": "gone.npz"}, "gone.npz is missing"),
    ],
)
def test_a_config_that_cannot_be_is_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    write_dense(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_data(dense(tmp_path, **options))


def test_a_file_that_takes_no_key_says_so(tmp_path: Path) -> None:
    write_dense(tmp_path)
    config = DataConfig(
        root=str(tmp_path),
        format="coco_captions",
        annotations=("train=train.json#train",),
        features="features.npz",
        fps=4.0,
    )
    with pytest.raises(ValueError, match="a file of coco_captions takes no split and no part"):
        load_data(config)


def test_a_captioner_of_files_is_trained_and_evaluated_by_the_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dense(tmp_path)
    config = tmp_path / "run.yaml"
    config.write_text(
        f"task: captioning\n"
        f"data:\n  root: {tmp_path}\n  format: activitynet_captions\n"
        f"  annotations: [train=train.json, test=val_1.json]\n  features: features.npz\n"
        f"  fps: 4.0\n  validation: 0.25\n"
        f"model:\n  stack: {{width: 16, depth: 1}}\n"
        f"  decoder: {{vocabulary: 1, width: 16, depth: 1}}\n  window: 4\n"
        f"words: {{words: 300}}\ntrainer: {{epochs: 1, wandb: 'off'}}\noutput: {tmp_path}/run\n"
    )
    assert main(["train", f"--config={config}"]) == 0
    sent = tmp_path / "submission.json"
    checkpoint = f"--checkpoint={tmp_path}/run/best.ckpt"
    assert main(["evaluate", checkpoint, f"--submission={sent}"]) == 0
    assert "SODA" in capsys.readouterr().out.upper()
    assert {*read_submission(sent)} == {"v_4", "v_5"}
    assert json.loads(sent.read_text())["external_data"]["used"]
