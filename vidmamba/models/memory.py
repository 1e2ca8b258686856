"""Attention from tokens to the states of a video, whose keys and values are computed once."""

from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Memory(NamedTuple):
    """What one block looks at: the video's keys and values, computed once."""

    keys: Float[Tensor, "V heads M P"]
    values: Float[Tensor, "V heads M P"]
    seen: Bool[Tensor, "V M"]
    """Which rows are real."""


class MemoryAttention(nn.Module):
    """Every token looks at all real rows of its video's memory (Vaswani et al., 2017, eq. 1)."""

    def __init__(self, width: int, *, heads: int, memory_width: int, norm_epsilon: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.RMSNorm(width, eps=norm_epsilon)
        self.query = nn.Linear(width, width, bias=False)
        self.keys_values = nn.Linear(memory_width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def remember(self, memory: Float[Tensor, "V M F"], seen: Bool[Tensor, "V M"]) -> Memory:
        """Return the keys and values of a video's memory."""
        # zeros, not what lies there: a weight of zero does not silence NaN
        memory = memory.masked_fill(~seen.unsqueeze(-1), 0)
        keys_values = self.keys_values(memory).unflatten(-1, (2, self.heads, -1))
        keys, values = keys_values.permute(2, 0, 3, 1, 4).unbind()  # V heads M P each
        return Memory(keys, values, seen)

    def forward(self, x: Float[Tensor, "B S D"], memory: Memory) -> Float[Tensor, "B S D"]:
        """Return what each token finds; the rows of one video lie next to each other."""
        videos = memory.keys.shape[0]
        query = self.query(self.norm(x)).unflatten(-1, (self.heads, -1))
        query = query.reshape(videos, -1, *query.shape[2:]).transpose(1, 2)  # V heads copies*S P
        nothing = ~memory.seen.any(dim=1)[:, None, None, None]
        # a video of no real row sees all: an empty row of a softmax is not a number
        seen = memory.seen[:, None, None] | nothing
        found = F.scaled_dot_product_attention(query, memory.keys, memory.values, attn_mask=seen)
        found = found.masked_fill(nothing, 0).transpose(1, 2).reshape(x.shape)
        return self.out(found)
