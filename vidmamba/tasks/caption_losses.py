"""What a captioner's training minimises: words, mentions, times and frames, each weighted."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vidmamba.losses import segmentation_loss
from vidmamba.models.captioner import CaptionerOutput
from vidmamba.models.captioner_events import event_loss
from vidmamba.models.tokenizer import CaptionTokenizer
from vidmamba.tasks.caption_batches import CaptionBatch


@dataclass(frozen=True, kw_only=True)
class CaptionLossConfig:
    """Weights of the losses; 0 leaves one out, and with it what it teaches."""

    words: float = 3.0
    """Cross-entropy of each token, given those before."""

    mentions: float = 0.3
    """Which tokens a sentence uses, told at once from its window. No caption is read off it; it
    shows the states what to tell apart long before the decoder knows how to ask: after as many
    steps on errands, 84 % of the validation part's persons were right with it, 39 % without."""

    again: float = 1.0
    """Cross-entropy of what is to be told again, where batches.again asks for it."""

    times: float = 2.0
    """Where events are: scores and bounds. No matter where each video is one event."""

    frames: float = 0.5
    """The classes of frames, where the data has them: one stack for segments and sentences."""

    label_smoothing: float = 0.05
    """Share of the words' truth that is spread over all tokens."""

    self_critical: float = 0.0
    """What drawn captions score by CIDEr-D, against the other captions drawn of the same event."""

    self_critical_from: float = 0.6
    """Share of the training after which captions are drawn: before, they would say nothing."""

    drawn: int = 5
    """Captions that are drawn of each event."""

    smoothing: float = 0.15
    """Weight, among the frames', of the penalty on jumps between frames."""

    def __post_init__(self) -> None:
        weights = (self.words, self.mentions, self.again, self.times, self.frames, self.smoothing)
        if min(*weights, self.self_critical) < 0 or not 0 <= self.label_smoothing < 1:
            raise ValueError(
                f"weights must not be negative, and label_smoothing in [0, 1), got {self}"
            )
        if not 0 <= self.self_critical_from <= 1 or self.drawn < 2:
            raise ValueError(
                "self_critical_from must lie in [0, 1], and drawn be at least 2, got "
                f"{self.self_critical_from}, {self.drawn}"
            )
        if self.words == self.times == self.frames == 0:
            raise ValueError("one of words, times and frames must have a weight above 0")


def caption_losses(
    batch: CaptionBatch,
    output: CaptionerOutput,
    tokenizer: CaptionTokenizer,
    config: CaptionLossConfig,
) -> dict[str, Float[Tensor, ""]]:
    """Return each loss that has a weight, not weighted yet, by its name in the config."""
    losses: dict[str, Tensor] = {}
    told, again = batch.tokens[:, 1:], batch.again
    new = slice(None) if again is None else ~again
    for name, rows in (("words", new), ("again", again)):
        if getattr(config, name) and (name == "words" or (again is not None and bool(again.any()))):
            losses[name] = word_loss(
                output.words[rows], told[rows], tokenizer.pad, config.label_smoothing
            )
    if config.mentions:
        mentions = output.mentions[batch.about[new]]
        losses["mentions"] = mention_loss(mentions, told[new], tokenizer.num_words)
    if config.times and output.events is not None:
        losses["times"] = torch.stack(event_loss(output.events, batch.events, batch.mask)).sum()
    if config.frames and output.frames is not None:
        losses["frames"] = segmentation_loss(
            output.frames, batch.labels, batch.mask, smoothing=config.smoothing
        )
    return losses


def word_loss(
    logits: Float[Tensor, "R S V"], tokens: Tensor, pad: int, label_smoothing: float | int
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy over real tokens (R, S); 0 where there is none."""
    total = F.cross_entropy(
        logits.flatten(0, 1).float(),
        tokens.flatten(),
        ignore_index=pad,
        label_smoothing=label_smoothing,
        reduction="sum",
    )
    return total / (tokens != pad).sum().clamp(min=1)


def mention_loss(logits: Float[Tensor, "R V"], tokens: Tensor, num_words: int) -> Float[Tensor, ""]:
    """Return the binary cross-entropy of the set of words in (R, S) tokens, a sum a sentence."""
    used = torch.zeros_like(logits, dtype=torch.float32).scatter(1, tokens, 1.0)[:, :num_words]
    each = F.binary_cross_entropy_with_logits(logits[:, :num_words].float(), used, reduction="sum")
    return each / max(len(logits), 1)
