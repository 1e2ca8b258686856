"""The definition of the taps, as every other implementation must compute them."""

import itertools

from jaxtyping import Float, Int
from torch import Tensor


def dilated_taps_reference(
    x: Float[Tensor, "B T D"],
    *,
    first: int,
    gap: int,
    offsets: Int[Tensor, " bounds"] | None = None,
) -> Float[Tensor, "B T 3 D"]:
    """Return x[t - first], x[t - first + gap], x[t - first + 2 gap] at t, 0 beyond its video."""
    y = x.new_zeros(*x.shape[:2], 3, x.shape[2])
    bounds = [0, x.shape[1]] if offsets is None else offsets.tolist()
    for low, high in itertools.pairwise(bounds):
        for t, k in itertools.product(range(low, high), range(3)):
            source = t - first + k * gap
            if low <= source < high:
                y[:, t, k] = x[:, source]
    return y
