from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from tokenizers import Tokenizer

from vidmamba.config import to_plain
from vidmamba.datasets.batching import make_loader
from vidmamba.datasets.records import LabelledSet, VideoItem
from vidmamba.models.segmenter import SegmenterConfig
from vidmamba.models.tokenizer import train_tokenizer
from vidmamba.tasks.caption_batches import (
    CaptionBatchConfig,
    frame_edges,
)
from vidmamba.tasks.caption_losses import CaptionLossConfig, caption_losses, word_loss
from vidmamba.tasks.captioning import CaptioningTask
from vidmamba.tasks.checkpoints import load_captioning_task
from vidmamba.tasks.optim import OptimConfig
from vidmamba.tasks.segmentation import LossConfig, make_task
from vidmamba.timeline import Caption

from .animals import MODEL, WORDS, clips, labelled_set, new_task


def fit(
    task: CaptioningTask, data: LabelledSet, folder: Path, *, epochs: int, validate: bool = True
) -> Trainer:
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=epochs,
        gradient_clip_val=1.0,
    )
    train, held_back = (
        make_loader(items, batch_size=2, shuffle=shuffle, collate=task.collate)
        for items, shuffle in ((data.train, True), (data.validation, False))
    )
    trainer.fit(task, train, held_back if validate else None)
    return trainer


def told(task: CaptioningTask, item: VideoItem) -> tuple[Caption, ...]:
    return task.predict(item.read_features(), frame_edges(item.timestamps)).captions


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_it_learns_to_say_all_it_was_taught_and_says_it_again_from_its_checkpoint(
    tmp_path: Path,
) -> None:
    data = labelled_set(2)
    task = new_task(data)
    trainer = fit(task, data, tmp_path, epochs=120)
    assert trainer.callback_metrics["val/score"] > 90
    assert trainer.callback_metrics["val/score"] == trainer.callback_metrics["val/soda_c"]
    for item in data.train:
        captions = told(task, item)
        # what it leaves with, it came with: that is long gone
        assert [c.text for c in captions] == [c.text for c in item.captions]
        for found, true in zip(captions, item.captions, strict=True):
            assert abs(found.start - true.start) < 0.5
            assert abs(found.end - true.end) < 0.5
    checkpoint = tmp_path / "model.ckpt"
    trainer.save_checkpoint(checkpoint)
    torch.load(checkpoint, weights_only=True)
    again = load_captioning_task(checkpoint)
    for item in data.train:
        assert told(again, item) == told(task, item)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_clip_gets_one_of_its_sentences_and_is_scored_against_all(tmp_path: Path) -> None:
    data = clips(2)
    task = new_task(data, batches=CaptionBatchConfig(references=2))
    assert task.net.events is None
    trainer = fit(task, data, tmp_path, epochs=60)
    assert trainer.callback_metrics["val/score"] == trainer.callback_metrics["val/cider_d"]
    right = 0
    for item in data.train:
        captions = told(task, item)
        assert [(c.start, c.end) for c in captions] == [(c.start, c.end) for c in item.captions[:1]]
        right += captions[0].text in {c.text for c in item.captions}
    assert right == 2


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_two_runs_of_one_seed_are_one_run(tmp_path: Path) -> None:
    data = labelled_set(4)
    states = []
    for run in ("one", "other"):
        task = new_task(data, batches=CaptionBatchConfig(jitter=0.2), score="loss")
        trainer = fit(task, data, tmp_path / run, epochs=2)
        score, loss = (trainer.callback_metrics[name] for name in ("val/score", "val/loss"))
        assert score == -loss
        states.append(task.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def losses_of(task: CaptioningTask, items: tuple[VideoItem, ...]) -> dict[str, torch.Tensor]:
    batch = task.collate(items)
    return caption_losses(batch, task.eval()(batch), task.tokenizer, task.loss)


def test_each_loss_may_be_left_out_but_not_all() -> None:
    data = labelled_set(4)
    every = losses_of(new_task(data), data.train)
    assert {*every} == {"words", "mentions", "times", "frames"}
    for name in every:
        without: dict[str, Any] = {name: 0.0}
        task = new_task(data, loss=CaptionLossConfig(**without))
        assert {*losses_of(task, data.train)} == {*every} - {name}
    assert new_task(data, loss=CaptionLossConfig(frames=0.0)).net.head is None
    with pytest.raises(ValueError, match="must have a weight above 0"):
        CaptionLossConfig(words=0.0, times=0.0, frames=0.0)
    with pytest.raises(ValueError, match=r"nothing is learned: loss\.words is 0"):
        new_task(clips(2), loss=CaptionLossConfig(words=0.0, frames=0.0))


def test_the_loss_of_a_video_does_not_depend_on_the_padding_beside_it() -> None:
    data = labelled_set(3)
    task = new_task(data, batches=CaptionBatchConfig(jitter=0.0))
    alone = [losses_of(task, (item,)) for item in data.train]
    for row in (0, 1):
        batch = task.collate([data.train[row], data.train[2]])
        out = task.eval()(batch)
        mine = batch.videos[batch.about] == 0
        words = word_loss(out.words[mine], batch.tokens[mine, 1:], task.tokenizer.pad, 0.05)
        torch.testing.assert_close(words, alone[row]["words"])


def test_a_batch_without_a_sentence_costs_frames_and_events_alone() -> None:
    data = labelled_set(2)
    silent = tuple(replace(item, captions=()) for item in data.train)
    task = new_task(data)
    losses = losses_of(task, silent)
    assert losses["words"] == losses["mentions"] == 0
    assert all(torch.isfinite(loss) for loss in losses.values())
    torch.stack([*losses.values()]).sum().backward()


def test_what_is_told_again_has_a_loss_of_its_own_and_moves_no_other() -> None:
    data = labelled_set(4)
    plain = new_task(data, batches=CaptionBatchConfig(jitter=0.0)).eval()
    task = new_task(data, batches=CaptionBatchConfig(jitter=0.0, again=1)).eval()
    one, other = losses_of(plain, data.train), losses_of(task, data.train)
    assert {*other} == {*one, "again"}
    for name, loss in one.items():
        torch.testing.assert_close(loss, other[name])
    weighted = new_task(
        data, batches=CaptionBatchConfig(again=1), loss=CaptionLossConfig(again=0.0)
    )
    assert "again" not in losses_of(weighted, data.train)


# beginnings


def test_it_may_start_from_a_segmenter_of_its_stack_and_from_no_other() -> None:
    data = labelled_set(4)

    def segmenter(width: int, key: dict[str, Any], *, each: bool = False, **values: Any) -> Any:
        stack = replace(MODEL.stack, width=width)
        return make_task(
            replace(data, feature_key=key, **values),
            model=SegmenterConfig(stack=stack, augment=MODEL.augment, standardize_videos=each),
            optim=OptimConfig(),
            loss=LossConfig(),
            data_config={},
        )

    fitting = segmenter(24, data.feature_key)
    task = new_task(data, segmenter=fitting)
    features = data.train[0].read_features()
    edges = frame_edges(data.train[0].timestamps)
    found = task.predict(features, edges).probabilities
    assert found is not None
    np.testing.assert_allclose(found, fitting.probabilities(features), rtol=1e-5)
    with pytest.raises(ValueError, match="segmenter does not fit"):
        new_task(data, segmenter=segmenter(16, data.feature_key))
    with pytest.raises(ValueError, match="source: expected 'else', found 'made up'"):
        new_task(data, segmenter=segmenter(24, data.feature_key | {"source": "else"}))
    renamed = segmenter(24, data.feature_key, class_names=("nothing", "leave", "come"))
    with pytest.raises(ValueError, match=r"names other classes: \('nothing', 'leave', 'come'\)"):
        new_task(data, segmenter=renamed)
    new_task(data, segmenter=renamed, loss=CaptionLossConfig(frames=0.0))  # no class is read
    with pytest.raises(ValueError, match="standardize_videos"):
        new_task(data, segmenter=segmenter(24, data.feature_key, each=True))


def test_it_may_start_from_a_language_model_and_comes_back_without_its_folder(
    tmp_path: Path,
) -> None:
    from transformers import MambaConfig, MambaForCausalLM  # slow to import

    data = labelled_set(4)
    words = train_tokenizer([c.text for i in data.train for c in i.captions], WORDS).words
    size = Tokenizer.from_str(words).get_vocab_size()
    folder = tmp_path / "model"
    shape = MambaConfig(vocab_size=size + 7, hidden_size=32, num_hidden_layers=2, state_size=4)
    model = MambaForCausalLM(shape)
    model.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"tokenizer\.json: no such file"):
        new_task(data, language_model=folder)
    (folder / "tokenizer.json").write_text(words)
    task = new_task(data, language_model=folder)
    assert task.tokenizer.pad == size + 7
    # before training it says what the language model says, whatever it sees
    text = torch.tensor([task.tokenizer.encode("The dog comes")])
    memory = torch.randn(1, 8, MODEL.stack.width)
    with torch.no_grad():
        expected = model(text).logits
        found = task.net.decoder(text, memory=memory)[..., : size + 7]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    checkpoint = tmp_path / "model.ckpt"
    content = {"hyper_parameters": dict(task.hparams), "state_dict": task.state_dict()}
    torch.save(content, checkpoint)
    (folder / "config.json").unlink()
    again = load_captioning_task(checkpoint)
    assert told(again, data.train[0]) == told(task.eval(), data.train[0])


def test_what_a_checkpoint_is_not_is_said_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    with pytest.raises(ValueError, match=r"other\.ckpt: no such checkpoint file"):
        load_captioning_task(path)
    path.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"other\.ckpt: not a vidmamba checkpoint"):
        load_captioning_task(path)
    torch.save({"hyper_parameters": {"kind": "segmentation"}, "state_dict": {}}, path)
    with pytest.raises(ValueError, match=r"other\.ckpt: a segmentation model; this needs a cap"):
        load_captioning_task(path)
    values = dict(new_task(labelled_set(2)).hparams)
    values |= {"version": "9.1", "optim": {"momentum": 0.9}}
    torch.save({"hyper_parameters": values, "state_dict": {}}, path)
    with pytest.raises(ValueError, match=r"other\.ckpt: made by vidmamba 9\.1, .* momentum"):
        load_captioning_task(path)


def test_data_without_captions_and_other_data_are_refused() -> None:
    data = labelled_set(2)
    silent = tuple(replace(item, captions=()) for item in data.train)
    with pytest.raises(ValueError, match="none of 2 training videos has any"):
        new_task(replace(data, train=silent))
    task = new_task(data)
    task.check_data(data)
    with pytest.raises(ValueError, match="source: expected 'made up', found 'elsewhere'"):
        task.check_data(replace(data, feature_key={"width": 4, "source": "elsewhere"}))
    with pytest.raises(ValueError, match="class names: expected"):
        task.check_data(replace(data, class_names=("nothing", "come", "go")))
    assert to_plain(MODEL)["events"]["lengths"] is None
    assert task.hparams["model"]["events"]["lengths"]
