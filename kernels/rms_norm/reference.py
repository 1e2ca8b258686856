"""The definition of the grouped norm."""

from jaxtyping import Float
from torch import Tensor


def rms_norm_reference(
    x: Float[Tensor, "B T E"], weight: Float[Tensor, " E"], *, groups: int, eps: float
) -> Float[Tensor, "B T E"]:
    """Divide each of ``groups`` equal parts of a frame by its root mean square; then weigh."""
    parts = x.unflatten(-1, (groups, -1))
    square = parts.square().mean(dim=-1, keepdim=True)
    return (parts / (square + eps).sqrt()).flatten(-2) * weight
