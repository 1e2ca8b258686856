"""Which inputs make a video's final state, and where the gradient of that state goes."""

import torch
from torch import Tensor


def last_inputs(
    x: Tensor, initial_state: Tensor | None, offsets: Tensor | None, size: int, *, reverse: bool
) -> Tensor:
    """Return each video's last ``size`` inputs (S, size, D), the initial state among them."""
    rows, inside, older = _sources(x, offsets, size, reverse=reverse)
    taken = x.reshape(-1, x.shape[2])[rows.flatten()].view(*rows.shape, x.shape[2])
    if initial_state is None:
        return taken.masked_fill(~inside[..., None], 0)
    past = initial_state.reshape(-1, x.shape[2])[older.flatten()].view(*rows.shape, x.shape[2])
    return torch.where(inside[..., None], taken, past.to(x.dtype))


def add_gradient_of_last_inputs(
    grad_last: Tensor, grad_x: Tensor, grad_state: Tensor, offsets: Tensor | None, *, reverse: bool
) -> None:
    """Add the gradient of the final state (S, size, D) to the inputs that it was made of."""
    rows, inside, older = _sources(grad_x, offsets, grad_last.shape[1], reverse=reverse)
    width = grad_x.shape[2]
    grad_x.view(-1, width).index_add_(0, rows[inside], grad_last[inside].to(grad_x.dtype))
    past = grad_last[~inside].to(grad_state.dtype)
    grad_state.view(-1, width).index_add_(0, older[~inside], past)


def _sources(
    x: Tensor, offsets: Tensor | None, size: int, *, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Name the row of x, whether that row is meant, and else the row of the initial state."""
    videos, frames, _ = x.shape
    if offsets is None:
        offsets = torch.arange(videos + 1, device=x.device) * frames
    first, end = offsets[:-1, None].long(), offsets[1:, None].long()
    place = torch.arange(size, device=x.device)
    step = end - first - size + place
    inside = step >= 0
    row = end - 1 - step if reverse else first + step
    video = torch.arange(len(first), device=x.device)[:, None]
    older = video * size + (end - first + place).clamp(max=size - 1)
    return torch.where(inside, row, 0), inside, older
