"""One frame through a whole mixer, spelled out in PyTorch; it moves the states on in place."""

import torch
import torch.nn.functional as F
from torch import Tensor


def mamba1_step_reference(
    x: Tensor,
    conv: Tensor,
    scan: Tensor,
    in_proj: Tensor,
    taps: Tensor,
    conv_bias: Tensor,
    x_proj: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    out_proj: Tensor,
) -> Tensor:
    """Return the mixer's output (B, D); see `mamba1_step`."""
    value, gate = F.linear(x, in_proj).chunk(2, dim=-1)  # B E each
    value = F.silu(_convolve(value, conv, taps, conv_bias))
    states = A_log.shape[1]
    step, B, C = F.linear(value, x_proj).split([dt_proj.shape[1], states, states], dim=-1)
    dtype = scan.dtype
    step = F.softplus(F.linear(step, dt_proj).to(dtype) + dt_bias)
    scan.mul_(torch.exp(step[..., None] * -A_log.to(dtype).exp()))
    scan.addcmul_((step * value)[..., None], B[:, None].to(dtype))
    y = (scan @ C[..., None].to(dtype))[..., 0].addcmul_(value.to(dtype), D.to(dtype))
    return F.linear(y.mul_(F.silu(gate.to(dtype))).to(x.dtype), out_proj)


def mamba2_step_reference(
    x: Tensor,
    conv: Tensor,
    scan: Tensor,
    in_proj: Tensor,
    taps: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    norm: Tensor,
    out_proj: Tensor,
    groups: int,
    eps: float,
) -> Tensor:
    """Return the mixer's output (B, D); see `mamba2_step`."""
    _, heads, width, states = scan.shape
    inner, dtype = heads * width, scan.dtype
    gate, value, step = F.linear(x, in_proj).split([inner, taps.shape[0], heads], dim=-1)
    value = F.silu(_convolve(value, conv, taps, conv_bias)).to(dtype)
    value, B, C = value.split([inner, groups * states, groups * states], dim=-1)
    step = F.softplus(step.to(dtype) + dt_bias)
    B, C = (t.unflatten(-1, (groups, 1, states)) for t in (B, C))  # B G 1 N
    value = value.view(-1, groups, heads // groups, width)
    h = scan.view(-1, groups, heads // groups, width, states)
    h.mul_(torch.exp(step * -A_log.to(dtype).exp()).view(*value.shape[:3], 1, 1))
    h.addcmul_((step.view(*value.shape[:3], 1) * value)[..., None], B[..., None, :])
    y = (h @ C[..., None])[..., 0].addcmul_(value, D.to(dtype).view(groups, -1, 1))
    y = y.view(-1, groups, inner // groups) * F.silu(gate.to(dtype)).unflatten(-1, (groups, -1))
    y = F.rms_norm(y, y.shape[-1:], eps=eps).flatten(1) * norm
    return F.linear(y.to(x.dtype), out_proj)


def _convolve(value: Tensor, conv: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
    """Convolve the next input (B, C) with the ones that ``conv`` (B, K-1, C) holds; push it."""
    window = torch.cat([conv, value[:, None].to(conv.dtype)], dim=1)  # B K C
    conv.copy_(window[:, 1:])
    return (window * taps[:, 0].t()).sum(dim=1) + bias
