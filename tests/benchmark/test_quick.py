"""The quick loop trains as the trainer does: the same weights, without its files."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vidmamba.benchmark import quick
from vidmamba.benchmark.quick import save_task, train_quickly
from vidmamba.datasets.records import LabelledSet, VideoItem
from vidmamba.models.augment import AugmentConfig
from vidmamba.models.segmenter import SegmenterConfig
from vidmamba.nn.stack import MIXERS, StackConfig
from vidmamba.tasks.checkpoints import load_task
from vidmamba.tasks.optim import OptimConfig
from vidmamba.tasks.segmentation import LossConfig, SegmentationTask, make_task
from vidmamba.training import TrainerConfig, fit, seed_everything


def on_gpu(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that needs a GPU."""
    skip = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    return pytest.mark.gpu(skip(test))


def video(number: int) -> VideoItem:
    random = np.random.default_rng(number)
    frames = 9 + number
    labels = random.integers(-1, 2, frames)  # some frames unlabelled
    features = random.normal(labels[:, None], 1.0, (frames, 3)).astype(np.float32)
    times = np.arange(frames) / 5.0
    return VideoItem(name=f"v{number}", features=features, labels=labels, timestamps=times)


PLAIN = AugmentConfig(channel_dropout=0.0)
ITEMS = tuple(video(number) for number in range(7))
SHIFTED = tuple(
    replace(item, shifted=tuple(video(10 * number + view) for view in range(number)))
    for number, item in enumerate(ITEMS)
)


def task_of(
    *, pattern: str = "C", dropout: float = 0.0, augment: AugmentConfig = PLAIN
) -> tuple[SegmentationTask, LabelledSet]:
    """A model, by default one that draws nothing: a loader draws from the same random numbers."""
    data = LabelledSet(
        class_names=("rest", "move"),
        background=(),
        train=ITEMS,
        validation=(),
        test=ITEMS,
        feature_key={"width": 3},
    )
    seed_everything(3)
    stack = StackConfig(width=8, depth=2 * len(pattern), pattern=pattern, dropout=dropout)
    model = SegmenterConfig(stack=stack, augment=augment)
    task = make_task(
        data, model=model, optim=OptimConfig(lr=1e-2), loss=LossConfig(), data_config={}
    )
    return task, data


@pytest.mark.parametrize("items", [ITEMS, SHIFTED], ids=["as they are", "shifted"])
@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("held_bytes", [2**20, 0], ids=["on the device", "batch by batch"])
def test_it_leaves_the_weights_that_fit_keeps(
    items: tuple[VideoItem, ...],
    ema: float | None,
    held_bytes: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quick, "HELD_BYTES", held_bytes)
    config = TrainerConfig(epochs=4, batch_size=2, accelerator="cpu", wandb="off", ema=ema)
    task, data = task_of()
    run = fit(task, replace(data, train=items), config, seed=5, output=tmp_path)
    expected = load_task(run.last, device="cpu").state_dict()
    quickly, _ = task_of()
    first = {name: value.clone() for name, value in quickly.state_dict().items()}
    train_quickly(quickly, items, config, seed=5)
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


def weights_on_gpu(seed: int, *, captured: bool, **options: Any) -> dict[str, torch.Tensor]:
    """Train on a GPU: by graphs, each batch shape run once as it is and captured the next time."""
    task, _ = task_of(**options)
    config = TrainerConfig(epochs=8, batch_size=2, ema=0.9)
    with pytest.MonkeyPatch.context() as patch:
        if not captured:
            patch.setattr(quick, "WAITING", "".join(MIXERS))
        train_quickly(task, ITEMS, config, seed=seed, device="cuda")
    return {name: value.cpu() for name, value in task.state_dict().items()}


@on_gpu
@pytest.mark.parametrize("pattern", ["C", "CM", "A"])
def test_graphs_on_a_gpu_train_as_single_kernels_do(pattern: str) -> None:
    graphs = weights_on_gpu(1, captured=True, pattern=pattern)
    eager = weights_on_gpu(1, captured=False, pattern=pattern)
    for name, value in graphs.items():
        torch.testing.assert_close(value, eager[name], rtol=1e-3, atol=1e-4)


@on_gpu
def test_it_trains_on_a_gpu_as_on_the_cpu() -> None:
    there = weights_on_gpu(1, captured=True)
    here, _ = task_of()
    train_quickly(here, ITEMS, TrainerConfig(epochs=8, batch_size=2, ema=0.9), seed=1)
    for name, value in here.state_dict().items():
        torch.testing.assert_close(there[name], value, rtol=1e-3, atol=1e-4)


@on_gpu
def test_what_is_drawn_on_a_gpu_changes_from_step_to_step_and_not_from_run_to_run() -> None:
    options: dict[str, Any] = {"dropout": 0.3, "augment": AugmentConfig(noise=1.0, borrow=1.0)}
    once, again = (weights_on_gpu(1, captured=True, **options) for _ in range(2))
    eager = weights_on_gpu(1, captured=False, **options)
    for name, value in once.items():
        torch.testing.assert_close(value, again[name], rtol=1e-5, atol=1e-6)
        # graphs count their random numbers on as single kernels do
        torch.testing.assert_close(value, eager[name], rtol=1e-3, atol=1e-4)
