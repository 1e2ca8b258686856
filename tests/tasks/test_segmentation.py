import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer

from vidmamba.datasets.batching import Batch, make_loader
from vidmamba.datasets.records import LabelledSet, VideoItem
from vidmamba.losses import boundary_loss, segmentation_loss
from vidmamba.models.augment import AugmentConfig
from vidmamba.models.segmenter import SegmenterConfig
from vidmamba.nn.stack import StackConfig
from vidmamba.tasks.checkpoints import load_task
from vidmamba.tasks.optim import OptimConfig, configure
from vidmamba.tasks.segmentation import LossConfig, SegmentationTask, make_task

MODEL = SegmenterConfig(
    stack=StackConfig(width=16, depth=1), augment=AugmentConfig(channel_dropout=0.0)
)


def video(name: str, *, frames: int, seed: int) -> VideoItem:
    """The class of every frame is the sign that the first frame alone shows: memory is needed."""
    random = np.random.default_rng(seed)
    features = random.normal(0, 0.1, (frames, 4)).astype(np.float32)
    label = seed % 2
    features[0, 0] = 4 * label - 2
    labels = np.full(frames, label, dtype=np.int64)
    return VideoItem(
        name=name, features=features, labels=labels, timestamps=np.arange(frames) / 10.0
    )


def labelled_set() -> LabelledSet:
    items = tuple(video(f"v{seed}", frames=20 + seed % 7, seed=seed) for seed in range(40))
    return LabelledSet(
        class_names=("empty", "full"),
        background=(),
        train=items[:32],
        validation=items[32:],
        test=items[32:],
        feature_key={"width": 4, "source": "made up"},
    )


def new_task(data: LabelledSet, *, lr: float = 1e-2) -> SegmentationTask:
    return make_task(
        data, model=MODEL, optim=OptimConfig(lr=lr), loss=LossConfig(), data_config={"root": "x"}
    )


def quiet_trainer(folder: Path, epochs: int) -> Trainer:
    return Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
    )


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_training_teaches_it_to_remember_the_first_frame(tmp_path: Path) -> None:
    data = labelled_set()
    task = new_task(data)
    trainer = quiet_trainer(tmp_path, epochs=12)
    train = make_loader(data.train, batch_size=4, shuffle=True)
    held_back = make_loader(data.validation, batch_size=4, shuffle=False)
    trainer.fit(task, train, held_back)
    assert trainer.callback_metrics["val/accuracy"] > 90
    checkpoint = tmp_path / "model.ckpt"
    trainer.save_checkpoint(checkpoint)
    again = load_task(checkpoint, device="cpu")
    assert again.class_names == ("empty", "full")
    for item in data.test:
        probabilities = task.probabilities(item.read_features())
        np.testing.assert_array_equal(again.probabilities(item.read_features()), probabilities)


def _losses(labels: list[list[int]], **loss: Any) -> tuple[SegmentationTask, Batch, torch.Tensor]:
    """A task with every head that its loss teaches, a batch, and a training step's loss on it."""
    torch.manual_seed(0)
    small = StackConfig(width=8, depth=1)
    data = labelled_set()
    model = SegmenterConfig(
        stack=small,
        refinements=2,
        refinement=small,
        boundaries="supervision" not in loss,
        augment=MODEL.augment,
    )
    task = make_task(
        data, model=model, optim=OptimConfig(), loss=LossConfig(**loss), data_config={}
    )
    mask = torch.ones(len(labels), len(labels[0]), dtype=torch.bool)
    features = torch.randn(*mask.shape, 4)
    batch = Batch(features, torch.tensor(labels), mask, ("a", "b"), torch.zeros(len(labels), 0))
    return task, batch, task.eval().training_step(batch, 0)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_the_loss_sums_every_stage_and_the_boundary_head() -> None:
    task, batch, loss = _losses([[0, 0, 1, 1], [1, 0, 0, 0]], boundary=0.7, smoothing=0.2)
    scores = task.net(batch.features, batch.mask)
    assert scores.boundaries is not None
    assert len(scores.stages) == 2
    terms = [
        segmentation_loss(stage, batch.labels, batch.mask, smoothing=0.2)
        for stage in (scores.logits, *scores.stages)
    ]
    terms.append(0.7 * boundary_loss(scores.boundaries, batch.labels, batch.mask))
    torch.testing.assert_close(loss, torch.stack(terms).sum())
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in task.net.parameters())


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_weak_supervision_knows_the_order_of_actions_and_not_their_times() -> None:
    early, late, other = (
        _losses(labels, supervision="transcripts")[2]
        for labels in (
            [[0, 1, 1, 1], [1, 1, 1, 0]],
            [[0, 0, 0, 1], [1, 0, 0, 0]],
            [[1, 0, 0, 0], [1, 1, 1, 0]],
        )
    )
    assert torch.equal(early, late)
    assert not torch.equal(early, other)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
def test_a_boundary_head_gives_one_probability_a_frame() -> None:
    task, batch, _ = _losses([[0, 0, 1, 1], [1, 0, 0, 0]])
    frames = task.predict_frames(batch.features[0].numpy())
    raw = task.net(batch.features, batch.mask).boundaries
    assert frames.boundaries is not None
    assert raw is not None
    np.testing.assert_allclose(frames.boundaries, raw[0].sigmoid().detach().numpy(), rtol=1e-5)
    assert new_task(labelled_set()).predict_frames(np.zeros((5, 4), np.float32)).boundaries is None


def test_a_head_that_nothing_would_teach_is_refused() -> None:
    data, optim = labelled_set(), OptimConfig()
    with pytest.raises(ValueError, match=r"model\.boundaries: with .* transcripts nothing tells"):
        make_task(
            data,
            model=replace(MODEL, boundaries=True),
            optim=optim,
            loss=LossConfig(supervision="transcripts"),
            data_config={},
        )
    blank = tuple(replace(item, labels=np.full(item.num_frames, -1)) for item in data.train)
    whole = replace(
        data, class_names=(), train=blank, validation=(), test=(), video_class_names=("a", "b"),
        multi_label=True,
    )  # fmt: skip
    with pytest.raises(ValueError, match="names none; for its 2 classes of whole videos"):
        make_task(whole, model=MODEL, optim=optim, loss=LossConfig(), data_config={})


def test_probabilities_of_each_frame_sum_to_one() -> None:
    task = new_task(labelled_set())
    probabilities = task.probabilities(np.zeros((5, 4), dtype=np.float32))
    np.testing.assert_allclose(probabilities.sum(axis=-1), np.ones(5), rtol=1e-5)


def test_features_are_standardised_by_the_training_frames_alone() -> None:
    data = labelled_set()
    frames = torch.from_numpy(np.concatenate([item.read_features() for item in data.train]))
    torch.testing.assert_close(new_task(data).net.encoder.standardize.mean, frames.mean(dim=0))


def test_other_features_and_other_classes_are_refused_each_by_name() -> None:
    data = labelled_set()
    task = new_task(data)
    task.check_data(data)
    other = LabelledSet(
        class_names=("empty", "half", "full"),
        background=(),
        train=data.train,
        validation=(),
        test=(),
        feature_key={"width": 4, "source": "elsewhere"},
    )
    with pytest.raises(ValueError, match="source: expected 'made up', found 'elsewhere'") as error:
        task.check_data(other)
    assert "half" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None], ids=["empty", "text", "none"])
def test_a_file_that_is_no_checkpoint_is_refused_by_name(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "broken.ckpt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.ckpt"):
        load_task(path)


def test_a_torch_file_without_our_keys_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"other\.pt: not a vidmamba checkpoint"):
        load_task(path)


def test_the_rate_rises_in_a_line_and_falls_as_a_cosine() -> None:
    layer = torch.nn.Linear(2, 2)
    settings: Any = configure(layer, OptimConfig(lr=0.8, warmup=0.4), steps=10)
    optimizer, schedule = settings["optimizer"], settings["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    falling = [0.4 * (1 + math.cos(math.pi * step / 6)) for step in range(6)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, *falling])


def test_only_matrices_decay(tmp_path: Path) -> None:
    task = new_task(labelled_set())
    task.trainer = quiet_trainer(tmp_path, epochs=1)
    task.trainer.fit_loop.epoch_loop.max_steps = 10
    settings = task.configure_optimizers()
    optimizer = settings["optimizer"]
    kept = {
        id(p)
        for group in optimizer.param_groups
        if not group["weight_decay"]
        for p in group["params"]
    }
    decayed = {name for name, p in task.named_parameters() if id(p) not in kept}
    assert "net.encoder.embed.weight" in decayed
    assert not {name for name in decayed if "bias" in name or "norm" in name or "A_log" in name}
