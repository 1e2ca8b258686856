"""Temporal mixers: how information moves between frames."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidmamba.kernels.mixer_step import mamba1_step
from vidmamba.nn.mamba1_autograd import Weights, mamba1
from vidmamba.nn.packing import check_videos


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


PIECE = 20_480
"""Frames of a batch that fill any GPU."""

CHUNK = 256
"""Pieces are multiples of it, as the scans like their videos best."""

MOST_PIECES = 4
"""More would save little; their gradients of the weights are added up in the weights' dtype."""


class MixerState(NamedTuple):
    """What a causal mixer must remember to go on with the next frame."""

    conv: Float[Tensor, "B tail E"]
    """The last K - 1 inputs of the convolution."""

    scan: Float[Tensor, "B ..."]
    """The hidden state of the scan: (B, E, N) in Mamba-1, (B, heads, P, N) in Mamba-2."""


class CausalMixer(nn.Module):
    """What both Mamba mixers offer; a subclass says how it mixes and steps."""

    reverse: bool
    D: nn.Parameter

    def forward(
        self, x: Float[Tensor, "B T D"], *, offsets: Tensor | None = None
    ) -> Float[Tensor, "B T D"]:
        """Mix whole videos; with ``offsets`` (V + 1,), V videos that lie packed in B = 1."""
        check_videos(x, offsets)
        length = x.shape[1] if offsets is not None else piece_length(x)
        if length < x.shape[1]:
            return self._mix_in_pieces(x.split(length, dim=1))
        y, _ = self._mix(x, offsets=offsets, state=None, keep_state=False)
        return y

    def _mix_in_pieces(self, pieces: Sequence[Tensor]) -> Tensor:
        """Mix one piece of time after the other, so that the backward pass has room for one."""
        state, mixed = None, []
        for piece in reversed(pieces) if self.reverse else pieces:
            y, state = self._mix(piece, offsets=None, state=state, keep_state=True)
            mixed.append(y)
        return torch.cat(mixed[::-1] if self.reverse else mixed, dim=1)

    def continue_from(
        self, x: Float[Tensor, "B T D"], state: MixerState
    ) -> tuple[Float[Tensor, "B T D"], MixerState]:
        """Mix the next frames of a video, given the state that the frames before them left."""
        if x.shape[1] == 1 and not torch.is_grad_enabled():
            state = MixerState(*(s.clone(memory_format=torch.contiguous_format) for s in state))
            return self.step(x[:, 0], state)[:, None], state
        self._refuse_reverse()
        self._check_state(x, state)
        return self._mix(x, offsets=None, state=state, keep_state=True)

    def step(self, x: Float[Tensor, "B D"], state: MixerState) -> Float[Tensor, "B D"]:
        """Mix the next frame of each video, and move ``state`` on in place; no gradients.

        On a GPU three launches, which a CUDA graph can capture.
        """
        self._refuse_reverse()
        return self._step(x, state)

    def empty_state(self, videos: int) -> MixerState:
        """Return the state before the first frame, zeros, for ``videos`` videos."""
        conv, scan = self._state_shapes(videos)
        return MixerState(self.D.new_zeros(conv), self.D.new_zeros(scan, dtype=state_dtype(self.D)))

    def _state_shapes(self, videos: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        raise NotImplementedError

    def _mix(
        self, x: Tensor, *, offsets: Tensor | None, state: MixerState | None, keep_state: bool
    ) -> tuple[Tensor, MixerState]:
        raise NotImplementedError

    def _step(self, x: Tensor, state: MixerState) -> Tensor:
        raise NotImplementedError

    def _check_state(self, x: Tensor, state: MixerState) -> None:
        check_videos(x)
        for part, shape in zip(state, self._state_shapes(x.shape[0]), strict=True):
            if part.shape != shape or part.device != x.device:
                raise ValueError(
                    f"the state of {x.shape[0]} videos on {x.device} has a part of shape "
                    f"{[*shape]}, got {[*part.shape]} on {part.device}"
                )

    def _refuse_reverse(self) -> None:
        if self.reverse:
            raise ValueError("a mixer that runs against time cannot go on with later frames")


class Mamba1Mixer(CausalMixer):
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

    def _state_shapes(self, videos: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        inner, _, size = self.conv1d.weight.shape
        return (videos, size - 1, inner), (videos, inner, self.state_size)

    def _mix(
        self, x: Tensor, *, offsets: Tensor | None, state: MixerState | None, keep_state: bool
    ) -> tuple[Tensor, MixerState]:
        conv, scan = state or (None, None)
        y, conv, scan = mamba1(
            x, self.weights(), conv=conv, scan=scan, offsets=offsets, reverse=self.reverse,
            keep_state=keep_state,
        )  # fmt: skip
        return y, MixerState(conv, scan)

    def _step(self, x: Tensor, state: MixerState) -> Tensor:
        return mamba1_step(x, *state, *self.weights())

    def weights(self) -> Weights:
        """Return the parameters as kernels want them."""
        bias = self.conv1d.bias
        assert bias is not None
        return Weights(
            self.in_proj.weight, self.conv1d.weight, bias, self.x_proj.weight, self.dt_proj.weight,
            self.dt_proj.bias, self.A_log, self.D, self.out_proj.weight,
        )  # fmt: skip


def piece_length(x: Tensor) -> int:
    """How many frames of a batch are mixed at a time, where gradients are asked for."""
    videos, frames, _ = x.shape
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return frames
    pieces = max(min(videos * frames // PIECE, MOST_PIECES), 1)
    return math.ceil(frames / pieces / CHUNK) * CHUNK


def state_dtype(parameter: Tensor) -> torch.dtype:
    """Float64 for float64, else float32: what a scan's state is kept in."""
    return torch.float64 if parameter.dtype == torch.float64 else torch.float32


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
