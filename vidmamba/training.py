"""Train a task: trainer, logs, checkpoints. The only file that knows of W&B."""

import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
import wandb
from lightning.pytorch.callbacks import (
    Callback,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
)
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from vidmamba.datasets.batching import Collate, collate_of, make_loader
from vidmamba.datasets.records import LabelledSet, VideoItem
from vidmamba.report.ribbons import draw_ribbons
from vidmamba.tasks.captioning import CaptioningTask
from vidmamba.tasks.segmentation import SegmentationTask
from vidmamba.timeline import Caption


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How long, on what, and where the logs go."""

    epochs: int = 60
    """Passes over the training videos."""

    batch_size: int = 8
    """Videos in a batch; they need not have one length."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Device; auto takes a GPU where there is one."""

    wandb: Literal["offline", "online", "off"] = "offline"
    """offline writes a run to sync later; online sends it; off writes a CSV file alone."""

    project: str = "vidmamba"
    """The W&B project that runs are listed under."""

    clip: float = 1.0
    """Largest norm of the gradient."""

    ema: float | None = None
    """Share of the averaged weights that a step keeps (0.998, say), null for the last weights; what
    is validated, kept and scored are then the averaged ones (an exponential moving average)."""

    validate_every: int = 1
    """Epochs between two validations."""

    ribbons: int = 2
    """Validation videos whose true and predicted timelines are drawn into the log."""

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.validate_every) < 1:
            raise ValueError(f"epochs, batch_size and validate_every must be >= 1, got {self}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema must lie in (0, 1), or be null for none, got {self.ema}")


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """What a training run leaves behind."""

    best: Path
    """The checkpoint with the best validation score; the last one where nothing was held back."""

    last: Path
    """The checkpoint after the last epoch."""

    logs: Path
    """Folder of the W&B run, or of the CSV log."""


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy, PyTorch and the loaders' workers."""
    L.seed_everything(seed, workers=True, verbose=False)


def fit(
    task: L.LightningModule,
    data: LabelledSet,
    config: TrainerConfig,
    *,
    seed: int,
    output: Path,
    collate: Collate | None = None,
) -> TrainedRun:
    """Train ``task`` and keep its best and last checkpoint in ``output``.

    Args:
        task: logs `train/loss`, and `val/score` where ``data`` has a validation part.
        data: its training part is trained on, its validation part chosen by.
        config: how long, on what, with which logs.
        seed: fixes the order of the videos.
        output: folder of checkpoints and logs.
        collate: makes a batch of videos; by default `collate_of(data)`.

    Raises:
        ValueError: there is a validation part, and the run would end before it is looked at.
    """
    if data.validation and config.validate_every > config.epochs:
        raise ValueError(
            f"validate_every {config.validate_every}: in {config.epochs} epochs nothing would be "
            "validated, and no best checkpoint be found"
        )
    output.mkdir(parents=True, exist_ok=True)
    logger = _make_logger(config, output)
    # two of them: Lightning's own `save_last` writes only where the best one changes
    callbacks: list[Callback] = [
        ModelCheckpoint(
            output,
            filename=name,
            monitor=monitor,
            mode="max",
            enable_version_counter=False,
            # left to Lightning, epochs that are not validated leave no checkpoint
            save_on_train_epoch_end=monitor != "val/score",
        )
        for name, monitor in (("best", "val/score" if data.validation else None), ("last", "step"))
    ]
    callbacks += [LearningRateMonitor("step"), FramesPerSecond()]
    callbacks.append(EpochProgress())
    if config.ema is not None:
        callbacks.append(EMAWeightAveraging(decay=config.ema, use_buffers=False))
    if config.ribbons and isinstance(logger, WandbLogger) and isinstance(task, SegmentationTask):
        callbacks.append(RibbonLog(data.validation[: config.ribbons], every=10))
    if isinstance(logger, WandbLogger) and isinstance(task, CaptioningTask):
        callbacks.append(CaptionTable())
    with quiet_lightning():
        trainer = _make_trainer(config, logger, callbacks)
    train, held_back = (
        make_loader(
            items,
            batch_size=config.batch_size,
            shuffle=shuffle,
            seed=seed,
            collate=collate or collate_of(data),
        )
        if items
        else None
        for items, shuffle in ((data.train, True), (data.validation, False))
    )
    with quiet_lightning():
        trainer.fit(task, train, held_back)
    logs = output / "log"
    if isinstance(logger, WandbLogger):
        logs = Path(logger.experiment.dir).parent  # its own `dir` is the folder for files
        wandb.finish()
    return TrainedRun(best=output / "best.ckpt", last=output / "last.ckpt", logs=logs)


class EpochProgress(Callback):
    """One line on stderr: epochs done, time left, the loss and what a checkpoint is chosen by."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the bar."""
        self._bar = Progress(
            TextColumn("train  "),
            BarColumn(),
            TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=Console(stderr=True),
        )
        self._line = self._bar.add_task("train", total=trainer.max_epochs, figures="")
        self._bar.start()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Move it on."""
        names = {"train/loss": "loss {:.3f}", "val/score": "validation score {:.1f}"}
        known = trainer.callback_metrics
        figures = "  ".join(
            text.format(known[name]) for name, text in names.items() if name in known
        )
        self._bar.update(self._line, advance=1, figures=figures)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Leave the last line standing, also after an error."""
        if hasattr(self, "_bar"):
            self._bar.stop()


class FramesPerSecond(Callback):
    """Log how many frames a second training reads, epoch by epoch."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._start, self._frames = time.perf_counter(), 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, _: int
    ) -> None:
        """Count the real frames of a batch."""
        self._frames += int(batch.mask.sum())

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the epoch's mean."""
        seconds = time.perf_counter() - self._start
        pl_module.log("train/frames_per_second", self._frames / seconds)


class RibbonLog(Callback):
    """Draw true above predicted timelines of some validation videos into the W&B run."""

    def __init__(self, items: Sequence[VideoItem], *, every: int) -> None:
        self._items = items
        self._every = every

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log one picture a video, every so many epochs and at the end."""
        epoch = trainer.current_epoch + 1
        if epoch % self._every and epoch != trainer.max_epochs:
            return
        task, logger = pl_module, trainer.logger
        assert isinstance(task, SegmentationTask)
        assert isinstance(logger, WandbLogger)
        for number, item in enumerate(self._items):
            predicted = task.probabilities(item.read_features()).argmax(axis=-1)
            rows = {"truth": item.labels.tolist(), "predicted": predicted.tolist()}
            picture = draw_ribbons(rows, task.class_names)
            # one key a video: W&B warns of pictures of different sizes under one
            logger.log_image(f"val/ribbons_{number}", [picture], caption=[item.name])


class CaptionTable(Callback):
    """Log a table of videos: what people said of each, what the model says, and its scores."""

    MOST = 50
    """Videos in a table."""

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the table of the validation that just ended."""
        task, logger = pl_module, trainer.logger
        assert isinstance(task, CaptioningTask)
        assert isinstance(logger, WandbLogger)
        rows: list[list[str | float]] = []
        names: list[str] = []
        for video, scores in task.score_each(task.validated, most=self.MOST).items():
            predicted, true = task.validated[video]
            names = [*scores]
            rows.append([video, _lines(true), _lines(predicted), *scores.values()])
        if rows:
            columns = ["video", "truth", "prediction", *names]
            logger.log_table("val/captions", columns=columns, data=rows)


def _lines(captions: Sequence[Caption]) -> str:
    return "\n".join(f"{one.start:.1f}-{one.end:.1f} s  {one.text}" for one in captions)


def _make_trainer(config: TrainerConfig, logger: Logger, callbacks: list[Callback]) -> L.Trainer:
    return L.Trainer(
        logger=logger,
        callbacks=callbacks,
        max_epochs=config.epochs,
        accelerator=config.accelerator,
        devices=1,
        gradient_clip_val=config.clip,
        check_val_every_n_epoch=config.validate_every,
        log_every_n_steps=1,
        enable_model_summary=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
    )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's device listing, advertisements and advice off the terminal."""
    # a run goes on in its folder; features are read faster than trained on; and every video may be
    # wanted for training
    expected = (
        ".*exists and is not empty",
        ".*does not have many workers",
        ".*have no `val_dataloader`",
    )
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in expected:
                warnings.filterwarnings("ignore", message)
            # older than the newest torch
            warnings.filterwarnings("ignore", category=FutureWarning, module="lightning.*")
            warnings.filterwarnings("ignore", category=DeprecationWarning, module="lightning.*")
            yield
    finally:
        logger.setLevel(level)


def _make_logger(config: TrainerConfig, output: Path) -> Logger:
    if config.wandb == "off":
        return CSVLogger(output, name="", version="log")
    run = wandb.init(
        project=config.project,
        dir=output,
        mode=config.wandb,
        config={"trainer": asdict(config)},
        settings=wandb.Settings(silent=True, console="off"),
    )
    return WandbLogger(experiment=run)
