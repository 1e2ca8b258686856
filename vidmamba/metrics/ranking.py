"""Mean average precision of whole videos: how well each class ranks the videos."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric


class MeanAveragePrecision(Metric):
    """The mean, over the classes that some video has, of `average_precision`; a share.

    A class that no scored video has says nothing of a model: it is left out, not counted as 0.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    scores: list[Tensor]
    targets: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def update(
        self, scores: Float[Tensor, "B L"], targets: Int[Tensor, "B L"] | Int[Tensor, " B"]
    ) -> None:
        """Take videos' class scores, and their classes as 0 and 1, or as one label a video."""
        if targets.ndim == 1:
            targets = torch.nn.functional.one_hot(targets, scores.shape[1])
        self.scores.append(scores.detach())
        self.targets.append(targets)

    def compute(self) -> Tensor:
        """Return the mean; 0 where no video has a class.

        Raises:
            ValueError: no video was seen.
        """
        # between processes torchmetrics has joined the lists already
        scores, targets = (
            torch.cat(state) if isinstance(state, list) and state else state
            for state in (self.scores, self.targets)
        )
        if not isinstance(scores, Tensor) or not isinstance(targets, Tensor):
            raise ValueError("a mean average precision needs one video or more, got none")
        found = [
            average_precision(scores[:, label], targets[:, label] > 0)
            for label in range(scores.shape[1])
            if bool((targets[:, label] > 0).any())
        ]
        return torch.stack(found).mean() if found else scores.new_zeros(())


def average_precision(
    scores: Float[Tensor, " B"], relevant: Bool[Tensor, " B"]
) -> Float[Tensor, ""]:
    """Return the mean, over the relevant videos, of the precision at the score of each.

    Videos of one score come together, whatever their order: the precision there counts them all.

    Args:
        scores: of one class.
        relevant: which videos have it, one or more.
    """
    at_least = scores[:, None] <= scores[None]  # B B: who scores as high as each
    precision = (at_least & relevant).sum(dim=1) / at_least.sum(dim=1)
    return precision[relevant].mean()
