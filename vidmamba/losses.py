"""What training minimises."""

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
