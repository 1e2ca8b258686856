"""Heads: what is read off the states of a stack."""

from jaxtyping import Float
from torch import Tensor, nn


class FrameHead(nn.Module):
    """Name the action of every frame."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.classify = nn.Linear(width, num_classes)

    def forward(self, states: Float[Tensor, "B T D"]) -> Float[Tensor, "B T C"]:
        """Return class logits for every frame."""
        return self.classify(states)
