"""Temporal mixers: how information moves between frames."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidmamba.kernels.causal_conv1d import causal_conv1d
from vidmamba.kernels.selective_scan import selective_scan


@dataclass(frozen=True, kw_only=True)
class MambaConfig:
    """Sizes and initial time constants of a `Mamba1Mixer`."""

    state: int = 16
    """N, the states kept for each inner channel."""

    expand: int = 2
    """E / D, how much wider the mixer is inside."""

    conv_size: int = 4
    """K, the frames that the causal convolution sees, the current one included."""

    dt_min: float = 1e-3
    """Smallest initial step size: 1 / dt is roughly the memory of a channel in frames."""

    dt_max: float = 1e-1
    """Largest initial step size."""

    def __post_init__(self) -> None:
        if min(self.state, self.expand, self.conv_size) < 1:
            raise ValueError(f"state, expand and conv_size must be at least 1, got {self}")
        if not 0 < self.dt_min <= self.dt_max:
            raise ValueError(f"0 < dt_min <= dt_max must hold, got {self.dt_min}, {self.dt_max}")


class MixerState(NamedTuple):
    """What a causal mixer must remember to go on with the next frame."""

    conv: Float[Tensor, "B tail E"]
    """The last K - 1 inputs of the convolution."""

    scan: Float[Tensor, "B ..."]
    """The hidden state of the scan: (B, E, N) in Mamba-1, (B, heads, P, N) in Mamba-2."""


class Mamba1Mixer(nn.Module):
    """Widen, convolve, scan with input-dependent Δ, B and C, gate, narrow.

    The selective state-space layer of Gu and Dao, "Mamba: Linear-Time Sequence Modeling with
    Selective State Spaces" (2023), section 3.4 and figure 3. Parameters bear the names of the
    authors' package and of Hugging Face's `MambaMixer`, so weights of both load by name.
    """

    def __init__(self, width: int, config: MambaConfig, *, reverse: bool = False) -> None:
        """Build a mixer of ``width`` channels; ``reverse`` runs it against time."""
        super().__init__()
        self.reverse = reverse
        self.state_size = config.state
        inner, self.dt_rank = config.expand * width, math.ceil(width / 16)
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        # a module only to hold the parameters under the names that published weights have
        self.conv1d = nn.Conv1d(inner, inner, config.conv_size, groups=inner)
        self.x_proj = nn.Linear(inner, self.dt_rank + 2 * config.state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, inner)
        nn.init.uniform_(self.dt_proj.weight, -(self.dt_rank**-0.5), self.dt_rank**-0.5)
        with torch.no_grad():
            self.dt_proj.bias.copy_(step_bias(inner, config.dt_min, config.dt_max))
        decay = torch.arange(1, config.state + 1, dtype=torch.float32)
        self.A_log = nn.Parameter(decay.log().repeat(inner, 1))  # S4D-real, section 3.6
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)

    def forward(
        self, x: Float[Tensor, "B T D"], *, offsets: Tensor | None = None
    ) -> Float[Tensor, "B T D"]:
        """Mix whole videos; with ``offsets`` (V + 1,), V videos that lie packed in B = 1."""
        y, _ = self._mix(x, offsets=offsets, conv=None, scan=None)
        return y

    def continue_from(
        self, x: Float[Tensor, "B T D"], state: MixerState
    ) -> tuple[Float[Tensor, "B T D"], MixerState]:
        """Mix the next frames of a video, given the state that the frames before them left."""
        if self.reverse:
            raise ValueError("a mixer that runs against time cannot go on with later frames")
        return self._mix(x, offsets=None, conv=state.conv, scan=state.scan)

    def empty_state(self, videos: int) -> MixerState:
        """Return the state before the first frame, zeros, for ``videos`` videos."""
        inner, _, size = self.conv1d.weight.shape
        new_zeros = self.D.new_zeros
        return MixerState(
            new_zeros(videos, size - 1, inner), new_zeros(videos, inner, self.state_size)
        )

    def _mix(
        self, x: Tensor, *, offsets: Tensor | None, conv: Tensor | None, scan: Tensor | None
    ) -> tuple[Tensor, MixerState]:
        value, gate = self.in_proj(x).chunk(2, dim=-1)  # B T E each
        value, conv = causal_conv1d(
            value,
            self.conv1d.weight.squeeze(1),
            self.conv1d.bias,
            activation="silu",
            initial_state=conv,
            return_final_state=True,
            offsets=offsets,
            reverse=self.reverse,
        )
        sizes = [self.dt_rank, self.state_size, self.state_size]
        step, B, C = self.x_proj(value).split(sizes, dim=-1)  # what makes the scan selective
        y, scan = selective_scan(
            value,
            step @ self.dt_proj.weight.t(),
            -self.A_log.float().exp(),
            B,
            C,
            D=self.D,
            z=gate,
            delta_bias=self.dt_proj.bias,
            delta_softplus=True,
            initial_state=scan,
            return_final_state=True,
            offsets=offsets,
            reverse=self.reverse,
        )
        return self.out_proj(y), MixerState(conv, scan)


class Bidirectional(nn.Module):
    """One mixer along time and one against it, averaged: every frame sees the whole video."""

    def __init__(self, along: nn.Module, against: nn.Module) -> None:
        super().__init__()
        self.along = along
        self.against = against

    def forward(
        self, x: Float[Tensor, "B T D"], *, offsets: Tensor | None = None
    ) -> Float[Tensor, "B T D"]:
        """Mix whole videos in both directions."""
        return (self.along(x, offsets=offsets) + self.against(x, offsets=offsets)) / 2


def share_parameters(owner: nn.Module, borrower: nn.Module) -> None:
    """Give ``borrower`` the parameters of ``owner``, a module built alike."""
    for name, module in owner.named_children():
        setattr(borrower, name, module)
    for name, parameter in owner.named_parameters(recurse=False):
        setattr(borrower, name, parameter)


def step_bias(channels: int, dt_min: float, dt_max: float) -> Float[Tensor, " E"]:
    """Draw biases whose softplus is log-uniform in [dt_min, dt_max], as the paper's section 3.6."""
    low, high = math.log(dt_min), math.log(dt_max)
    step = torch.exp(low + torch.rand(channels) * (high - low))
    return step + torch.log(-torch.expm1(-step))  # softplus, inverted
