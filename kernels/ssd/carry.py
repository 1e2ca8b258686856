"""How states pass between the chunks of a block, as one matrix product for each head.

With S the running sum of the chunks' log-decays, the state that enters chunk c is

    exp(S[c-1] - S[first-1]) h + sum over k < c of exp(S[c-1] - S[k]) added[k]

over the chunks of its own video, h being the initial state or the one the last block left. The
gradients pass backwards through the transposed matrices.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from vidmamba.kernels.ssd.chunks import Block


class Links(NamedTuple):
    """Decays between the n chunks of a block and the ends of its J videos, for all heads."""

    entered: Tensor  # G R n (J + n): until chunk c is entered, from the videos' start and chunks k
    left: Tensor  # G R n (J + n): from where chunk c is left, to the videos' end and chunks k
    through: Tensor  # n G 1 R 1: through a chunk


def link(log_decay: Tensor, block: Block) -> Links:
    """Build the matrices from the chunks' log-decays (n, G, R)."""
    # float64: the running sum over a block may be large and its differences small
    left = log_decay.double().cumsum(0)
    entered = left - log_decay
    chunk = torch.arange(len(log_decay), device=log_decay.device)
    own = block.place[:, None] == torch.arange(len(block.videos), device=log_decay.device)
    earlier = (chunk[:, None] > chunk) & (block.place[:, None] == block.place)
    vanishing = -torch.inf
    begin = _differences(entered, entered[block.firsts], own, vanishing)
    end = -_differences(left, left[block.lasts], own, -vanishing)
    between = _differences(entered, left, earlier, vanishing)
    logs = (torch.cat([begin, between], dim=-1), torch.cat([end, between.mT], dim=-1))
    before, after = (t.exp().to(log_decay.dtype) for t in logs)
    return Links(before, after, log_decay.exp()[:, :, None, :, None])


def _differences(a: Tensor, b: Tensor, where: Tensor, outside: float) -> Tensor:
    """Return a[c] - b[k] for all c and k as (G, R, c, k), or ``outside``."""
    difference = a.movedim(0, -1)[..., :, None] - b.movedim(0, -1)[..., None, :]
    return difference.masked_fill(~where, outside)


def carry(
    links: Links, block: Block, added: Tensor, initial: Tensor, final: Tensor, h: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the states that enter the chunks and those that leave them; fill in final states.

    Args:
        links: Of the block.
        block: Whose chunks they are.
        added: What each chunk adds (n, G, N, R, P).
        initial: Of all videos (videos, G, N, R, P).
        final: Of all videos, written where one ends.
        h: The state that enters the block.
    """
    begun = int(block.begun)
    sources = torch.cat([h[None][:begun], initial[block.videos[begun:]]])
    entering = torch.einsum("grck,kgnrp->cgnrp", links.entered, torch.cat([sources, added]))
    leaving = torch.addcmul(added, links.through, entering)
    ended = len(block.videos) - int(block.unfinished)
    final[block.videos[:ended]] = leaving[block.lasts[:ended]]
    return entering, leaving


def carry_back(
    links: Links, block: Block, added: Tensor, grad_state: Tensor, grad_h: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the states that leave the chunks, and of the one that entered.

    Args:
        links: Of the block.
        block: Whose chunks they are.
        added: What each chunk adds to the gradient of the state that enters it (n, G, N, R, P).
        grad_state: The final states' gradients, overwritten by the initial ones'.
        grad_h: The gradient of the state that leaves the block.
    """
    ended = len(block.videos) - int(block.unfinished)
    sources = torch.cat([grad_state[block.videos[:ended]], grad_h[None][: int(block.unfinished)]])
    leaving = torch.einsum("grck,kgnrp->cgnrp", links.left, torch.cat([sources, added]))
    entering = added[block.firsts] + links.through[block.firsts] * leaving[block.firsts]
    begun = int(block.begun)
    grad_state[block.videos[begun:]] = entering[begun:]
    return leaving, entering[0] if block.begun else torch.zeros_like(grad_h)
