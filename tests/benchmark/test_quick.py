"""The quick loop trains as the trainer does: the same weights, without its files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vidmamba.benchmark import quick
from vidmamba.benchmark.quick import save_task, train_quickly
from vidmamba.datasets.records import LabelledSet, VideoItem
from vidmamba.models.augment import AugmentConfig
from vidmamba.models.segmenter import SegmenterConfig
from vidmamba.nn.stack import StackConfig
from vidmamba.tasks.checkpoints import load_task
from vidmamba.tasks.optim import OptimConfig
from vidmamba.tasks.segmentation import LossConfig, SegmentationTask, make_task
from vidmamba.training import TrainerConfig, fit, seed_everything


def video(number: int) -> VideoItem:
    random = np.random.default_rng(number)
    frames = 9 + number
    labels = random.integers(-1, 2, frames)  # some frames unlabelled
    features = random.normal(labels[:, None], 1.0, (frames, 3)).astype(np.float32)
    times = np.arange(frames) / 5.0
    return VideoItem(name=f"v{number}", features=features, labels=labels, timestamps=times)


ITEMS = tuple(video(number) for number in range(7))


def task_of() -> tuple[SegmentationTask, LabelledSet]:
    """A model without dropout: a loader draws from the same random numbers as dropout does."""
    data = LabelledSet(
        class_names=("rest", "move"),
        background=(),
        train=ITEMS,
        validation=(),
        test=ITEMS,
        feature_key={"width": 3},
    )
    seed_everything(3)
    stack = StackConfig(width=8, depth=2, pattern="C", dropout=0.0)
    model = SegmenterConfig(stack=stack, augment=AugmentConfig(channel_dropout=0.0))
    task = make_task(
        data, model=model, optim=OptimConfig(lr=1e-2), loss=LossConfig(), data_config={}
    )
    return task, data


@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("held_bytes", [2**20, 0], ids=["on the device", "batch by batch"])
def test_it_leaves_the_weights_that_fit_keeps(
    ema: float | None, held_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick, "HELD_BYTES", held_bytes)
    config = TrainerConfig(epochs=4, batch_size=2, accelerator="cpu", wandb="off", ema=ema)
    task, data = task_of()
    run = fit(task, data, config, seed=5, output=tmp_path)
    expected = load_task(run.last).state_dict()
    quickly, _ = task_of()
    first = {name: value.clone() for name, value in quickly.state_dict().items()}
    train_quickly(quickly, ITEMS, config, seed=5)
    found = quickly.state_dict()
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)
    moved = "net.head.classify.weight"
    assert not torch.allclose(found[moved], first[moved])


def test_what_is_saved_loads_as_the_same_model(tmp_path: Path) -> None:
    task, _ = task_of()
    train_quickly(task, ITEMS, TrainerConfig(epochs=1, ema=0.5), seed=0)
    save_task(task, tmp_path / "kept.ckpt")
    loaded = load_task(tmp_path / "kept.ckpt")
    features = ITEMS[3].read_features()
    np.testing.assert_array_equal(loaded.probabilities(features), task.probabilities(features))
    assert loaded.class_names == ("rest", "move")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_it_trains_on_a_gpu_as_on_the_cpu() -> None:
    config = TrainerConfig(epochs=3, batch_size=2, ema=0.9)
    here, there = task_of()[0], task_of()[0]
    train_quickly(here, ITEMS, config, seed=1)
    train_quickly(there, ITEMS, config, seed=1, device="cuda")
    for name, value in there.state_dict().items():
        torch.testing.assert_close(value.cpu(), here.state_dict()[name], rtol=1e-3, atol=1e-4)
