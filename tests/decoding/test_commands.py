"""`evaluate` and `predict` decode by what the checkpoint's own training videos taught."""

import json
from pathlib import Path

import numpy as np
import pytest

from vidmamba.cli import main
from vidmamba.commands.decoders import decoder_of
from vidmamba.data import DataConfig, load_data
from vidmamba.decoding import DecodingConfig, learn_decoder
from vidmamba.evaluation import evaluate_set
from vidmamba.features.store import StoredFeatures
from vidmamba.inference import timeline_of
from vidmamba.tasks.checkpoints import load_task

CLASSES = ("background", "stir", "pour")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos with noisy features, two of them tested."""
    root, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for folder in ("groundTruth", "splits", "features"):
        (root / folder).mkdir()
    (root / "mapping.txt").write_text("".join(f"{i} {c}\n" for i, c in enumerate(CLASSES)))
    for number in range(6):
        labels = np.repeat([0, 1, 2, 0], random.integers(6, 12, 4))
        features = np.eye(3)[labels] + random.normal(0, 0.7, (len(labels), 3))
        np.save(root / "features" / f"v{number}.npy", features.astype(np.float32))
        text = "".join(f"{CLASSES[label]}\n" for label in labels)
        (root / "groundTruth" / f"v{number}.txt").write_text(text)
    for part, numbers in (("train", range(4)), ("test", range(4, 6))):
        text = "".join(f"v{number}.txt\n" for number in numbers)
        (root / "splits" / f"{part}.split1.bundle").write_text(text)
    return root


@pytest.fixture(scope="module")
def checkpoint(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    options = [f"--data.root={data}", "--data.validation=0.0", f"--output={out}"]
    options += ["--model.stack.depth=0", "--trainer.epochs=15", "--trainer.wandb=off"]
    options += ["--trainer.accelerator=cpu", "--optim.lr=0.03", "--trainer.batch_size=2"]
    assert main(["train", *options]) == 0
    return out / "best.ckpt"


GRAMMAR = DecodingConfig(kind="grammar", switch_cost=1.0)
ASKED = ["--decoding.kind=grammar", "--decoding.switch_cost=1.0"]


def test_evaluate_learns_from_the_checkpoint_what_the_training_labels_teach(
    data: Path, checkpoint: Path, tmp_path: Path
) -> None:
    labelled = load_data(DataConfig(root=str(data), validation=0.0))
    taught = [item.labels for item in labelled.train]
    expected = evaluate_set(
        load_task(checkpoint),
        labelled,
        part="test",
        decode=learn_decoder(GRAMMAR, taught, len(CLASSES)),
    )
    plain = evaluate_set(load_task(checkpoint), labelled, part="test")
    assert expected.scores["edit"] > plain.scores["edit"]
    # even where the training labels have changed since
    before = {path: path.read_text() for path in (data / "groundTruth").glob("v[0-3].txt")}
    for path, text in before.items():
        path.write_text(text.replace("pour", "stir"))
    try:
        out = tmp_path / "scores.json"
        assert main(["evaluate", f"--checkpoint={checkpoint}", f"--out={out}", *ASKED]) == 0
    finally:
        for path, text in before.items():
            path.write_text(text)
    assert json.loads(out.read_text())["scores"] == pytest.approx(expected.scores)


def test_predictions_segments_are_those_of_the_decoder(data: Path, checkpoint: Path) -> None:
    task = load_task(checkpoint)
    decoder = decoder_of(task, GRAMMAR, checkpoint)
    assert decoder is not None
    features = np.load(data / "features" / "v4.npy")
    stored = StoredFeatures(
        video=Path("v4.mp4"),
        features=features,
        timestamps=np.arange(len(features)) / 5.0,
        fps=5.0,
        duration=len(features) / 5,
        meta={},
    )
    timeline = timeline_of(
        task, stored, label=lambda frames: decoder(np.log(frames.probabilities), frames.boundaries)
    )
    labels = decoder(np.log(task.probabilities(features)))
    cuts = np.flatnonzero(np.diff(labels)) + 1
    assert [segment.start for segment in timeline.segments] == pytest.approx([0, *cuts / 5])
    assert len(timeline.segments) < len(timeline_of(task, stored).segments)


def test_a_checkpoint_that_does_not_know_says_so(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    task = load_task(checkpoint)
    del task.hparams["labels"]["taught"]
    with pytest.raises(ValueError, match="does not say what its training videos showed"):
        decoder_of(task, GRAMMAR, checkpoint)
    assert decoder_of(task, DecodingConfig(), checkpoint) is None
