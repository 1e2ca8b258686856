"""What Mamba is compared with over tokens: an LSTM, and a Transformer's causal self-attention."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vidmamba.nn.mixer import MixerState


class LSTMTokens(nn.Module):
    """A layer of LSTM and a mix of channels (Hochreiter and Schmidhuber, 1997)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        """Return whole captions after this layer."""
        return self.out(self.lstm(x)[0])

    def continue_from(
        self, x: Float[Tensor, "B S D"], state: MixerState
    ) -> tuple[Float[Tensor, "B S D"], MixerState]:
        """Return the next tokens after this layer, and the state that they leave."""
        before = (each.transpose(0, 1).contiguous() for each in state)
        found, after = self.lstm(x, tuple(before))
        return self.out(found), MixerState(*(each.transpose(0, 1) for each in after))

    def empty_state(self, rows: int) -> MixerState:
        """Return the state before the first token: what is told and what is held, zeros."""
        zeros = self.out.weight.new_zeros(rows, 1, self.out.in_features)
        return MixerState(zeros, zeros)


class AttentionTokens(nn.Module):
    """Every token looks at itself and all before it (Vaswani et al., 2017), sinusoids for places.

    Its state is all keys and values so far: it grows with the caption, as Mamba's does not.
    """

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.keys_values = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        """Return whole captions after this layer."""
        return self.continue_from(x, self.empty_state(x.shape[0]))[0]

    def continue_from(
        self, x: Float[Tensor, "B S D"], state: MixerState
    ) -> tuple[Float[Tensor, "B S D"], MixerState]:
        """Return the next tokens after this layer, and the state that they leave."""
        first, new = state.conv.shape[1], x.shape[1]
        x = x + _places(first, new, x)
        held = torch.cat([state.conv, self.keys_values(x)], dim=1)
        query, keys, values = (
            each.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # B heads S P
            for each in (self.query(x), *held.chunk(2, dim=-1))
        )
        place = torch.arange(first + new, device=x.device)
        seen = place[None] <= place[first:, None]
        found = F.scaled_dot_product_attention(query, keys, values, attn_mask=seen)
        return self.out(found.transpose(1, 2).flatten(2)), MixerState(held, state.scan)

    def empty_state(self, rows: int) -> MixerState:
        """Return the state before the first token: no keys and values."""
        nothing = self.out.weight.new_zeros(rows, 0)
        return MixerState(nothing.new_zeros(rows, 0, 2 * self.out.in_features), nothing)


def _places(first: int, number: int, like: Tensor) -> Float[Tensor, "S D"]:
    """Return sinusoids of ``number`` places from ``first`` on (the same paper, section 3.5)."""
    half = (like.shape[-1] + 1) // 2
    place = torch.arange(first, first + number, device=like.device, dtype=torch.float32)
    rate = torch.arange(half, device=like.device) * (-math.log(10_000) / half)
    angle = place[:, None] * rate.exp()
    found = torch.cat([angle.sin(), angle.cos()], dim=-1)[:, : like.shape[-1]]
    return found.to(like.dtype)
