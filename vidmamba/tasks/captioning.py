"""Captioning: a sentence for a clip, or for each event of a long video, with its times."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import lightning as L
import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vidmamba import __version__
from vidmamba.config import differences, from_plain
from vidmamba.datasets.records import LabelledSet
from vidmamba.models.captioner import Captioner, CaptionerConfig, CaptionerOutput
from vidmamba.models.generation import GenerationConfig
from vidmamba.models.telling import Told, tell_all
from vidmamba.models.token_cider import TokenCider
from vidmamba.models.tokenizer import tokenizer_from_plain
from vidmamba.tasks.caption_batches import (
    CaptionBatch,
    CaptionBatchConfig,
    CaptionCollator,
    to_seconds,
)
from vidmamba.tasks.caption_losses import CaptionLossConfig, caption_losses
from vidmamba.tasks.caption_scores import CaptionPairs, score_each, score_pairs
from vidmamba.tasks.optim import OptimConfig, configure
from vidmamba.tasks.self_critical import self_critical_loss
from vidmamba.timeline import Caption

Score = Literal["caption", "loss"]
"""What chooses a checkpoint: SODA_c (of clips, CIDEr) of the validation videos, or their loss."""


class CaptionPrediction(NamedTuple):
    """What a model says of one video."""

    captions: tuple[Caption, ...]
    """Sorted by time, in seconds."""

    probabilities: Float[np.ndarray, "T C"] | None
    """Of the frames' classes; None where the model has no head for them."""


class CaptioningTask(L.LightningModule):
    """Train a `Captioner`, and score what it writes as the field does.

    Like `SegmentationTask`, its hyper-parameters are plain, so that a checkpoint carries all: the
    tokenizer is in it as a string.
    """

    kind = "captioning"

    def __init__(
        self,
        *,
        model: dict[str, Any],
        optim: dict[str, Any],
        loss: dict[str, Any],
        tokenizer: dict[str, Any],
        generation: dict[str, Any],
        batches: dict[str, Any],
        labels: dict[str, Any],
        features: dict[str, Any],
        data: dict[str, Any],
        ngrams: int = 0,
        score: Score = "caption",
        kind: str = "captioning",
        version: str = __version__,
    ) -> None:
        """Build from plain dicts; `make_captioning_task` makes them from configs and data."""
        super().__init__()
        self.save_hyperparameters()
        self.class_names: tuple[str, ...] = tuple(labels["class_names"])
        self.background: tuple[int, ...] = tuple(labels["background"])
        self.memory_classes: tuple[int, ...] = tuple(labels["memory_classes"])
        self.feature_key = features
        self.data = data
        self.tokenizer = tokenizer_from_plain(tokenizer)
        self.generation = from_plain(GenerationConfig, generation)
        self.optim = from_plain(OptimConfig, optim)
        self.loss = from_plain(CaptionLossConfig, loss)
        config = from_plain(CaptionerConfig, model)
        self.net = Captioner(
            config,
            num_features=features["width"],
            num_classes=len(self.class_names) if self.loss.frames else 0,
            vocabulary=len(self.tokenizer),
        )
        self.likeness = TokenCider(
            vocabulary=len(self.tokenizer), end=self.tokenizer.end, ngrams=ngrams
        )
        self.collate = CaptionCollator(
            self.tokenizer, config, from_plain(CaptionBatchConfig, batches)
        )
        self.score = score
        self._told: CaptionPairs = {}
        self.validated: CaptionPairs = {}

    def forward(self, batch: CaptionBatch) -> CaptionerOutput:
        """Return the logits of a batch whose sentences are given."""
        return self.net(
            batch.features,
            batch.mask,
            videos=batch.videos,
            spans=batch.spans,
            about=batch.about,
            tokens=batch.tokens[:, :-1],
        )

    def training_step(self, batch: CaptionBatch, _: int) -> Tensor:
        """Return the loss of one batch."""
        done = self.global_step / max(int(self.trainer.estimated_stepping_batches), 1)
        return self._log_losses(batch, "train", done)

    def batch_loss(self, batch: CaptionBatch, *, done: float = 0.0) -> Tensor:
        """Return the loss of one batch, and log nothing; ``done`` is the share of the training."""
        return self._total(self._losses(batch, done))

    def draws(self, done: float) -> bool:
        """Whether captions are drawn, and learned from, when that share of the training is done."""
        return self.loss.self_critical > 0 and done >= self.loss.self_critical_from

    def validation_step(self, batch: CaptionBatch, _: int) -> None:
        """Gather the losses of one batch, and what is said of its videos."""
        self._log_losses(batch, "val")
        if self.score == "loss":
            return
        found = self._predict(batch.features, batch.mask, batch.edges)
        for name, own, truth in zip(batch.names, found, batch.truth, strict=True):
            true = (Caption(start=s, end=e, text=text) for s, e, text in truth)
            self._told[name] = (own.captions, tuple(true))

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the whole validation part; one of them chooses the checkpoint."""
        if self.score == "loss":
            self.log("val/score", -self.trainer.callback_metrics["val/loss"])
            return
        told, self._told = self._told, {}
        self.validated = told
        scores = self.score_pairs(told)
        self.log_dict({f"val/{name}": value for name, value in scores.items()})
        self.log("val/score", next(iter(scores.values())))

    def score_pairs(self, told: CaptionPairs) -> dict[str, float]:
        """Return SODA_c, of clips CIDEr-D, in percent; after it what explains it."""
        return score_pairs(told, dense=self.net.events is not None)

    def score_each(self, told: CaptionPairs, *, most: int) -> dict[str, dict[str, float]]:
        """Return the same of each video that has captions, the first so many of them."""
        return score_each(told, dense=self.net.events is not None, most=most)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with warm-up and cosine decay."""
        steps = max(int(self.trainer.estimated_stepping_batches), 1)
        return configure(self, self.optim, steps=steps)

    def predict(
        self, features: Float[np.ndarray, "T F"], edges: Float64[np.ndarray, " edges"]
    ) -> CaptionPrediction:
        """Say what happens in one video; `frame_edges` makes the edges of its timestamps."""
        return self.predict_all([features], [edges])[0]

    def predict_all(
        self,
        features: Sequence[Float[np.ndarray, "_ F"]],
        edges: Sequence[Float64[np.ndarray, " _"]],
    ) -> list[CaptionPrediction]:
        """Say what happens in videos that are all in memory at a time: faster where they are short.

        A video's captions do not depend on the others, but for sampled ones.
        """
        self.eval()
        each = [torch.as_tensor(np.asarray(x, dtype=np.float32)) for x in features]
        mask = pad_sequence([x.new_ones(len(x), dtype=torch.bool) for x in each], batch_first=True)
        padded = pad_sequence(each, batch_first=True)
        return self._predict(padded.to(self.device), mask.to(self.device), edges)

    def check_data(self, data: LabelledSet) -> None:
        """Refuse data that this model was not trained for.

        Raises:
            ValueError: other features, or other class names where the model names frames.
        """
        lines = differences(self.feature_key, data.feature_key)
        if self.net.head is not None and tuple(data.class_names) != self.class_names:
            lines.append(f"class names: expected {self.class_names}, found {data.class_names}")
        if lines:
            raise ValueError("the checkpoint does not fit this data:\n  " + "\n  ".join(lines))

    def _predict(
        self,
        features: Float[Tensor, "B T F"],
        mask: Bool[Tensor, "B T"],
        edges: Sequence[Float64[np.ndarray, " _"]],
    ) -> list[CaptionPrediction]:
        found = tell_all(self.net, features, mask, self.tokenizer, self.generation, self.likeness)
        return [_in_seconds(told, own) for told, own in zip(found, edges, strict=True)]

    def _losses(self, batch: CaptionBatch, done: float) -> dict[str, Tensor]:
        losses = caption_losses(batch, self(batch), self.tokenizer, self.loss)
        if self.draws(done) and len(batch.tokens):
            losses["self_critical"] = self_critical_loss(
                self.net, batch, self.tokenizer, self.likeness, number=self.loss.drawn
            )
        return losses

    def _log_losses(self, batch: CaptionBatch, part: str, done: float = 0.0) -> Tensor:
        losses = self._losses(batch, done)
        size = len(batch.names)
        for name, value in losses.items():
            self.log(f"{part}/{name}", value, batch_size=size)
        total = self._total(losses)
        self.log(f"{part}/loss", total, batch_size=size)
        return total

    def _total(self, losses: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([getattr(self.loss, name) * x for name, x in losses.items()]).sum()


def _in_seconds(told: Told, edges: Float64[np.ndarray, " edges"]) -> CaptionPrediction:
    times = to_seconds(told.spans.cpu().double().numpy(), edges)
    captions = [
        Caption(start=float(start), end=float(end), text=text, score=score)
        for (start, end), text, score in zip(times, told.texts, told.scores, strict=True)
        if end > start and text
    ]
    captions.sort(key=lambda caption: (caption.start, caption.end))
    frames = None if told.frames is None else told.frames.softmax(dim=-1).cpu().numpy()
    return CaptionPrediction(tuple(captions), frames)
