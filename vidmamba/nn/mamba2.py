"""The Mamba-2 mixer: one decay a head, so that time runs through matrix products."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vidmamba.kernels.causal_conv1d import causal_conv1d
from vidmamba.kernels.ssd import ssd
from vidmamba.nn.mixer import MixerState, step_bias


@dataclass(frozen=True, kw_only=True)
class Mamba2Config:
    """Sizes and initial time constants of a `Mamba2Mixer`."""

    state: int = 64
    """N, the states kept for each inner channel."""

    head_size: int = 64
    """P, the inner channels that share one decay."""

    groups: int = 1
    """G, the sets of B and C; each serves an equal share of the heads."""

    expand: int = 2
    """E / D, how much wider the mixer is inside."""

    conv_size: int = 4
    """K, the frames that the causal convolution sees, the current one included."""

    dt_min: float = 1e-3
    """Smallest initial step size: 1 / dt is roughly the memory of a head in frames."""

    dt_max: float = 1e-1
    """Largest initial step size."""

    def __post_init__(self) -> None:
        sizes = (self.state, self.head_size, self.groups, self.expand, self.conv_size)
        if min(sizes) < 1:
            raise ValueError(f"every size must be at least 1, got {self}")
        if not 0 < self.dt_min <= self.dt_max:
            raise ValueError(f"0 < dt_min <= dt_max must hold, got {self.dt_min}, {self.dt_max}")


class Mamba2Mixer(nn.Module):
    """Widen, convolve value, B and C together, scan with one decay a head, gate, normalise, narrow.

    Dao and Gu, "Transformers are SSMs" (2024), section 7. Parameters bear the names of the authors'
    package and of Hugging Face's `Mamba2Mixer`, so weights of both load by name.

    Raises:
        ValueError: heads or groups do not divide the inner width.
    """

    def __init__(self, width: int, config: Mamba2Config, *, reverse: bool = False) -> None:
        """Build a mixer of ``width`` channels; ``reverse`` runs it against time."""
        super().__init__()
        inner = config.expand * width
        if inner % config.head_size or (inner // config.head_size) % config.groups:
            raise ValueError(
                f"expand * width = {inner} must split into heads of {config.head_size}, "
                f"and these into {config.groups} equal groups"
            )
        self.config = config
        self.reverse = reverse
        heads = inner // config.head_size
        shared = config.groups * config.state
        self.sizes = (inner, inner + 2 * shared, heads)
        self.in_proj = nn.Linear(width, sum(self.sizes), bias=False)
        # a module only to hold the parameters under the names that published weights have
        convolved = inner + 2 * shared
        self.conv1d = nn.Conv1d(convolved, convolved, config.conv_size, groups=convolved)
        self.dt_bias = nn.Parameter(step_bias(heads, config.dt_min, config.dt_max))
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(heads))
        self.norm = nn.RMSNorm(inner, eps=1e-5)  # its weight; the mean is taken group by group
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
        channels, _, size = self.conv1d.weight.shape
        heads, head_size = self.sizes[2], self.config.head_size
        return MixerState(
            self.D.new_zeros(videos, size - 1, channels),
            self.D.new_zeros(videos, heads, head_size, self.config.state),
        )

    def _mix(
        self, x: Tensor, *, offsets: Tensor | None, conv: Tensor | None, scan: Tensor | None
    ) -> tuple[Tensor, MixerState]:
        gate, value, step = self.in_proj(x).split(self.sizes, dim=-1)
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
        groups, state = self.config.groups, self.config.state
        value, B, C = value.split([self.sizes[0], groups * state, groups * state], dim=-1)
        heads = (self.sizes[2], self.config.head_size)
        y, scan = ssd(
            value.unflatten(-1, heads),
            step,
            -self.A_log.float().exp(),
            B.unflatten(-1, (groups, state)),
            C.unflatten(-1, (groups, state)),
            D=self.D,
            z=gate.unflatten(-1, heads),
            dt_bias=self.dt_bias,
            dt_softplus=True,
            initial_state=scan,
            return_final_state=True,
            offsets=offsets,
            reverse=self.reverse,
        )
        return self.out_proj(self._normalise(y.flatten(-2))), MixerState(conv, scan)

    def _normalise(self, y: Float[Tensor, "B T E"]) -> Float[Tensor, "B T E"]:
        grouped = y.unflatten(-1, (self.config.groups, -1))
        scaled = F.rms_norm(grouped, grouped.shape[-1:], eps=self.norm.eps)
        return scaled.flatten(-2) * self.norm.weight
