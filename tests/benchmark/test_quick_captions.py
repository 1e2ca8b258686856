"""The quick loop trains captioners as the trainer does: the same weights, without its files."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vidmamba.benchmark import quick_captions
from vidmamba.benchmark.quick_captions import train_captioner_quickly
from vidmamba.datasets.records import LabelledSet, VideoItem
from vidmamba.models.augment import AugmentConfig
from vidmamba.models.captioner import CaptionerConfig
from vidmamba.models.decoder import DecoderConfig
from vidmamba.models.tokenizer import TokenizerConfig
from vidmamba.nn.stack import MIXERS, StackConfig
from vidmamba.tasks.caption_batches import CaptionBatch, CaptionBatchConfig
from vidmamba.tasks.caption_losses import CaptionLossConfig
from vidmamba.tasks.caption_setup import make_captioning_task
from vidmamba.tasks.captioning import CaptioningTask
from vidmamba.tasks.checkpoints import load_captioning_task
from vidmamba.tasks.optim import OptimConfig
from vidmamba.timeline import Caption
from vidmamba.training import TrainerConfig, fit, seed_everything

WORDS = ("a dog", "the cat sits", "birds fly far away", "one fish", "a cow stands in the rain")


def on_gpu(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that needs a GPU."""
    skip = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    return pytest.mark.gpu(skip(test))


def clip(number: int, *, captions: int) -> VideoItem:
    random = np.random.default_rng(number)
    frames = 5 + number % 3
    return VideoItem(
        name=f"v{number}",
        features=random.standard_normal((frames, 4)).astype(np.float32),
        labels=np.full(frames, -1),
        timestamps=np.arange(frames) / 2,
        captions=tuple(
            Caption(start=0.0, end=frames / 2, text=WORDS[(number + k) % len(WORDS)])
            for k in range(captions)
        ),
    )


def data_of(*captions: int) -> LabelledSet:
    items = tuple(clip(number, captions=own) for number, own in enumerate(captions))
    return LabelledSet(
        class_names=(),
        background=(),
        train=items,
        validation=(),
        test=items,
        feature_key={"width": 4},
    )


def task_of(
    data: LabelledSet,
    *,
    mixer: Any = "mamba1",
    words: TokenizerConfig | None = None,
    **batches: Any,
) -> CaptioningTask:
    """A model that draws nothing: a loader draws from the same random numbers."""
    seed_everything(3)
    return make_captioning_task(
        data,
        model=CaptionerConfig(
            stack=StackConfig(width=8, depth=1, dropout=0.0),
            augment=AugmentConfig(channel_dropout=0.0),
            decoder=DecoderConfig(vocabulary=1, width=8, depth=2, mixer=mixer),
            window=3,
            context=0.0,
        ),
        optim=OptimConfig(lr=1e-2),
        loss=CaptionLossConfig(),
        data_config={},
        words=words,
        batches=CaptionBatchConfig(**batches),
    )


@pytest.mark.parametrize("ema", [None, 0.9])
def test_it_leaves_the_weights_that_fit_keeps(ema: float | None, tmp_path: Path) -> None:
    config = TrainerConfig(epochs=4, batch_size=2, accelerator="cpu", wandb="off", ema=ema)
    data = data_of(1, 1, 1, 1, 1)
    task = task_of(data)
    run = fit(task, data, config, seed=5, output=tmp_path, collate=task.collate)
    expected = load_captioning_task(run.last).state_dict()
    quickly = task_of(data)
    first = {name: value.clone() for name, value in quickly.state_dict().items()}
    train_captioner_quickly(quickly, data.train, config, seed=5)
    found = quickly.state_dict()
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
    moved = "net.decoder.embed.weight"
    assert not torch.allclose(found[moved], first[moved])


def test_captions_are_drawn_from_each_videos_own_and_none_comes_twice_where_there_are_enough() -> (
    None
):
    data = data_of(1, 3, 5)
    task = task_of(data, references=3)
    clips = quick_captions._Clips(task, data.train, torch.device("cpu"))
    seen: list[set[str]] = [set(), set(), set()]
    for _ in range(40):
        batch = clips.take(torch.tensor([2, 0, 1]))
        assert batch.videos[batch.about].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        texts = [task.tokenizer.decode(row[1:].tolist()) for row in rows_of(batch, task)]
        assert len({*texts[:3]}) == 3
        assert len({*texts[6:]}) == 3
        for video, text in zip((2, 2, 2, 0, 0, 0, 1, 1, 1), texts, strict=True):
            seen[video].add(text)
    for video, item in enumerate(data.train):
        assert seen[video] == {caption.text for caption in item.captions}


def rows_of(batch: CaptionBatch, task: CaptioningTask) -> list[Tensor]:
    """The tokens of each sentence, without padding."""
    return [row[row != task.tokenizer.pad] for row in batch.tokens]


def test_a_video_that_is_no_clip_is_refused() -> None:
    data = data_of(1, 1)
    task = task_of(data)
    later = Caption(start=0.5, end=1.0, text="again")
    two = replace(data.train[0], captions=(*data.train[0].captions, later))
    for wrong in (two, replace(two, captions=())):
        with pytest.raises(ValueError, match="v0: a clip has one event"):
            train_captioner_quickly(task, [wrong], TrainerConfig(epochs=1), seed=0)
    timed = task_of(data, words=TokenizerConfig(words=300, time_tokens=10))
    with pytest.raises(ValueError, match=r"words\.time_tokens must be 0, got 10"):
        train_captioner_quickly(timed, data.train, TrainerConfig(epochs=1), seed=0)


@on_gpu
@pytest.mark.parametrize("mixer", ["mamba1", "lstm", "attention"])
def test_graphs_on_a_gpu_train_as_single_kernels_do(
    mixer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, found = data_of(1, 1, 1, 1, 1), []
    config = TrainerConfig(epochs=8, batch_size=2, ema=0.9)
    for waiting in ("2L", "".join(MIXERS)):
        monkeypatch.setattr(quick_captions, "WAITING", waiting)
        task = task_of(data, mixer=mixer)
        train_captioner_quickly(task, data.train, config, seed=1, device="cuda")
        found.append(task.cpu().state_dict())
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-3, atol=1e-4)
