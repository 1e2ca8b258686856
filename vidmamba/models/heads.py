"""Heads: what is read off the states of a stack."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class FrameHead(nn.Module):
    """Name the action of every frame."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.classify = nn.Linear(width, num_classes)

    def forward(self, states: Float[Tensor, "B T D"]) -> Float[Tensor, "B T C"]:
        """Return class logits for every frame."""
        return self.classify(states)


class BoundaryHead(nn.Module):
    """Tell at which frames segments begin (Ishikawa et al., "ASRF", WACV 2021, section 3.3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, states: Float[Tensor, "B T D"]) -> Float[Tensor, "B T 1"]:
        """Return one logit a frame."""
        return self.score(states)


class AttentionPool(nn.Module):
    """One state a video: the mean of its frames, each weighed by what it says.

    The gated attention of Ilse, Tomczak and Welling, "Attention-based Deep Multiple Instance
    Learning" (2018), equation 9: the weights of a video's frames are a softmax over time.
    """

    def __init__(self, width: int, attention_width: int) -> None:
        super().__init__()
        self.value = nn.Linear(width, attention_width)
        self.gate = nn.Linear(width, attention_width)
        self.score = nn.Linear(attention_width, 1)

    def forward(
        self, states: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B D"]:
        """Return the weighed mean over the frames where mask is True, one or more a video."""
        return torch.einsum("bt,btd->bd", self.weights(states, mask), states)

    def weights(
        self, states: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T"]:
        """Return how much each frame counts; a video's weights sum to 1."""
        hidden = self.value(states).tanh() * self.gate(states).sigmoid()
        scores = self.score(hidden).squeeze(-1)
        return scores.masked_fill(~mask, float("-inf")).softmax(dim=-1)


class MeanPool(nn.Module):
    """One state a video: the plain mean of its frames, which has nothing to overfit with."""

    def forward(
        self, states: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B D"]:
        """Return the mean over the frames where mask is True, one or more a video."""
        real = mask.unsqueeze(-1).to(states.dtype)
        return (states * real).sum(dim=1) / real.sum(dim=1)
