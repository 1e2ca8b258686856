"""The definition of the selective scan, as a loop over frames."""

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def selective_scan_reference(
    u: Float[Tensor, "B T D"],
    delta: Float[Tensor, "B T D"],
    A: Float[Tensor, "D N"],
    B: Float[Tensor, "B T N"],
    C: Float[Tensor, "B T N"],
    *,
    D: Float[Tensor, " D"] | None = None,
    z: Float[Tensor, "B T D"] | None = None,
    delta_bias: Float[Tensor, " D"] | None = None,
    delta_softplus: bool = False,
    initial_state: Float[Tensor, "videos D N"] | None = None,
    offsets: Int[Tensor, " boundaries"] | None = None,
    reverse: bool = False,
) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "videos D N"]]:
    """Return the outputs and every video's last state, in the inputs' own dtype.

    Equations 2a and 2b of Gu & Dao, "Mamba" (arXiv:2312.00752), with the discretisation that its
    code uses: exp(delta A) for A, and delta B for B. Tests call it in float64.
    """
    step = delta if delta_bias is None else delta + delta_bias
    if delta_softplus:
        step = F.softplus(step)
    bounds = [0, u.shape[1]] if offsets is None else offsets.tolist()
    spans = list(itertools.pairwise(bounds))
    if initial_state is None:
        initial_state = u.new_zeros(u.shape[0] * len(spans), *A.shape)
    outputs, finals = [], []
    # either one span for all B videos, or, packed, B = 1 and a span for each video
    for (first, last), h in zip(spans, initial_state.split(u.shape[0]), strict=True):
        span_outputs = []
        for t in reversed(range(first, last)) if reverse else range(first, last):
            decay = torch.exp(step[:, t, :, None] * A)
            h = decay * h + (step[:, t] * u[:, t])[..., None] * B[:, t, None, :]
            span_outputs.append((h * C[:, t, None, :]).sum(-1))
        outputs += span_outputs[::-1] if reverse else span_outputs
        finals.append(h)
    y = torch.stack(outputs, dim=1)
    if D is not None:
        y = y + D * u
    if z is not None:
        y = y * F.silu(z)
    return y, torch.cat(finals)
