"""N blocks of Mamba over the frames of videos."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from vidmamba.nn.block import BLOCKS, NormPlace
from vidmamba.nn.mixer import Bidirectional, Mamba1Mixer, MambaConfig


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """Shape of a `Stack`."""

    width: int = 128
    """D, the channels between blocks."""

    depth: int = 4
    """Blocks; 0 leaves a frame-wise model."""

    direction: Literal["causal", "bidirectional"] = "bidirectional"
    """causal: a frame sees the past alone; bidirectional: it sees the whole video."""

    norm: NormPlace = "pre"
    """Whether a block normalises its input (pre) or its output (post)."""

    dropout: float = 0.1
    """Share of a mixer's outputs that training drops."""

    mixer: MambaConfig = MambaConfig()
    """Sizes of each mixer."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.depth < 0:
            raise ValueError(
                f"width must be at least 1 and depth 0, got {self.width}, {self.depth}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")


class Stack(nn.Module):
    """Blocks one after another, and a last norm."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        block = BLOCKS[config.norm]
        self.blocks = nn.ModuleList(
            block(config.width, _make_mixer(config), dropout=config.dropout)
            for _ in range(config.depth)
        )
        self.norm = nn.RMSNorm(config.width, eps=1e-5)

    def forward(
        self, x: Float[Tensor, "B T D"], *, offsets: Tensor | None = None
    ) -> Float[Tensor, "B T D"]:
        """Return one state a frame; with ``offsets`` (V + 1,), V videos lie packed in B = 1."""
        for block in self.blocks:
            x = block(x, offsets=offsets)
        return self.norm(x)


def _make_mixer(config: StackConfig) -> nn.Module:
    along = Mamba1Mixer(config.width, config.mixer)
    if config.direction == "causal":
        return along
    return Bidirectional(along, Mamba1Mixer(config.width, config.mixer, reverse=True))
