"""The gradients of the causal convolution in Triton.

A program walks its chunk as the forward does, and K-1 steps further: the gradient of an input is
the taps times the gradients of the K sums that it went into, which stand in registers as well. The
gradients of taps and bias are summed a chunk at a time and written once; a second small kernel adds
the chunks in a fixed order. No atomics, so the same bits every time.
"""

# pyright: reportArgumentType=false
# (Triton makes constexprs of plain arguments)
# mypy: disable-error-code="no-untyped-def,misc,untyped-decorator,assignment,var-annotated"
# ruff: noqa: RUF005 (tuples in Triton know no star)

from typing import no_type_check

import torch
import triton.language as tl
from torch import Tensor

from vidmamba.kernels.causal_conv1d.kernel import (
    bound,
    channels_per_program,
    count_blocks,
    cut,
    find,
    find_channels,
    lanes,
    load_ahead,
    load_taps,
    load_window,
    place,
    push,
    reset,
    row_of,
    sigmoid,
    video_of,
    weigh,
)
from vidmamba.kernels.jit import jit
from vidmamba.kernels.sizes import cdiv

# bytes of a channel's frames that are loaded at once; loading a group ahead, as the forward does,
# was slower here
UNROLLED = 16
REGISTERS = {"maxnreg": 128}  # sixteen warps a multiprocessor; a few more would be a second round
COPIED = 16  # frames of which a program puts channels beside the gradients


def launch_conv_backward(
    grad_y: Tensor,
    grad_last: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    state: Tensor | None,
    offsets: Tensor | None,
    *,
    silu: bool,
    reverse: bool,
    apart: tuple[Tensor, Tensor] | None = None,
    before: Tensor | None = None,
    after: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight, bias and initial state; empty for one not given.

    With ``apart``, ``grad_y`` and these two are gradients of the channels' three parts. What lies
    ``before`` and ``after`` (B, T, any) is put beside the gradients of each frame of x.
    """
    batch, frames, width = x.shape
    videos = batch if offsets is None else len(offsets) - 1
    size, double = weight.shape[1], x.dtype == torch.float64
    block = channels_per_program(x)
    second, third = apart or (None, None)
    first, further = (width, 0) if second is None else (grad_y.shape[2], second.shape[2])
    blocks = count_blocks(width, block, first, further)
    chunk, chunks = cut(batch, frames, blocks)
    pieces = batch * chunks
    left, right = (0 if t is None else t.shape[2] for t in (before, after))
    grad_x = x.new_empty(batch, frames, left + width + right)
    partial = x.new_empty(pieces, size + 1, width, dtype=x.dtype if double else torch.float32)
    shared = {
        "K": size, "SILU": silu, "REVERSE": reverse, "PACKED": offsets is not None,
        "HAS_BIAS": bias is not None, "HAS_STATE": state is not None,
        "HAS_LAST": grad_last is not None, "DOUBLE": double, "BLOCK_D": block, "num_warps": 1,
    }  # fmt: skip
    copies = cdiv(batch * frames, COPIED) * (cdiv(left, block) + cdiv(right, block))
    _backward_kernel[(pieces * blocks + copies,)](
        grad_y, second, third, grad_last, x, weight, bias, state, offsets, before, after, grad_x,
        partial, frames, width, videos, chunk, chunks, blocks, first, further, pieces * blocks,
        left, right, batch * frames, UNROLL=UNROLLED // x.element_size(), COPIED=COPIED,
        APART=apart is not None, BESIDE=left + right > 0, **shared,
        **(REGISTERS if size <= 4 and not double else {}),
    )  # fmt: skip
    grad_weight = torch.empty_like(weight)
    grad_bias = x.new_empty(0) if bias is None else torch.empty_like(bias)
    _sum_kernel[(cdiv(width, 32) * (size + 1),)](
        partial, grad_weight, grad_bias, pieces, width, K=size, HAS_BIAS=bias is not None
    )
    if state is None:
        return grad_x, grad_weight, grad_bias, x.new_empty(0)
    grad_state = torch.empty_like(state)
    _state_kernel[(videos * blocks,)](
        grad_y, second, third, grad_last, x, weight, bias, state, offsets, grad_state, frames,
        width, videos, blocks, first, further, APART=apart is not None, **shared,
    )  # fmt: skip
    return grad_x, grad_weight, grad_bias, grad_state


@jit()
@no_type_check
def slope_of(total, SILU: tl.constexpr):
    """The derivative of the activation."""
    if SILU:
        s = sigmoid(total)
        return s * (1.0 + total * (1.0 - s))
    return total * 0.0 + 1.0


@jit()
@no_type_check
def collect(window, newest, taps, step, stop, K: tl.constexpr, PACKED: tl.constexpr):
    """The gradient of the input K-1 steps back, from the sums of its own video only."""
    total = taps[0] * newest
    if PACKED:
        total = tl.where(step < stop, total, 0.0)
    for k in tl.static_range(K - 1):
        part = taps[K - 1 - k] * window[k]
        if PACKED and k > 0:
            part = tl.where(step - (K - 1) + k < stop, part, 0.0)
        total += part
    return total


@jit()
@no_type_check
def finish(
    total, grad_last_ptr, grad_x_ptr, row, target, stop, video, first, end, T, D, X, d, stop_d,
    K: tl.constexpr, REVERSE: tl.constexpr, HAS_LAST: tl.constexpr,
):  # fmt: skip
    """Add the gradient of the final state, where the input is in it, and write."""
    if HAS_LAST:
        k = target - stop + (K - 1)
        here = grad_last_ptr + (video * (K - 1) + k) * D + d
        wanted = (k >= 0) & (target >= first) & (target < stop)
        total += tl.load(here, mask=lanes(d, D, wanted), other=0.0).to(total.dtype)
    here = grad_x_ptr + row_of(row, target, T, REVERSE) * X + d
    wanted = (target >= first) & (target < end)
    tl.store(here, total.to(grad_x_ptr.dtype.element_ty), mask=lanes(d, stop_d, wanted))


@jit()
@no_type_check
def copy_beside(
    before_ptr, after_ptr, grad_x_ptr, program, rows, D, left, right,
    COPIED: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Put a block of what lies before or after beside some frames' gradients."""
    lefts = tl.cdiv(left, BLOCK_D)
    blocks = lefts + tl.cdiv(right, BLOCK_D)
    block = program % blocks
    is_left = block < lefts
    d = tl.where(is_left, block, block - lefts) * BLOCK_D + tl.arange(0, BLOCK_D)
    width = tl.where(is_left, left, right)
    first = tl.where(is_left, 0, left + D)
    for j in tl.static_range(COPIED):
        row = (program // blocks * COPIED + j).to(tl.int64)
        there = lanes(d, width, row < rows)
        if before_ptr is None:
            value = tl.load(after_ptr + row * width + d, mask=there)
        elif after_ptr is None:
            value = tl.load(before_ptr + row * width + d, mask=there)
        else:
            value = tl.load(tl.where(is_left, before_ptr, after_ptr) + row * width + d, mask=there)
        tl.store(grad_x_ptr + row * (left + D + right) + first + d, value, mask=there)


@jit()
@no_type_check
def choose(part, first_ptr, second_ptr, third_ptr, APART: tl.constexpr):
    """The tensor that has a part's gradients."""
    if APART:
        return tl.where(part == 0, first_ptr, tl.where(part == 1, second_ptr, third_ptr))
    return first_ptr


@jit(do_not_specialize=["T", "S", "chunk", "chunks", "blocks", "programs", "rows"])
@no_type_check
def _backward_kernel(
    grad_y_ptr, second_ptr, third_ptr, grad_last_ptr, x_ptr, weight_ptr, bias_ptr, state_ptr,
    offsets_ptr, before_ptr, after_ptr, grad_x_ptr, partial_ptr, T, D, S, chunk, chunks, blocks,
    E, W, programs, left, right, rows,
    UNROLL: tl.constexpr, COPIED: tl.constexpr, APART: tl.constexpr, BESIDE: tl.constexpr,
    K: tl.constexpr, SILU: tl.constexpr, REVERSE: tl.constexpr,
    PACKED: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_STATE: tl.constexpr,
    HAS_LAST: tl.constexpr, DOUBLE: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    kind: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    if BESIDE:  # noqa: SIM102 (what is constant takes a branch out, what is not makes one)
        if tl.program_id(0) >= programs:
            copy_beside(
                before_ptr, after_ptr, grad_x_ptr, tl.program_id(0) - programs, rows, D, left,
                right, COPIED, BLOCK_D,
            )  # fmt: skip
            return
    if not APART:
        blocks = tl.cdiv(D, BLOCK_D)
    piece = tl.program_id(0) // blocks
    part, begin_d, size_d, local = find_channels(tl.program_id(0) % blocks, D, E, W, BLOCK_D, APART)
    d = begin_d + local
    mask = local < size_d
    grad_ptr = choose(part, grad_y_ptr, second_ptr, third_ptr, APART)
    stop_d = begin_d + size_d if APART else D
    X = D
    if BESIDE:
        X = left + D + right
        grad_x_ptr += left
    row, first, end, u, start, stop = place(
        offsets_ptr, piece, chunk, chunks, T, S, PACKED, REVERSE
    )
    taps = load_taps(weight_ptr, d, mask, K, DOUBLE)
    bias = tl.zeros([BLOCK_D], kind)
    if HAS_BIAS:
        bias = tl.load(bias_ptr + d, mask=mask, other=0.0).to(kind)
    window = load_window(
        x_ptr, state_ptr, row, first, start, video_of(u, S, PACKED, REVERSE), T, D, d,
        K, REVERSE, HAS_STATE, DOUBLE,
    )  # fmt: skip
    grads = ()
    sums = (tl.zeros([BLOCK_D], kind),)
    for _ in tl.static_range(K - 1):
        grads = grads + (tl.zeros([BLOCK_D], kind),)
    for _ in tl.static_range(K):
        sums = sums + (tl.zeros([BLOCK_D], kind),)
    video = u  # of the step, and of the input K-1 steps back
    target_video = u
    target_stop = stop
    last = tl.minimum(end + K - 1, T)
    for base in range(first, end + K - 1, UNROLL):
        ahead = load_ahead(x_ptr, row, base, last, T, D, d, REVERSE, UNROLL)
        if APART:
            ahead_grads = load_ahead(grad_ptr, row, base, last, T, size_d, local, REVERSE, UNROLL)
        else:  # at the addresses of x's
            ahead_grads = load_ahead(grad_ptr, row, base, last, T, D, d, REVERSE, UNROLL)
        for j in tl.static_range(UNROLL):
            step = base + j
            target = step - (K - 1)
            if PACKED:
                if step == stop:
                    video = find(offsets_ptr, step, S, T, REVERSE)
                    start = step
                    stop = bound(offsets_ptr, video + 1, S, T, REVERSE)
                if target == target_stop:
                    target_video = find(offsets_ptr, target, S, T, REVERSE)
                    target_stop = bound(offsets_ptr, target_video + 1, S, T, REVERSE)
                number = video_of(video, S, PACKED, REVERSE)
                window = reset(window, step == start, state_ptr, number, D, d, K, HAS_STATE)
            newest = ahead[j].to(kind)
            total = weigh(window, newest, taps, bias, K)
            grad = ahead_grads[j].to(kind) * slope_of(total, SILU)
            own = tl.where(step < end, grad, 0.0)
            more = (sums[0] + own,)
            for k in tl.static_range(K - 1):
                more = more + (sums[k + 1] + own * window[k],)
            sums = more + (sums[K] + own * newest,)
            result = collect(grads, grad, taps, step, target_stop, K, PACKED)
            finish(
                result, grad_last_ptr, grad_x_ptr, row, target, target_stop,
                video_of(target_video, S, PACKED, REVERSE), first, end, T, D, X, d, stop_d,
                K, REVERSE, HAS_LAST,
            )  # fmt: skip
            window = push(window, newest, K)
            grads = push(grads, grad, K)
    for k in tl.static_range(K + 1):
        here = partial_ptr + (piece.to(tl.int64) * (K + 1) + k) * D + d
        tl.store(here, sums[k], mask=mask)


@jit(do_not_specialize=["P"])
@no_type_check
def _sum_kernel(
    partial_ptr, grad_weight_ptr, grad_bias_ptr, P, D, K: tl.constexpr, HAS_BIAS: tl.constexpr
):  # fmt: skip
    """Add the chunks' sums, always in the same order: the bias's row first, then the taps'."""
    k = tl.program_id(0) % (K + 1)
    d = tl.program_id(0) // (K + 1) * 32 + tl.arange(0, 32)
    piece = tl.arange(0, 64)
    total = tl.zeros([64, 32], partial_ptr.dtype.element_ty)
    for base in range(0, P, 64):
        here = ((base + piece).to(tl.int64) * (K + 1) + k)[:, None] * D + d[None, :]
        there = (base + piece < P)[:, None] & (d < D)[None, :]
        total += tl.load(partial_ptr + here, mask=there, other=0.0)
    result = tl.sum(total, axis=0)
    if HAS_BIAS:
        there = lanes(d, D, k == 0)
        tl.store(grad_bias_ptr + d, result.to(grad_bias_ptr.dtype.element_ty), mask=there)
    result = result.to(grad_weight_ptr.dtype.element_ty)
    tl.store(grad_weight_ptr + d * K + k - 1, result, mask=lanes(d, D, k > 0))


@jit(do_not_specialize=["T", "S", "blocks"])
@no_type_check
def _state_kernel(
    grad_y_ptr, second_ptr, third_ptr, grad_last_ptr, x_ptr, weight_ptr, bias_ptr, state_ptr,
    offsets_ptr, grad_state_ptr, T, D, S, blocks, E, W,
    APART: tl.constexpr, K: tl.constexpr, SILU: tl.constexpr, REVERSE: tl.constexpr,
    PACKED: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_STATE: tl.constexpr,
    HAS_LAST: tl.constexpr, DOUBLE: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The gradient of one video's initial state, from its first K-1 steps."""
    kind: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    u = tl.program_id(0) // blocks
    part, begin_d, size_d, local = find_channels(tl.program_id(0) % blocks, D, E, W, BLOCK_D, APART)
    d = begin_d + local
    mask = local < size_d
    grad_ptr = choose(part, grad_y_ptr, second_ptr, third_ptr, APART)
    row = u.to(tl.int64) * T
    start = u * 0
    stop = u * 0 + T
    if PACKED:
        row *= 0
        start = bound(offsets_ptr, u, S, T, REVERSE)
        stop = bound(offsets_ptr, u + 1, S, T, REVERSE)
    video = video_of(u, S, PACKED, REVERSE)
    taps = load_taps(weight_ptr, d, mask, K, DOUBLE)
    bias = tl.zeros([BLOCK_D], kind)
    if HAS_BIAS:
        bias = tl.load(bias_ptr + d, mask=mask, other=0.0).to(kind)
    window = load_window(
        x_ptr, state_ptr, row, start, start, video, T, D, d, K, REVERSE, HAS_STATE, DOUBLE
    )
    grads = ()
    for k in tl.static_range(K - 1):
        step = start + k
        there = lanes(d, D, (step < stop) & (step >= 0) & (step < T))
        here = row_of(row, step, T, REVERSE) * D + d
        newest = tl.load(x_ptr + here, mask=there, other=0.0).to(kind)
        total = weigh(window, newest, taps, bias, K)
        here = row_of(row, step, T, REVERSE) * size_d + local
        there = lanes(local, size_d, (step < stop) & (step >= 0) & (step < T))
        grad = tl.load(grad_ptr + here, mask=there, other=0.0).to(kind) * slope_of(total, SILU)
        grads = grads + (grad,)
        window = push(window, newest, K)
        result = tl.zeros([BLOCK_D], kind)
        for j in tl.static_range(k + 1):
            result += taps[j] * grads[k - j]
        if HAS_LAST:
            # a video shorter than the state hands the rest of it on
            passed = k - (stop - start)
            here = grad_last_ptr + (video * (K - 1) + passed) * D + d
            there = lanes(d, D, passed >= 0)
            result += tl.load(here, mask=there, other=0.0).to(kind)
        here = grad_state_ptr + (video * (K - 1) + k) * D + d
        tl.store(here, result.to(grad_state_ptr.dtype.element_ty), mask=mask)
