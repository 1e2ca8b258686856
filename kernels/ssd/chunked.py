"""Mamba-2's scan as matrix products: attention inside a chunk of frames, a state between chunks.

With s the running sum of dt A inside a chunk, u = dt x, and h the state that enters the chunk,

    y[t] = exp(s[t]) C[t] h + sum over j <= t of exp(s[t] - s[j]) (C[t] . B[j]) u[j]
    h'   = exp(s[L]) h + sum over j of exp(s[L] - s[j]) u[j] B[j]

(section 6 of arXiv:2405.21060). The logarithms are summed inside one chunk only and their
differences exponentiated, so nothing under- or overflows. Sizes in comments: n chunks of L frames,
G groups of R heads of width P, N states. Products that all heads of a group share run as one.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vidmamba.kernels.ssd.carry import carry, link
from vidmamba.kernels.ssd.chunks import Block, count_blocks, cut


class Inputs(NamedTuple):
    """The arguments of `ssd`; B is batch in shapes and the input projection in names."""

    x: Tensor  # B T H P
    dt: Tensor  # B T H
    A: Tensor  # H
    B: Tensor  # B T G N
    C: Tensor  # B T G N
    D: Tensor | None  # H
    z: Tensor | None  # B T H P
    dt_bias: Tensor | None  # H
    initial_state: Tensor | None  # videos H P N


class Part(NamedTuple):
    """One block's inputs and what both passes compute from them, in the working dtype."""

    x: Tensor  # n L G R P
    raw: Tensor  # n L H: dt with its bias
    dt: Tensor  # n L H: past the softplus, zero where there is no frame
    u: Tensor  # n L G R P: dt x
    s: Tensor  # n L G R: running sum of dt A
    B: Tensor  # n G L N
    C: Tensor  # n G L N
    decays: Tensor  # n G R L L: exp(s[t] - s[j]) for j <= t, else 0
    scores: Tensor  # n G 1 L L: C[t] . B[j]

    def to_end(self) -> Tensor:
        """How far each frame's input decays until the chunk ends (n, L, G, R, 1)."""
        return torch.exp(self.s[:, -1:] - self.s)[..., None]

    def from_start(self) -> Tensor:
        """How far the entering state decays until each frame (n, L, G, R, 1)."""
        return torch.exp(self.s)[..., None]


def working_dtype(x: Tensor) -> torch.dtype:
    """Float64 for float64, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def forward(
    given: Inputs, offsets: Tensor | None, *, softplus: bool, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y like x, the last states (videos, H, P, N), and the states at the blocks' starts."""
    videos = given.x.shape[0] if offsets is None else len(offsets) - 1
    initial = to_groups(given.initial_state, given, videos)
    final = initial.clone()  # an empty video's state passes through
    y = torch.empty_like(given.x)
    h = torch.zeros_like(initial[0])
    kept = h.new_zeros(count_blocks(given.x, offsets), *h.shape)
    for number, block in enumerate(cut(given.x, offsets, reverse=reverse)):
        part = load(given, block, softplus=softplus)
        kept[number] = h
        links = link(part.s[:, -1], block)
        entering, leaving = carry(links, block, added_by(part), initial, final, h)
        h = leaving[-1]
        out = read_out(part, entering)
        if given.D is not None:
            out = out + given.D.to(out.dtype).view(*out.shape[2:4], 1) * part.x
        if given.z is not None:
            out = out * F.silu(take(given.z, block, out.dtype).view_as(out))
        put(y, block, out)
    return y, from_groups(final, given), kept


def load(given: Inputs, block: Block, *, softplus: bool) -> Part:
    """Gather one block's inputs and what follows from them alone."""
    dtype, groups = working_dtype(given.x), given.B.shape[2]
    x, raw = take(given.x, block, dtype), take(given.dt, block, dtype)
    if given.dt_bias is not None:
        raw = raw + given.dt_bias.to(dtype)
    dt = (F.softplus(raw) if softplus else raw).masked_fill(~block.valid[..., None], 0)
    s = (dt * given.A.to(dtype)).cumsum(1)
    x, s = x.unflatten(2, (groups, -1)), s.unflatten(2, (groups, -1))
    B, C = (take(t, block, dtype).transpose(1, 2) for t in (given.B, given.C))
    rows = s.movedim(1, -1)  # n G R L
    future = torch.ones(s.shape[1], s.shape[1], dtype=torch.bool, device=s.device).triu(1)
    decays = (rows[..., :, None] - rows[..., None, :]).masked_fill_(future, -torch.inf).exp_()
    scores = (C @ B.mT)[:, :, None]
    return Part(x, raw, dt, dt.view(*s.shape, 1) * x, s, B, C, decays, scores)


def added_by(part: Part) -> Tensor:
    """Return what each chunk adds to the state (n, G, N, R, P)."""
    added = part.B.mT @ flat(part.to_end() * part.u)  # n G N R*P
    return added.view(*added.shape[:3], *part.u.shape[3:])


def read_out(part: Part, entering: Tensor) -> Tensor:
    """Return y without skip and gate (n, L, G, R, P)."""
    inside = (part.decays * part.scores) @ part.u.movedim(1, 3)  # n G R L P
    before = part.C @ entering.flatten(3)  # n G L R*P
    return torch.addcmul(
        inside.movedim(3, 1), part.from_start(), before.view(*before.shape[:3], *part.u.shape[3:])
        .transpose(1, 2),
    )  # fmt: skip


def flat(frames: Tensor) -> Tensor:
    """(n, L, G, R, P) -> (n, G, L, R*P), as the groups' products take it."""
    return frames.transpose(1, 2).flatten(3)


def take(frames: Tensor, block: Block, dtype: torch.dtype) -> Tensor:
    """Gather a block of (B, T, ...) frames as (n, L, ...)."""
    rows = frames.flatten(0, 1)
    rows = rows.index_select(0, block.rows) if block.span is None else rows[block.span]
    return rows.to(dtype).unflatten(0, block.valid.shape)


def put(frames: Tensor, block: Block, values: Tensor) -> None:
    """Write a block's (n, L, ...) values where its frames lie in (B, T, ...)."""
    rows = frames.flatten(0, 1)
    if block.span is not None:
        rows[block.span].view(*block.valid.shape, *frames.shape[2:]).copy_(
            values.reshape(*block.valid.shape, *frames.shape[2:])
        )
        return
    valid = block.valid.flatten()
    values = values.reshape(len(valid), *frames.shape[2:]).to(frames.dtype)
    rows[block.rows[valid]] = values[valid]


def to_groups(state: Tensor | None, given: Inputs, videos: int) -> Tensor:
    """(videos, H, P, N) -> (videos, G, N, R, P), zeros if there is none."""
    heads, width = given.x.shape[2:]
    groups, states = given.B.shape[2:]
    dtype = working_dtype(given.x)
    if state is None:
        return given.x.new_zeros(videos, groups, states, heads // groups, width, dtype=dtype)
    return state.to(dtype).unflatten(1, (groups, -1)).movedim(-1, 2).contiguous()


def from_groups(state: Tensor, given: Inputs) -> Tensor:
    """(videos, G, N, R, P) -> (videos, H, P, N)."""
    return state.movedim(2, -1).flatten(1, 2).contiguous()
