"""Training: what a run leaves behind, and that averaged weights are the average."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vidmamba.datasets.records import LabelledSet, VideoItem
from vidmamba.models.captioner import CaptionerConfig
from vidmamba.models.captioner_events import EventConfig
from vidmamba.models.decoder import DecoderConfig
from vidmamba.models.segmenter import SegmenterConfig
from vidmamba.models.tokenizer import CaptionTokenizer, TokenizerConfig
from vidmamba.nn.stack import StackConfig
from vidmamba.tasks.caption_losses import CaptionLossConfig
from vidmamba.tasks.caption_setup import make_captioning_task
from vidmamba.tasks.checkpoints import load_task
from vidmamba.tasks.optim import OptimConfig
from vidmamba.tasks.segmentation import LossConfig, SegmentationTask, make_task
from vidmamba.timeline import Caption
from vidmamba.training import TrainerConfig, fit, seed_everything


def _video(number: int) -> VideoItem:
    random = np.random.default_rng(number)
    labels = np.repeat([0, 1], 8)
    features = random.normal(labels[:, None], 1.0, (16, 3)).astype(np.float32)
    return VideoItem(
        name=f"v{number}", features=features, labels=labels, timestamps=np.arange(16) / 5.0
    )


def _set(*, held_back: int = 2) -> LabelledSet:
    items = tuple(_video(number) for number in range(8))
    return LabelledSet(
        class_names=("rest", "move"),
        background=(),
        train=items[held_back:],
        validation=items[:held_back],
        test=items[:2],
        feature_key={"width": 3},
    )


class _Recorder(SegmentationTask):
    """Remembers its weights after every step."""

    seen: list[torch.Tensor]

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:
        self.seen.append(self.net.encoder.embed.weight.detach().clone())


def _task(data: LabelledSet) -> _Recorder:
    seed_everything(3)
    plain = make_task(
        data,
        model=SegmenterConfig(stack=StackConfig(width=8, depth=1)),
        optim=OptimConfig(lr=1e-2),
        loss=LossConfig(),
        data_config={"root": "x"},
    )
    task = _Recorder(**plain.hparams)
    task.load_state_dict(plain.state_dict())
    task.seen = []
    return task


def test_the_kept_weights_are_the_running_average_of_all_steps(tmp_path: Path) -> None:
    data = _set()
    task = _task(data)
    config = TrainerConfig(epochs=3, batch_size=2, wandb="off", ema=0.8)
    run = fit(task, data, config, seed=0, output=tmp_path)
    average = task.seen[0]
    for weights in task.seen[1:]:
        average = 0.8 * average + 0.2 * weights
    kept = load_task(run.last, device="cpu").net.encoder.embed.weight
    torch.testing.assert_close(kept, average, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(kept, task.seen[-1], atol=1e-4)


def test_without_averaging_the_last_weights_are_kept(tmp_path: Path) -> None:
    data = _set()
    task = _task(data)
    run = fit(
        task,
        data,
        TrainerConfig(epochs=2, batch_size=2, wandb="off"),
        seed=0,
        output=tmp_path,
    )
    torch.testing.assert_close(
        load_task(run.last, device="cpu").net.encoder.embed.weight, task.seen[-1]
    )


def test_where_nothing_is_held_back_the_best_checkpoint_is_the_last(tmp_path: Path) -> None:
    data = _set(held_back=0)
    config = TrainerConfig(epochs=2, batch_size=4, wandb="off")
    run = fit(_task(data), data, config, seed=0, output=tmp_path)
    best, last = (
        load_task(run.best, device="cpu").state_dict(),
        load_task(run.last, device="cpu").state_dict(),
    )
    assert all(torch.equal(best[name], last[name]) for name in last)


def test_a_run_that_would_end_before_it_is_validated_is_refused(tmp_path: Path) -> None:
    config = TrainerConfig(epochs=2, batch_size=4, wandb="off", validate_every=3)
    with pytest.raises(ValueError, match="validate_every 3: in 2 epochs nothing"):
        fit(_task(_set()), _set(), config, seed=0, output=tmp_path)


@pytest.mark.parametrize("held_back", [0, 2])
def test_the_last_epoch_is_kept_though_it_is_not_validated(held_back: int, tmp_path: Path) -> None:
    data = _set(held_back=held_back)
    task = _task(data)
    config = TrainerConfig(epochs=3, batch_size=4, wandb="off", validate_every=2)
    run = fit(task, data, config, seed=0, output=tmp_path)
    torch.testing.assert_close(
        load_task(run.last, device="cpu").net.encoder.embed.weight, task.seen[-1]
    )
    best = 2 * len(task.seen) // 3 if held_back else len(task.seen)
    torch.testing.assert_close(
        load_task(run.best, device="cpu").net.encoder.embed.weight, task.seen[best - 1]
    )


@pytest.mark.parametrize("ema", [0.0, 1.0, -0.5])
def test_an_average_that_keeps_all_or_nothing_is_refused(ema: float) -> None:
    with pytest.raises(ValueError, match=str(ema)):
        TrainerConfig(ema=ema)


@pytest.mark.parametrize("dense", [True, False])
def test_a_captioners_run_has_a_table_of_truth_prediction_and_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dense: bool
) -> None:
    """The offline run's files hold the table, a row a validation video."""
    monkeypatch.setattr(CaptionTokenizer, "decode", lambda *_: "It moves.")
    texts = ("It moves.", "A thing stands.", "It moves.", "It moves.")
    items = tuple(
        replace(_video(number), captions=(Caption(start=0.0, end=2.0, text=text),))
        for number, text in enumerate(texts)
    )
    data = replace(_set(), train=items[1:], validation=items[:2])
    task = make_captioning_task(
        data,
        model=CaptionerConfig(
            stack=StackConfig(width=8, depth=0),
            events=EventConfig(lengths=(10.0,) if dense else ()),
            decoder=DecoderConfig(vocabulary=1, width=8, depth=1),
        ),
        optim=OptimConfig(),
        loss=CaptionLossConfig(),
        words=TokenizerConfig(words=300, least_count=1),
        data_config={},
    )
    trainer = TrainerConfig(epochs=1, batch_size=2, wandb="offline")
    fit(task, data, trainer, seed=0, output=tmp_path, collate=task.collate)
    tables = [json.loads(path.read_text()) for path in tmp_path.rglob("captions*.table.json")]
    (table,) = tables
    scores = ["soda_c", "precision", "recall"] if dense else ["cider_d", "bleu4"]
    assert table["columns"] == ["video", "truth", "prediction", *scores]
    rows = {row[0]: row[1:] for row in table["data"]}
    assert rows["v0"][0] == "0.0-2.0 s  It moves."
    if not dense:  # of two words, half of CIDEr's four sizes of n-grams
        assert rows["v0"][2] == pytest.approx(500)
        assert rows["v1"][2] == 0
