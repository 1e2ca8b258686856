"""The grouped norm and its gradients in Triton: each frame's group is read once.

A program walks over rows, a row being one group of one frame. The gradient of the weights is summed
a program at a time, and the programs' sums are added in a fixed order.
"""

from typing import no_type_check

import torch
import triton.language as tl
from torch import Tensor

from vidmamba.kernels.jit import jit
from vidmamba.kernels.sizes import cdiv, power_of_two

PROGRAMS = 1024  # enough for any card, few enough for their sums to be short
NUMBERS = 4096  # of a tile: rows times channels
SUMS = 32  # channels of a program that adds up the programs' sums
SUMMED = 64  # sums that it adds at a time


def launch_norm(x: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    """Normalise contiguous ``x`` (B, T, E)."""
    y = torch.empty_like(x)
    frames, size, block, rows = _cut(x, groups)
    _forward_kernel[(cdiv(frames, rows), groups)](
        x, weight, y, frames, size, x.shape[2], eps, ROWS=rows, BLOCK=block, num_warps=4
    )
    return y


def launch_norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor, groups: int, eps: float, keep_output: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x and weight and, if kept, the forward's output once more."""
    grad_x = torch.empty_like(x)
    y = torch.empty_like(x) if keep_output else x.new_empty(0)
    frames, size, block, rows = _cut(x, groups)
    tiles = cdiv(frames, rows)
    tiles_each = cdiv(tiles, min(tiles, PROGRAMS))
    programs = cdiv(tiles, tiles_each)
    parts = x.new_empty(programs, x.shape[2], dtype=torch.float32)
    _backward_kernel[(programs, groups)](
        grad, x, weight, grad_x, y, parts, frames, size, x.shape[2], eps, tiles_each,
        KEEP=keep_output, ROWS=rows, BLOCK=block, num_warps=4,
    )  # fmt: skip
    grad_weight = torch.empty_like(weight)
    _sum_kernel[(cdiv(x.shape[2], SUMS),)](
        parts, grad_weight, programs, x.shape[2], ROWS=SUMMED, BLOCK=SUMS
    )
    return grad_x, grad_weight, y


def _cut(x: Tensor, groups: int) -> tuple[int, int, int, int]:
    """Return frames, channels a group, and a tile's channels and rows."""
    size = x.shape[2] // groups
    block = power_of_two(size)
    return x.shape[0] * x.shape[1], size, block, max(NUMBERS // block, 1)


@jit()
@no_type_check
def _load(x, frame, e, here, first, E):
    at = frame[:, None].to(tl.int64) * E + first + e[None, :]
    return tl.load(x + at, mask=here, other=0.0).to(tl.float32)


@jit()
@no_type_check
def _store(x, value, frame, e, here, first, E):
    at = frame[:, None].to(tl.int64) * E + first + e[None, :]
    tl.store(x + at, value.to(x.dtype.element_ty), mask=here)


@jit(do_not_specialize=["frames"])
@no_type_check
def _forward_kernel(
    x, weight, y, frames, size, E, eps, ROWS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    frame, e = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK)
    here, first = (frame < frames)[:, None] & (e < size)[None, :], tl.program_id(1) * size
    w = tl.load(weight + first + e, mask=e < size, other=0.0).to(tl.float32)
    value = _load(x, frame, e, here, first, E)
    scale = tl.rsqrt(tl.sum(value * value, axis=1) / size + eps)
    _store(y, value * scale[:, None] * w[None, :], frame, e, here, first, E)


@jit(do_not_specialize=["frames", "tiles"])
@no_type_check
def _backward_kernel(
    grad, x, weight, grad_x, y, parts, frames, size, E, eps, tiles,
    KEEP: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    e, first = tl.arange(0, BLOCK), tl.program_id(1) * size
    w = tl.load(weight + first + e, mask=e < size, other=0.0).to(tl.float32)
    total = tl.zeros([ROWS, BLOCK], tl.float32)
    for tile in range(tl.program_id(0) * tiles, (tl.program_id(0) + 1) * tiles):
        frame = tile * ROWS + tl.arange(0, ROWS)
        here = (frame < frames)[:, None] & (e < size)[None, :]
        value, slope = _load(x, frame, e, here, first, E), _load(grad, frame, e, here, first, E)
        scale = tl.rsqrt(tl.sum(value * value, axis=1) / size + eps)[:, None]
        unit = value * scale
        total += slope * unit
        if KEEP:
            _store(y, unit * w[None, :], frame, e, here, first, E)
        slope *= w[None, :]
        mean = tl.sum(slope * unit, axis=1)[:, None] / size
        _store(grad_x, (slope - unit * mean) * scale, frame, e, here, first, E)
    at = parts + tl.program_id(0) * E + first + e
    tl.store(at, tl.sum(total, axis=0), mask=e < size)


@jit(do_not_specialize=["programs"])
@no_type_check
def _sum_kernel(parts, grad_weight, programs, E, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    e, row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, ROWS)
    total = tl.zeros([ROWS, BLOCK], tl.float32)
    for first in range(0, programs, ROWS):
        here = (first + row < programs)[:, None] & (e < E)[None, :]
        total += tl.load(parts + (first + row)[:, None] * E + e[None, :], mask=here, other=0.0)
    result = tl.sum(total, axis=0).to(grad_weight.dtype.element_ty)
    tl.store(grad_weight + e, result, mask=e < E)
