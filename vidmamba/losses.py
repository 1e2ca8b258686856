"""What training minimises."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


def segmentation_loss(
    logits: Float[Tensor, "B T C"],
    labels: Int[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    smoothing: float | int = 0.15,
    threshold: float | int = 4.0,
    class_weights: Float[Tensor, " C"] | None = None,
) -> Float[Tensor, ""]:
    """Return cross-entropy plus `smoothing` times the truncated smoothing loss.

    Both are means over what is real: cross-entropy over labelled frames (with `class_weights`,
    weighted by their classes), smoothing over pairs of neighbours. Computed in float32 or wider,
    also under autocast; padding contributes neither values nor gradients, whatever it holds.

    Args:
        logits: one score a frame and class.
        labels: negative (-100) where a frame is unlabelled or padded.
        mask: True where a frame is real.
        smoothing: lambda of Farha and Gall 2019, equation 7.
        threshold: tau of their equation 6, on the step of a log-probability between neighbours.
        class_weights: weight of each class in the cross-entropy.
    """
    with torch.autocast(logits.device.type, enabled=False):
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        # filled, not multiplied: a NaN in the padding survives a multiplication by 0
        log_probabilities = wide.masked_fill(~mask[..., None], 0.0).log_softmax(dim=-1)
        loss = _cross_entropy(log_probabilities, labels, mask, class_weights)
        return loss + smoothing * truncated_smoothing_loss(log_probabilities, mask, threshold)


def truncated_smoothing_loss(
    log_probabilities: Float[Tensor, "B T C"], mask: Bool[Tensor, "B T"], threshold: float | int
) -> Float[Tensor, ""]:
    """Return the mean squared step of log-probabilities between neighbours, cut at `threshold`.

    Farha and Gall, MS-TCN, CVPR 2019, equations 5 and 6; as there, no gradient flows into the
    earlier of two frames.
    """
    step = log_probabilities[:, 1:] - log_probabilities[:, :-1].detach()
    both_real = mask[:, 1:] & mask[:, :-1]
    penalty = step.square().clamp(max=threshold**2).mean(dim=-1)
    # at least 1: videos of one frame have no neighbours, and no smoothing loss
    return torch.where(both_real, penalty, 0.0).sum() / both_real.sum().clamp(min=1)


def boundary_loss(
    logits: Float[Tensor, "B T"], labels: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """Return the binary cross-entropy of "a segment begins here", both answers weighing alike.

    Ishikawa et al., "ASRF" (WACV 2021), equation 5: borders are rare, so they weigh as much more.
    Counted are frames whose label and whose predecessor's label are known; a batch without a
    border, or without a frame that is none, counts the other answer alone.
    """
    known = mask & (labels >= 0)
    counted = known[:, 1:] & known[:, :-1]
    border = (labels[:, 1:] != labels[:, :-1]) & counted
    inner = counted & ~border
    with torch.autocast(logits.device.type, enabled=False):
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))[:, 1:]
        wide = wide.masked_fill(~counted, 0.0)
        found = (F.softplus(-wide) * border).sum() / border.sum().clamp(min=1)
        quiet = (F.softplus(wide) * inner).sum() / inner.sum().clamp(min=1)
        return (found + quiet) / 2


def transcript_loss(
    logits: Float[Tensor, "B T C"], transcripts: Sequence[Tensor], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """Return the mean negative log-likelihood a frame of each video's order of actions.

    The likelihood sums over all ways to give each action of the transcript one frame or more, in
    order and without gaps: connectionist temporal classification (Graves et al., ICML 2006)
    without its blank, as in Huang, Fei-Fei and Niebles (ECCV 2016), equation 3.

    Args:
        logits: one score a frame and class.
        transcripts: each video's classes in order, no class twice in a row.
        mask: True where a frame is real, from the first frame on.

    Raises:
        ValueError: a transcript is empty, repeats a class, or has more actions than frames.
    """
    lengths = mask.sum(dim=1).tolist()
    for video, (transcript, frames) in enumerate(zip(transcripts, lengths, strict=True)):
        if not 0 < len(transcript) <= frames:
            raise ValueError(
                f"video {video}: {len(transcript)} actions in order for {frames} frames; there "
                "must be one or more, and a frame or more for each"
            )
        if bool((transcript[1:] == transcript[:-1]).any()):
            raise ValueError(f"video {video}: a class twice in a row in {transcript.tolist()}")
    with torch.autocast(logits.device.type, enabled=False):
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        log_probabilities = wide.masked_fill(~mask[..., None], 0.0).log_softmax(dim=-1)
        # a blank that is never likely: all paths through it vanish
        log_probabilities = F.pad(log_probabilities, (0, 1), value=-1e5)
        losses = F.ctc_loss(
            log_probabilities.transpose(0, 1),
            torch.cat([*transcripts]).to(logits.device),
            torch.tensor(lengths),
            torch.tensor([len(transcript) for transcript in transcripts]),
            blank=logits.shape[-1],
            reduction="none",
        )
        return (losses / torch.tensor(lengths).to(losses)).mean()


def transcript_of(labels: Int[Tensor, " T"]) -> Int[Tensor, " S"]:
    """Return the classes of a video in order; unlabelled frames (negative) are skipped."""
    return labels[labels >= 0].unique_consecutive()


def _cross_entropy(
    log_probabilities: Float[Tensor, "B T C"],
    labels: Int[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    class_weights: Float[Tensor, " C"] | None,
) -> Float[Tensor, ""]:
    labelled = mask & (labels >= 0)
    targets = torch.where(labelled, labels, -100).flatten()
    weights = None if class_weights is None else class_weights.to(log_probabilities)
    total = F.nll_loss(log_probabilities.flatten(0, 1), targets, weights, reduction="sum")
    share = labelled if weights is None else weights[labels.clamp(min=0)] * labelled
    # a batch without a labelled frame costs 0, not 0 / 0
    return total / torch.where(labelled.any(), share.sum(), 1)
