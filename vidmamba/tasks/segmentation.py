"""Temporal action segmentation: name the action in every frame."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import lightning as L
import numpy as np
import torch
from jaxtyping import Bool, Float
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from vidmamba import __version__
from vidmamba.config import differences, from_plain, to_plain
from vidmamba.datasets.batching import Batch
from vidmamba.datasets.records import LabelledSet
from vidmamba.losses import boundary_loss, segmentation_loss, transcript_loss, transcript_of
from vidmamba.metrics import SegmentationScore
from vidmamba.models.segmenter import FrameScores, Segmenter, SegmenterConfig
from vidmamba.tasks.optim import OptimConfig, configure
from vidmamba.tasks.statistics import feature_statistics


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Cross-entropy, and MS-TCN's penalty on jumps between frames."""

    supervision: Literal["frames", "transcripts"] = "frames"
    """transcripts: of each training video only the order of its actions is used (weak)."""

    smoothing: float = 0.15
    """Weight of the truncated smoothing loss."""

    boundary: float = 0.1
    """Weight of the boundary head's loss, where the model has that head."""

    def __post_init__(self) -> None:
        if min(self.smoothing, self.boundary) < 0:
            raise ValueError(f"weights of losses must not be negative, got {self}")


class FramePrediction(NamedTuple):
    """What a model says of one video's frames."""

    probabilities: Float[np.ndarray, "T C"]
    """Of the classes."""

    boundaries: Float[np.ndarray, " T"] | None
    """That a segment begins at a frame; None where the model has no head for it."""


class SegmentationTask(L.LightningModule):
    """Train a `Segmenter` and score it as the field does.

    Its hyper-parameters are plain dicts and lists, so that a checkpoint loads with
    ``weights_only=True`` and says all that is needed to use it: the whole config, the class
    names, what the features are, and the version of this package.
    """

    kind = "segmentation"

    def __init__(
        self,
        *,
        model: dict[str, Any],
        optim: dict[str, Any],
        loss: dict[str, Any],
        labels: dict[str, Any],
        features: dict[str, Any],
        data: dict[str, Any],
        kind: str = "segmentation",
        version: str = __version__,
    ) -> None:
        """Build from plain dicts; `make_task` makes them from configs and data."""
        super().__init__()
        self.save_hyperparameters()
        self.class_names: tuple[str, ...] = tuple(labels["class_names"])
        self.background: tuple[int, ...] = tuple(labels["background"])
        self.memory_classes: tuple[int, ...] = tuple(labels["memory_classes"])
        self.feature_key = features
        self.data = data  # the data's config, as plain values
        self.optim = from_plain(OptimConfig, optim)
        self.loss = from_plain(LossConfig, loss)
        self.net = Segmenter(
            from_plain(SegmenterConfig, model),
            num_features=features["width"],
            num_classes=len(self.class_names),
        )
        self.score = SegmentationScore(background=self.background)

    def forward(
        self, features: Float[Tensor, "B T F"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T C"]:
        """Return class logits for every frame."""
        return self.net(features, mask).logits

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Return the loss of one batch."""
        loss = self.batch_loss(batch)
        self.log("train/loss", loss, batch_size=len(batch.labels))
        return loss

    def batch_loss(self, batch: Batch) -> Tensor:
        """Return the loss of one batch, and log nothing."""
        return self._loss(batch, self.net(batch.features, batch.mask))

    def validation_step(self, batch: Batch, _: int) -> None:
        """Gather the loss and the score of one batch."""
        scores = self.net(batch.features, batch.mask)
        self.log("val/loss", self._loss(batch, scores), batch_size=len(batch.labels))
        self.score.update(scores.logits.argmax(dim=-1), batch.labels, batch.mask)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the whole validation part."""
        scores = self.score.compute()
        self.score.reset()
        self.log_dict({f"val/{name}": value for name, value in scores.items()})
        # one figure to choose a checkpoint by: right frames, right order and right borders
        chosen = ("accuracy", "edit", "f1@50")
        self.log("val/score", sum(float(scores[name]) for name in chosen) / len(chosen))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with warm-up and cosine decay."""
        steps = max(int(self.trainer.estimated_stepping_batches), 1)
        return configure(self, self.optim, steps=steps)

    def probabilities(self, features: Float[np.ndarray, "T F"]) -> Float[np.ndarray, "T C"]:
        """Return one video's class probabilities."""
        return self.predict_frames(features).probabilities

    @torch.no_grad()
    def predict_frames(self, features: Float[np.ndarray, "T F"]) -> FramePrediction:
        """Return one video's class probabilities, and where its segments begin."""
        self.eval()
        x = torch.as_tensor(features, dtype=torch.float32, device=self.device).unsqueeze(0)
        mask = torch.ones(x.shape[:2], dtype=torch.bool, device=self.device)
        scores = self.net(x, mask)
        boundaries = scores.boundaries
        return FramePrediction(
            scores.logits[0].softmax(dim=-1).cpu().numpy(),
            None if boundaries is None else boundaries[0].sigmoid().cpu().numpy(),
        )

    def check_data(self, data: LabelledSet) -> None:
        """Refuse data that this model was not trained for.

        Raises:
            ValueError: other features or other class names, with each difference.
        """
        lines = differences(self.feature_key, data.feature_key)
        if tuple(data.class_names) != self.class_names:
            lines.append(f"class names: expected {self.class_names}, found {data.class_names}")
        if lines:
            raise ValueError("the checkpoint does not fit this data:\n  " + "\n  ".join(lines))

    def _loss(self, batch: Batch, scores: FrameScores) -> Tensor:
        """Sum the losses of all stages, and the boundary head's."""
        stages = (*scores.stages, scores.logits)
        if self.loss.supervision == "transcripts":
            transcripts = [transcript_of(labels) for labels in batch.labels]
            return torch.stack(
                [transcript_loss(stage, transcripts, batch.mask) for stage in stages]
            ).sum()
        losses = [
            segmentation_loss(stage, batch.labels, batch.mask, smoothing=self.loss.smoothing)
            for stage in stages
        ]
        if scores.boundaries is not None:
            found = boundary_loss(scores.boundaries, batch.labels, batch.mask)
            losses.append(self.loss.boundary * found)
        return torch.stack(losses).sum()


def make_task(
    data: LabelledSet,
    *,
    model: SegmenterConfig,
    optim: OptimConfig,
    loss: LossConfig,
    data_config: dict[str, Any],
) -> SegmentationTask:
    """Build a task for this data, its features standardised by the training frames.

    Raises:
        ValueError: the data names no class of frames, or nothing would teach the boundary head.
    """
    if not data.class_names:
        raise ValueError(
            "segmentation needs a class of frames or more, and this data set names none; for its "
            f"{len(data.video_class_names)} classes of whole videos, set task to classification"
        )
    if model.boundaries and loss.supervision == "transcripts":
        raise ValueError(
            "model.boundaries: with loss.supervision transcripts nothing tells where segments "
            "begin, and the head would never learn it; leave it off, or train on frames"
        )
    task = SegmentationTask(
        model=to_plain(model),
        optim=to_plain(optim),
        loss=to_plain(loss),
        labels={
            "class_names": list(data.class_names),
            "background": list(data.background),
            "memory_classes": list(data.memory_classes),
        },
        features=dict(data.feature_key),
        data=data_config,
    )
    task.net.encoder.standardize.set_statistics(*feature_statistics(data))
    return task
