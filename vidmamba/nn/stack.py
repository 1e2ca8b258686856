"""N blocks over the frames of videos: Mamba, attention, and what they are compared with."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from vidmamba.nn.attention import AttentionConfig, WindowAttention
from vidmamba.nn.bidirectional import Bidirectional
from vidmamba.nn.block import BLOCKS, NormPlace
from vidmamba.nn.coarse import Coarse
from vidmamba.nn.mamba2 import Mamba2Config, Mamba2Mixer
from vidmamba.nn.mixer import Mamba1Mixer, MambaConfig, share_parameters
from vidmamba.nn.rivals import DilatedConvolution, Recurrent

MIXERS = {
    "M": "Mamba-1",
    "2": "Mamba-2",
    "A": "windowed attention",
    "F": "a frame-wise feed-forward layer",
    "C": "a dilated convolution, its dilation doubled from one to the next (MS-TCN)",
    "L": "an LSTM",
}
"""The letters of a pattern."""


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """Shape of a `Stack`."""

    width: int = 128
    """D, the channels between blocks."""

    depth: int = 4
    """Blocks; 0 leaves a frame-wise model."""

    pattern: str = "M"
    """A letter a block, over and over: M Mamba-1, 2 Mamba-2, A windowed attention, F feed-forward,
    C dilated convolution (MS-TCN), L LSTM. So MMA is a hybrid, and AF a Transformer."""

    strides: tuple[int, ...] = (1,)
    """Frames that a block averages before it mixes, a number a block, over and over: 1 4 16 looks
    at three scales of time."""

    direction: Literal["causal", "bidirectional"] = "bidirectional"
    """causal: a frame sees the past alone; bidirectional: it sees the whole video."""

    share_directions: bool = False
    """Whether a Mamba block has one set of weights for both directions."""

    norm: NormPlace = "pre"
    """Whether a block normalises its input (pre) or its output (post)."""

    dropout: float = 0.1
    """Share of a mixer's outputs that training drops."""

    mixer: MambaConfig = MambaConfig()
    """Sizes of each Mamba-1 mixer."""

    mamba2: Mamba2Config = Mamba2Config()
    """Sizes of each Mamba-2 mixer."""

    attention: AttentionConfig = AttentionConfig()
    """Sizes of each attention block."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.depth < 0:
            raise ValueError(
                f"width must be at least 1 and depth 0, got {self.width}, {self.depth}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")
        if not self.pattern or {*self.pattern} - {*MIXERS}:
            known = ", ".join(f"{letter} ({name})" for letter, name in MIXERS.items())
            raise ValueError(f"pattern must be letters of {known}, got {self.pattern!r}")
        if not self.strides or min(self.strides) < 1:
            raise ValueError(f"strides must be one number or more, each >= 1, got {self.strides}")
        if self.direction == "causal" and max(self.strides) > 1:
            raise ValueError(
                f"a causal stack cannot average frames to come: strides must be 1, "
                f"got {self.strides}"
            )


class Stack(nn.Module):
    """Blocks one after another, and a last norm."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        block = BLOCKS[config.norm]
        letters = [config.pattern[k % len(config.pattern)] for k in range(config.depth)]
        self.blocks = nn.ModuleList()
        for place, letter in enumerate(letters):
            mixer = _make_mixer(config, letter, number=letters[:place].count(letter))
            stride = config.strides[place % len(config.strides)]
            mixer = Coarse(mixer, stride) if stride > 1 else mixer
            self.blocks.append(block(config.width, mixer, dropout=config.dropout))
        self.norm = nn.RMSNorm(config.width, eps=1e-5)

    def forward(
        self, x: Float[Tensor, "B T D"], *, offsets: Tensor | None = None
    ) -> Float[Tensor, "B T D"]:
        """Return one state a frame; with ``offsets`` (V + 1,), V videos lie packed in B = 1."""
        for block in self.blocks:
            x = block(x, offsets=offsets)
        return self.norm(x)


def _make_mixer(config: StackConfig, letter: str, *, number: int) -> nn.Module:
    """Return the ``number``-th mixer of its letter, counted from 0."""
    width, causal = config.width, config.direction == "causal"
    if letter == "A":
        window = config.attention.window * config.attention.growth**number
        return WindowAttention(width, config.attention, window=window, causal=causal)
    if letter == "C":
        return DilatedConvolution(width, dilation=2**number, causal=causal)
    if letter == "L":
        return Recurrent(width, causal=causal)
    if letter == "F":
        return FeedForward(width)
    along = _scan(config, letter, reverse=False)
    if causal:
        return along
    against = _scan(config, letter, reverse=True)
    if config.share_directions:
        share_parameters(along, against)
    return Bidirectional(along, against)


def _scan(config: StackConfig, letter: str, *, reverse: bool) -> nn.Module:
    if letter == "M":
        return Mamba1Mixer(config.width, config.mixer, reverse=reverse)
    return Mamba2Mixer(config.width, config.mamba2, reverse=reverse)


class FeedForward(nn.Module):
    """Four times as wide, GELU, and back: what each frame makes of itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(
        self, x: Float[Tensor, "B T D"], *, offsets: Tensor | None = None
    ) -> Float[Tensor, "B T D"]:
        """Treat each frame alone; ``offsets`` change nothing."""
        return self.layers(x)
