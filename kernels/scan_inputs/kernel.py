"""Cuts and joins in Triton; the last programs of a launch turn logarithms to rates, or back."""

from typing import no_type_check

import torch
import triton.language as tl
from torch import Tensor

from vidmamba.kernels.jit import jit
from vidmamba.kernels.sizes import cdiv, power_of_two

NUMBERS = 4096  # of a tile: rows times columns
RATES = 1024  # of a program


def launch_cut(low: Tensor, A_log: Tensor) -> tuple[Tensor, Tensor]:
    """Return B and C (2, B, T, N), contiguous, and -exp(A_log) (E, N) in float32."""
    videos, frames, width = low.shape
    states, rows = A_log.shape[1], videos * frames
    projections = low.new_empty(2, videos, frames, states)
    A = A_log.new_empty(A_log.shape, dtype=torch.float32)
    block = power_of_two(2 * states)
    tile = max(NUMBERS // block, 1)
    tiles, count = cdiv(rows, tile), A_log.numel()
    _cut_kernel[(tiles + cdiv(count, RATES),)](
        low, A_log, projections, A, rows, width, states, tiles, count, ROWS=tile, BLOCK=block,
        RATES=RATES,
    )  # fmt: skip
    return projections, A


def launch_join(
    grad_step: Tensor, grad_B: Tensor, grad_C: Tensor, grad_A: Tensor, A: Tensor, A_log: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x_proj's results, rows of R + 2 N, and of A_log."""
    (rows, rank), states = grad_step.shape, grad_B.shape[2]
    grad_low = grad_step.new_empty(rows, rank + 2 * states)
    grad_A_log = torch.empty_like(A_log)
    block = power_of_two(rank + 2 * states)
    tile = max(NUMBERS // block, 1)
    tiles, count = cdiv(rows, tile), A_log.numel()
    _join_kernel[(tiles + cdiv(count, RATES),)](
        grad_step, grad_B, grad_C, grad_A, A, grad_low, grad_A_log, rows, rank, states, tiles,
        count, ROWS=tile, BLOCK=block, RATES=RATES,
    )  # fmt: skip
    return grad_low, grad_A_log


def launch_rates(A_log: Tensor) -> Tensor:
    """Return -exp(A_log) in float32."""
    A = A_log.new_empty(A_log.shape, dtype=torch.float32)
    count = A_log.numel()
    _rates_kernel[(cdiv(count, RATES),)](A_log, A, count, RATES=RATES)
    return A


def launch_rates_backward(grad_A: Tensor, A: Tensor, A_log: Tensor) -> Tensor:
    """Return the gradient of A_log."""
    grad_A_log = torch.empty_like(A_log)
    count = A_log.numel()
    _slopes_kernel[(cdiv(count, RATES),)](grad_A, A, grad_A_log, count, RATES=RATES)
    return grad_A_log


@jit()
@no_type_check
def _make_rates(A_log, A, program, count, RATES: tl.constexpr):
    at = program * RATES + tl.arange(0, RATES)
    logarithm = tl.load(A_log + at, mask=at < count, other=0.0).to(tl.float32)
    tl.store(A + at, -tl.exp(logarithm), mask=at < count)


@jit()
@no_type_check
def _make_slopes(grad_A, A, grad_A_log, program, count, RATES: tl.constexpr):
    at = program * RATES + tl.arange(0, RATES)
    slope = tl.load(grad_A + at, mask=at < count, other=0.0).to(tl.float32)
    slope *= tl.load(A + at, mask=at < count, other=0.0)
    tl.store(grad_A_log + at, slope.to(grad_A_log.dtype.element_ty), mask=at < count)


@jit()
@no_type_check
def _slopes_kernel(grad_A, A, grad_A_log, count, RATES: tl.constexpr):
    _make_slopes(grad_A, A, grad_A_log, tl.program_id(0), count, RATES)


@jit()
@no_type_check
def _rates_kernel(A_log, A, count, RATES: tl.constexpr):
    _make_rates(A_log, A, tl.program_id(0), count, RATES)


@jit(do_not_specialize=["rows", "tiles"])
@no_type_check
def _cut_kernel(
    low, A_log, projections, A, rows, width, states, tiles, count,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, RATES: tl.constexpr,
):  # fmt: skip
    if tl.program_id(0) < tiles:
        row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
        column = tl.arange(0, BLOCK)[None, :]
        here = (row < rows) & (column < 2 * states)
        value = tl.load(low + row * width + width - 2 * states + column, mask=here)
        part = column // states
        to = projections + (part * rows.to(tl.int64) + row) * states + column - part * states
        tl.store(to, value, mask=here)
    else:
        _make_rates(A_log, A, tl.program_id(0) - tiles, count, RATES)


@jit(do_not_specialize=["rows", "tiles"])
@no_type_check
def _join_kernel(
    grad_step, grad_B, grad_C, grad_A, A, grad_low, grad_A_log, rows, rank, states, tiles, count,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, RATES: tl.constexpr,
):  # fmt: skip
    if tl.program_id(0) < tiles:
        row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
        column = tl.arange(0, BLOCK)[None, :]
        here = (row < rows) & (column < rank + 2 * states)
        b, c = column - rank, column - rank - states
        in_b, in_c = here & (b >= 0) & (c < 0), here & (c >= 0)
        # of the three one is read, and the others are zero
        value = tl.load(grad_step + row * rank + column, mask=here & (b < 0), other=0.0)
        value += tl.load(grad_B + row * states + b, mask=in_b, other=0.0)
        value += tl.load(grad_C + row * states + c, mask=in_c, other=0.0)
        tl.store(grad_low + row * (rank + 2 * states) + column, value, mask=here)
    else:
        _make_slopes(grad_A, A, grad_A_log, tl.program_id(0) - tiles, count, RATES)
