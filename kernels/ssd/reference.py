"""The definition of Mamba-2's scan, as a loop over frames."""

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def ssd_reference(
    x: Float[Tensor, "B T H P"],
    dt: Float[Tensor, "B T H"],
    A: Float[Tensor, " H"],
    B: Float[Tensor, "B T G N"],
    C: Float[Tensor, "B T G N"],
    *,
    D: Float[Tensor, " H"] | None = None,
    z: Float[Tensor, "B T H P"] | None = None,
    dt_bias: Float[Tensor, " H"] | None = None,
    dt_softplus: bool = False,
    initial_state: Float[Tensor, "videos H P N"] | None = None,
    offsets: Int[Tensor, " boundaries"] | None = None,
    reverse: bool = False,
) -> tuple[Float[Tensor, "B T H P"], Float[Tensor, "videos H P N"]]:
    """Return the outputs and every video's last state, in the inputs' own dtype.

    Section 5 of Dao & Gu, "Transformers are SSMs" (arXiv:2405.21060): one decay a head, H/G heads
    sharing the B and C of their group. Tests call it in float64.
    """
    step = dt if dt_bias is None else dt + dt_bias
    if dt_softplus:
        step = F.softplus(step)
    heads = x.shape[2] // B.shape[2]
    B, C = (t.repeat_interleave(heads, dim=2) for t in (B, C))  # B T H N each
    bounds = [0, x.shape[1]] if offsets is None else offsets.tolist()
    spans = list(itertools.pairwise(bounds))
    if initial_state is None:
        initial_state = x.new_zeros(x.shape[0] * len(spans), *x.shape[2:], B.shape[3])
    outputs, finals = [], []
    # either one span for all B videos, or, packed, B = 1 and a span for each video
    for (first, last), h in zip(spans, initial_state.split(x.shape[0]), strict=True):
        span_outputs = []
        for t in reversed(range(first, last)) if reverse else range(first, last):
            decay = torch.exp(step[:, t] * A)[..., None, None]  # B H 1 1
            h = decay * h + (step[:, t, :, None] * x[:, t])[..., None] * B[:, t, :, None]
            span_outputs.append((h * C[:, t, :, None]).sum(-1))
        outputs += span_outputs[::-1] if reverse else span_outputs
        finals.append(h)
    y = torch.stack(outputs, dim=1)
    if D is not None:
        y = y + D[:, None] * x
    if z is not None:
        y = y * F.silu(z)
    return y, torch.cat(finals)
