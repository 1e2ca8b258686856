"""Residual blocks around a mixer."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

NormPlace = Literal["pre", "post"]


class PreNormBlock(nn.Module):
    """x + mixer(norm(x)): the residual path stays clean, so deep stacks train."""

    def __init__(self, width: int, mixer: nn.Module, *, dropout: float) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.mixer = mixer
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "B T D"], *, offsets: Tensor | None = None
    ) -> Float[Tensor, "B T D"]:
        """Return ``x`` with what the mixer found added."""
        return x + self.dropout(self.mixer(self.norm(x), offsets=offsets))


class PostNormBlock(PreNormBlock):
    """norm(x + mixer(x)): the residual path is normalised after every block."""

    def forward(
        self, x: Float[Tensor, "B T D"], *, offsets: Tensor | None = None
    ) -> Float[Tensor, "B T D"]:
        """Return the normalised sum of ``x`` and what the mixer found."""
        return self.norm(x + self.dropout(self.mixer(x, offsets=offsets)))


BLOCKS: dict[NormPlace, type[PreNormBlock]] = {"pre": PreNormBlock, "post": PostNormBlock}
