"""The gradients of the chunked scan; the formulas stand in kernels/README.md.

The gradient of a log-decay at frame i is the sum, over all pairs j < i <= t, of what frame j adds
to frame t. With ds[t] = dy[t] . y[t] - u[t] . du[t], plus dh . h at the chunk's end, it is the sum
of ds from i to the end of the chunk, so no pair is ever written down.
"""

import torch
from torch import Tensor

from vidmamba.kernels.ssd.carry import carry, carry_back, link
from vidmamba.kernels.ssd.chunked import (
    Inputs,
    Part,
    added_by,
    flat,
    from_groups,
    load,
    put,
    read_out,
    take,
    to_groups,
    working_dtype,
)
from vidmamba.kernels.ssd.chunks import Block, cut


class Gradients:
    """Where the blocks leave their gradients: of the frames once, of the parameters summed."""

    def __init__(self, given: Inputs, softplus: bool):
        dtype = working_dtype(given.x)
        self.softplus = softplus
        self.x, self.dt = torch.empty_like(given.x), torch.empty_like(given.dt)
        self.B, self.C = torch.empty_like(given.B), torch.empty_like(given.C)
        self.z = None if given.z is None else torch.zeros_like(given.z)
        self.A, self.D, self.dt_bias = given.A.new_zeros(3, *given.A.shape, dtype=dtype)


def backward(
    grad_y: Tensor | None,
    grad_final: Tensor | None,
    given: Inputs,
    offsets: Tensor | None,
    kept: Tensor,
    *,
    softplus: bool,
    reverse: bool,
) -> list[Tensor | None]:
    """Return the gradients of the `Inputs`, None for those not given."""
    videos = given.x.shape[0] if offsets is None else len(offsets) - 1
    initial = to_groups(given.initial_state, given, videos)
    grad_state = to_groups(grad_final, given, videos).clone()  # becomes the initial state's
    grads, grad_h = Gradients(given, softplus), torch.zeros_like(initial[0])
    unused = torch.empty_like(initial)
    blocks = cut(given.x, offsets, reverse=reverse)
    for block, h in zip(reversed(blocks), kept[: len(blocks)].flip(0), strict=True):
        part = load(given, block, softplus=softplus)
        links = link(part.s[:, -1], block)
        entering, ends = carry(links, block, added_by(part), initial, unused, h)
        y = read_out(part, entering)
        grad = _through_gate(grads, grad_y, given, block, part, y)
        added = part.C.mT @ flat(part.from_start() * grad)  # n G N R*P
        added = added.view(*added.shape[:3], *part.u.shape[3:])
        leaving, grad_h = carry_back(links, block, added, grad_state, grad_h)
        _through_chunks(grads, given, block, part, grad, y, entering, leaving, ends)
    summed = (None if t is None else g.to(t.dtype, copy=True) for t, g in
              ((given.A, grads.A), (given.D, grads.D), (given.dt_bias, grads.dt_bias)))  # fmt: skip
    A, D, dt_bias = summed
    first = given.initial_state
    state = None if first is None else from_groups(grad_state, given).to(first.dtype)
    found = (grads.x, grads.dt, A, grads.B, grads.C, D, grads.z, dt_bias, state)
    return [None if t is None else g for t, g in zip(given, found, strict=True)]


def _through_gate(
    grads: Gradients, grad_y: Tensor | None, given: Inputs, block: Block, part: Part, y: Tensor
) -> Tensor:
    """Return the gradient of the scan's output (n, L, G, R, P), zero where there is no frame."""
    if grad_y is None:
        return torch.zeros_like(y)
    grad = take(grad_y, block, y.dtype).view_as(y)
    grad = grad.masked_fill(~block.valid[..., None, None, None], 0)
    if given.z is None or grads.z is None:
        return grad
    z = take(given.z, block, y.dtype).view_as(y)
    gate = torch.sigmoid(z)
    if given.D is not None:
        y = y + given.D.to(y.dtype).view(*y.shape[2:4], 1) * part.x
    put(grads.z, block, grad * y * gate * (1 + z * (1 - gate)))
    return grad * z * gate


def _through_chunks(
    grads: Gradients,
    given: Inputs,
    block: Block,
    part: Part,
    grad: Tensor,
    y: Tensor,
    entering: Tensor,
    leaving: Tensor,
    ends: Tensor,
) -> None:
    """Add one block's gradients, from those of its outputs and of the states that leave it."""
    rows, inputs = grad.movedim(1, 3), part.u.movedim(1, 3)  # n G R L P
    pairs = part.decays * (rows @ inputs.mT)  # n G R L L
    grad_scores = pairs.sum(2)  # n G L L
    from_start, to_end = part.from_start(), part.to_end()
    put(grads.C, block, (grad_scores @ part.B + flat(from_start * grad) @ entering.flatten(3).mT)
        .transpose(1, 2))  # fmt: skip
    put(grads.B, block, (grad_scores.mT @ part.C + flat(to_end * part.u) @ leaving.flatten(3).mT)
        .transpose(1, 2))  # fmt: skip

    after = (part.B @ leaving.flatten(3)).view(*part.B.shape[:3], *part.u.shape[3:])
    grad_u = ((part.decays * part.scores).mT @ rows).movedim(3, 1) + to_end * after.transpose(1, 2)
    slopes = (grad * y).sum(-1) - (part.u * grad_u).sum(-1)  # n L G R
    slopes[:, -1] += (leaving * ends).sum((2, 4))
    grad_log = slopes.flip(1).cumsum(1).flip(1).flatten(2)  # n L H

    A = given.A.to(grad_log.dtype)
    grad_dt = grad_log * A + (part.x * grad_u).sum(-1).flatten(2)
    grads.A += (grad_log * part.dt).sum((0, 1))
    if grads.softplus:
        grad_dt = grad_dt * torch.sigmoid(part.raw)
    grad_dt = grad_dt.masked_fill(~block.valid[..., None], 0)
    grads.dt_bias += grad_dt.sum((0, 1))
    put(grads.dt, block, grad_dt)
    grad_x = part.dt.view(*part.s.shape, 1) * grad_u
    if given.D is not None:
        grads.D += (grad * part.x).sum((0, 1, 4)).flatten()
        grad_x = grad_x + given.D.to(grad_x.dtype).view(*grad_x.shape[2:4], 1) * grad
    put(grads.x, block, grad_x)
