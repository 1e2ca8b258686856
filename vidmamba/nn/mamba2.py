"""The Mamba-2 mixer: one decay a head, so that time runs through matrix products."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vidmamba.kernels.mixer_step import mamba2_step
from vidmamba.nn.mamba2_autograd import Weights, mamba2
from vidmamba.nn.mixer import CausalMixer, MixerState, step_bias


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


class Mamba2Mixer(CausalMixer):
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

    def _state_shapes(self, videos: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        channels, _, size = self.conv1d.weight.shape
        heads = (self.sizes[2], self.config.head_size, self.config.state)
        return (videos, size - 1, channels), (videos, *heads)

    def _mix(
        self, x: Tensor, *, offsets: Tensor | None, state: MixerState | None, keep_state: bool
    ) -> tuple[Tensor, MixerState]:
        conv, scan = state or (None, None)
        y, conv, scan = mamba2(
            x, self._weights(), groups=self.config.groups, eps=self.norm.eps or 0.0, conv=conv,
            scan=scan, offsets=offsets, reverse=self.reverse, keep_state=keep_state,
        )  # fmt: skip
        return y, MixerState(conv, scan)

    def _step(self, x: Tensor, state: MixerState) -> Tensor:
        groups, eps = self.config.groups, self.norm.eps or 0.0
        return mamba2_step(x, *state, *self._weights(), groups=groups, eps=eps)

    def _weights(self) -> Weights:
        bias = self.conv1d.bias
        assert bias is not None
        return Weights(
            self.in_proj.weight, self.conv1d.weight, bias, self.dt_bias, self.A_log, self.D,
            self.norm.weight, self.out_proj.weight,
        )  # fmt: skip
