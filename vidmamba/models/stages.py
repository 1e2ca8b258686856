"""What every stage of an image model sees, averaged over the picture: from colours to things."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class StageMeans(nn.Module):
    """The mean of each stage's last map, the stages one after another.

    A model's last map tells kinds of things and forgets much of their colours and of what is small;
    the maps before it still hold both (Hariharan et al., "Hypercolumns", 2015), and are computed on
    the way. Means lose where something is, and so need few examples to learn what it is.
    """

    def __init__(self, model: Any) -> None:
        """Wrap a timm model whose maps can be had."""
        super().__init__()
        self.model = model

    def forward(self, pictures: Float[Tensor, "T 3 H W"]) -> Float[Tensor, "T D"]:
        """Return the means, with as many channels as all stages have together."""
        maps = self.model.forward_intermediates(pictures, intermediates_only=True)
        return torch.cat([each.mean(dim=(2, 3)) for each in maps], dim=1)
