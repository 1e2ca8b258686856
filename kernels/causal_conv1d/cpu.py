"""The causal convolution on the CPU in Numba: vector lanes along channels, threads along time.

Every video is cut into blocks of frames and the blocks into at most `MAX_GROUPS` groups, by shape
alone: the sums over a group and the sum of the groups come in the same order for any number of
threads.
"""

import functools
import itertools
import math
from typing import Any, NamedTuple, no_type_check

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from torch import Tensor

from vidmamba.kernels.threads import run_tasks

BLOCK_T = 64  # frames: a block of 512 channels in float32 fits the second-level cache
MAX_GROUPS = 32
# all of LLVM's fast-math but the two flags that assume away NaN and infinity
FAST = {"contract", "reassoc", "nsz", "arcp"}


class Plan(NamedTuple):
    """Where videos and blocks lie in the (B * T, D) rows."""

    starts: Any  # int64 (S,): first row of each video
    lengths: Any  # int64 (S,): its frames
    block_video: Any  # int64: the video of each block
    block_first: Any  # int64: the step, in processing order, with which it begins
    groups: list[tuple[int, int]]  # the blocks of each group


def conv_cpu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    *,
    silu: bool,
    reverse: bool,
) -> Tensor:
    """Convolve contiguous ``x`` (B, T, D); float64 stays float64, all else is done in float32."""
    dtype = _working_dtype(x)
    plan = _plan(x, offsets)
    y = torch.empty(x.shape, dtype=dtype)
    rows, out = _rows(x, dtype), _rows(y, dtype)
    taps, shift = _parameters(weight, bias, dtype)
    state = _state(initial_state, plan, taps, dtype)
    forward = _forward(*_kind(weight.shape[1], dtype))

    def work(first: int, last: int) -> None:
        blocks = plan.groups[first][0], plan.groups[last - 1][1]
        forward(rows, taps, shift, silu, state, out, reverse, *plan[:4], *blocks)

    run_tasks(work, len(plan.groups))
    return y.to(x.dtype)


def conv_cpu_backward(
    grad_y: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    *,
    silu: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight (D, K), bias (D) and initial state (S, K-1, D)."""
    dtype = _working_dtype(x)
    plan = _plan(x, offsets)
    width, size = weight.shape
    grad_x = torch.empty(x.shape, dtype=dtype)
    rows, grad_rows, out = _rows(x, dtype), _rows(grad_y, dtype), _rows(grad_x, dtype)
    taps, shift = _parameters(weight, bias, dtype)
    state = _state(initial_state, plan, taps, dtype)
    grad_state = np.zeros_like(state)
    # the last row of each group is the gradient of the bias
    partial = np.zeros((len(plan.groups), size + 1, width), dtype=rows.dtype)
    backward = _backward(*_kind(size, dtype))

    def work(first: int, last: int) -> None:
        for group in range(first, last):
            where = (reverse, *plan[:4], *plan.groups[group])
            given = (grad_rows, rows, taps, shift, silu, state)
            backward(*given, out, partial[group], grad_state, *where)

    run_tasks(work, len(plan.groups))
    sums = torch.from_numpy(partial.sum(axis=0))
    grad_weight = sums[:size].T.contiguous()
    return grad_x.to(x.dtype), grad_weight, sums[size], torch.from_numpy(grad_state)


def _kind(size: int, dtype: torch.dtype) -> tuple[int, bool]:
    # float64 is there for checks: one compiled form does for every kernel size
    return (0, True) if dtype == torch.float64 else (size, False)


def _working_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _rows(x: Tensor, dtype: torch.dtype) -> Any:
    return x.detach().to(dtype).contiguous().view(-1, x.shape[2]).numpy()


def _parameters(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> tuple[Any, Any]:
    taps = weight.detach().to(dtype).T.contiguous().numpy()  # K D
    if bias is None:
        return taps, np.zeros(taps.shape[1], taps.dtype)
    return taps, bias.detach().to(dtype).contiguous().numpy()


def _state(initial_state: Tensor | None, plan: Plan, taps: Any, dtype: torch.dtype) -> Any:
    if initial_state is not None:
        return initial_state.detach().to(dtype).contiguous().numpy()
    return np.zeros((len(plan.starts), taps.shape[0] - 1, taps.shape[1]), taps.dtype)


def _plan(x: Tensor, offsets: Tensor | None) -> Plan:
    videos, frames, _ = x.shape
    if offsets is None:
        bounds = np.arange(videos + 1, dtype=np.int64) * frames
    else:
        bounds = offsets.numpy().astype(np.int64)
    starts, lengths = bounds[:-1], np.diff(bounds)
    counts = -(-lengths // BLOCK_T)
    block_video = np.repeat(np.arange(len(starts)), counts)
    block_first = (
        np.arange(len(block_video)) - np.repeat(counts.cumsum() - counts, counts)
    ) * BLOCK_T
    edges = np.linspace(0, len(block_video), min(MAX_GROUPS, len(block_video)) + 1).astype(np.int64)
    groups = [(int(a), int(b)) for a, b in itertools.pairwise(edges)]
    return Plan(starts, lengths, block_video, block_first, groups)


@intrinsic
@no_type_check
def _as_float(typing_context, bits):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@njit(inline="always")
@no_type_check
def _sigmoid32(x):
    # 1 / (1 + 2**p): the exponent's whole part goes into the bits, its fraction into a polynomial
    p = min(max(x * np.float32(-1.4426950408889634), np.float32(-126)), np.float32(126))
    whole = math.floor(p + np.float32(0.5))
    f = p - whole
    e = np.float32(1.5403530e-4)
    e = e * f + np.float32(1.3333558e-3)
    e = e * f + np.float32(9.6181291e-3)
    e = e * f + np.float32(5.5504109e-2)
    e = e * f + np.float32(2.4022651e-1)
    e = e * f + np.float32(6.9314718e-1)
    e = e * f + np.float32(1)
    power = _as_float(np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)))
    return np.float32(1) / (np.float32(1) + e * power)


@njit(inline="always")
@no_type_check
def _sigmoid64(x):
    return 1 / (1 + math.exp(-x))


@njit(nogil=True, cache=True)
@no_type_check
def _beginning(x, state, start, length, reverse):
    """The state and, behind it, the first K-1 frames in processing order."""
    known = len(state)
    rows = np.zeros((2 * known, x.shape[1]), x.dtype)
    rows[:known] = state
    for step in range(min(known, length)):
        rows[known + step] = x[start + length - 1 - step if reverse else start + step]
    return rows


@njit(inline="always")
@no_type_check
def _row(step, start, length, reverse):
    return start + length - 1 - step if reverse else start + step


@njit(nogil=True, cache=True, fastmath=FAST)
@no_type_check
def _add_products(sums, grads, x, here, way):
    """Add one frame to the gradients of the taps and, in the last row, of the bias."""
    K = len(sums) - 1
    for k in range(K):
        for d in range(len(grads)):
            sums[k, d] += grads[d] * x[here + (k - K + 1) * way, d]
    for d in range(len(grads)):
        sums[K, d] += grads[d]


@njit(nogil=True, cache=True, fastmath=FAST)
@no_type_check
def _add_to_state(grad_state, taps, grads):
    """Send the first frames' gradients back to the frames before the video."""
    for j in range(len(grad_state)):
        for k in range(j + 1):
            for d in range(taps.shape[1]):
                grad_state[j, d] += taps[k, d] * grads[j - k, d]


@no_type_check
def _jit(function):
    # the functions close over constants alone: another closure is never found again in the cache
    options = {"error_model": "numpy", "boundscheck": False}
    return njit(nogil=True, cache=True, fastmath=FAST, **options)(function)


@functools.cache
@no_type_check
def _forward(size, exact):
    """The forward for one kernel size, which LLVM can then unroll; 0 is any size."""

    @_jit
    def forward(
        x, taps, shift, silu, state, y, reverse, starts, lengths, videos, firsts, begin, end
    ):  # fmt: skip
        K = size if size > 0 else len(taps)
        for block in range(begin, end):
            video, first = videos[block], firsts[block]
            start, length = starts[video], lengths[video]
            pad = _beginning(x, state[video], start, length if first == 0 else 0, reverse)
            for step in range(first, min(first + BLOCK_T, length)):
                row = _row(step, start, length, reverse)
                way = -1 if reverse and step >= K - 1 else 1
                source, here = (pad, step + K - 1) if step < K - 1 else (x, row)
                for d in range(x.shape[1]):
                    total = shift[d]
                    for k in range(K):
                        total += taps[k, d] * source[here + (k - K + 1) * way, d]
                    if silu:
                        total *= _sigmoid64(total) if exact else _sigmoid32(total)
                    y[row, d] = total

    return forward


@functools.cache
@no_type_check
def _backward(size, exact):
    """The backward for one kernel size: first through the SiLU, then through the taps."""

    @_jit
    def backward(
        grad_y, x, taps, shift, silu, state, grad_x, sums, grad_state,
        reverse, starts, lengths, videos, firsts, begin, end,
    ):  # fmt: skip
        K = size if size > 0 else len(taps)
        width = x.shape[1]
        grads = np.empty((BLOCK_T + K - 1, width), x.dtype)  # of the sums before the SiLU
        for block in range(begin, end):
            video, first = videos[block], firsts[block]
            start, length = starts[video], lengths[video]
            last = min(first + BLOCK_T, length)
            pad = _beginning(x, state[video], start, length if first == 0 else 0, reverse)
            for step in range(first, min(last + K - 1, length)):
                row = _row(step, start, length, reverse)
                way = -1 if reverse and step >= K - 1 else 1
                source, here = (pad, step + K - 1) if step < K - 1 else (x, row)
                for d in range(width):
                    grad = grad_y[row, d]
                    if silu:
                        total = shift[d]
                        for k in range(K):
                            total += taps[k, d] * source[here + (k - K + 1) * way, d]
                        s = _sigmoid64(total) if exact else _sigmoid32(total)
                        grad *= s * (1 + total * (1 - s))
                    grads[step - first, d] = grad
                if step < last:
                    _add_products(sums, grads[step - first], source, here, way)
            grads[min(last + K - 1, length) - first :] = 0
            for step in range(first, last):
                row = _row(step, start, length, reverse)
                for d in range(width):
                    total = taps[K - 1, d] * grads[step - first, d]
                    for k in range(K - 1):
                        total += taps[k, d] * grads[step - first + K - 1 - k, d]
                    grad_x[row, d] = total
            if first == 0:
                _add_to_state(grad_state[video], taps, grads)

    return backward
