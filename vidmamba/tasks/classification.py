"""Video-level action recognition: name the class, or the classes, of a whole video."""

from typing import Any

import lightning as L
import numpy as np
import torch
from jaxtyping import Bool, Float
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MultilabelRankingAveragePrecision

from vidmamba import __version__
from vidmamba.config import differences, from_plain, to_plain
from vidmamba.datasets.batching import Batch
from vidmamba.datasets.records import LabelledSet
from vidmamba.metrics import MeanAveragePrecision
from vidmamba.models.classifier import Classifier, ClassifierConfig
from vidmamba.tasks.optim import OptimConfig, configure
from vidmamba.tasks.statistics import feature_statistics


class ClassificationTask(L.LightningModule):
    """Train a `Classifier`: softmax where a video has one class, sigmoids where it may have more.

    Like `SegmentationTask`, its hyper-parameters are plain, so that a checkpoint carries all.
    """

    kind = "classification"

    def __init__(
        self,
        *,
        model: dict[str, Any],
        optim: dict[str, Any],
        labels: dict[str, Any],
        features: dict[str, Any],
        data: dict[str, Any],
        label_smoothing: float = 0.0,
        kind: str = "classification",
        version: str = __version__,
    ) -> None:
        """Build from plain dicts; `make_classification_task` makes them from configs and data."""
        super().__init__()
        self.save_hyperparameters()
        self.video_class_names: tuple[str, ...] = tuple(labels["video_class_names"])
        self.multi_label = bool(labels["multi_label"])
        self.feature_key = features
        self.data = data
        self.optim = from_plain(OptimConfig, optim)
        self.label_smoothing = label_smoothing
        self.net = Classifier(
            from_plain(ClassifierConfig, model),
            num_features=features["width"],
            num_classes=len(self.video_class_names),
        )
        self.score = class_metrics(len(self.video_class_names), multi_label=self.multi_label)

    def forward(
        self, features: Float[Tensor, "B T F"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B L"]:
        """Return class logits for every video."""
        return self.net(features, mask)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Return the loss of one batch."""
        loss = self._loss(batch, self(batch.features, batch.mask))
        self.log("train/loss", loss, batch_size=len(batch.names))
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Gather the loss and the scores of one batch."""
        logits = self(batch.features, batch.mask)
        self.log("val/loss", self._loss(batch, logits), batch_size=len(batch.names))
        self.score.update(self._chances(logits), _targets(batch.video_labels, self.multi_label))

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the whole validation part."""
        scores = {name: 100 * value for name, value in self.score.compute().items()}
        self.score.reset()
        self.log_dict({f"val/{name}": value for name, value in scores.items()})
        self.log("val/score", scores["map" if self.multi_label else "top1"])

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with warm-up and cosine decay."""
        steps = max(int(self.trainer.estimated_stepping_batches), 1)
        return configure(self, self.optim, steps=steps)

    @torch.no_grad()
    def probabilities(self, features: Float[np.ndarray, "T F"]) -> Float[np.ndarray, " L"]:
        """Return one video's class probabilities; with `multi_label` they need not sum to 1."""
        self.eval()
        x = torch.as_tensor(features, dtype=torch.float32, device=self.device).unsqueeze(0)
        mask = torch.ones(x.shape[:2], dtype=torch.bool, device=self.device)
        return self._chances(self(x, mask))[0].cpu().numpy()

    def check_data(self, data: LabelledSet) -> None:
        """Refuse data that this model was not trained for.

        Raises:
            ValueError: other features or other class names, with each difference.
        """
        lines = differences(self.feature_key, data.feature_key)
        if data.video_class_names != self.video_class_names:
            expected, found = self.video_class_names, data.video_class_names
            lines.append(f"video class names: expected {expected}, found {found}")
        if lines:
            raise ValueError("the checkpoint does not fit this data:\n  " + "\n  ".join(lines))

    def _chances(self, logits: Float[Tensor, "B L"]) -> Float[Tensor, "B L"]:
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=-1)

    def _loss(self, batch: Batch, logits: Float[Tensor, "B L"]) -> Tensor:
        targets = _targets(batch.video_labels, self.multi_label)
        if self.multi_label:
            return F.binary_cross_entropy_with_logits(logits, batch.video_labels)
        return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)


def class_metrics(num_classes: int, *, multi_label: bool) -> MetricCollection:
    """Return what the field reports: mAP, and top-1 and top-5 where a video has one label.

    Shares, not percentages, of class probabilities. `map` is the mean over classes of the average
    precision (as Charades'); `ranking`, with several labels a video, that over videos.
    """
    if multi_label:
        ranking = MultilabelRankingAveragePrecision(num_classes)
        return MetricCollection({"map": MeanAveragePrecision(), "ranking": ranking})
    five = min(5, num_classes)
    return MetricCollection(
        {
            "top1": MulticlassAccuracy(num_classes, average="micro"),
            "top5": MulticlassAccuracy(num_classes, average="micro", top_k=five),
            "map": MeanAveragePrecision(),
        }
    )


def make_classification_task(
    data: LabelledSet,
    *,
    model: ClassifierConfig,
    optim: OptimConfig,
    data_config: dict[str, Any],
    label_smoothing: float = 0.0,
) -> ClassificationTask:
    """Build a task for this data, its features standardised by the training frames.

    Raises:
        ValueError: the data names fewer than two classes of whole videos.
    """
    if len(data.video_class_names) < 2:
        raise ValueError(
            "classification needs two classes of whole videos or more; this data set names "
            f"{[*data.video_class_names]}"
        )
    task = ClassificationTask(
        model=to_plain(model),
        optim=to_plain(optim),
        labels={
            "video_class_names": list(data.video_class_names),
            "multi_label": data.multi_label,
        },
        features=dict(data.feature_key),
        data=data_config,
        label_smoothing=label_smoothing,
    )
    task.net.encoder.standardize.set_statistics(*feature_statistics(data))
    return task


def _targets(video_labels: Float[Tensor, "B L"], multi_label: bool) -> Tensor:
    return video_labels.long() if multi_label else video_labels.argmax(dim=-1)
