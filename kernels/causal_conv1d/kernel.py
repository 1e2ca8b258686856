"""The causal convolution in Triton: a program walks along time, the last K inputs in registers.

Every program owns a chunk of one video's frames (or of the packed row) and a block of channels; it
reads each frame once. Time is counted in steps, in processing order, so that running against
time changes only which row a step reads. A program looks up the videos' boundaries by itself: no
index is computed on the host or copied from the device.
"""

# pyright: reportArgumentType=false
# (Triton makes constexprs of plain arguments)
# mypy: disable-error-code="assignment,var-annotated"
# ruff: noqa: RUF005 (tuples in Triton know no star)

from typing import no_type_check

import torch
import triton.language as tl
from torch import Tensor

from vidmamba.kernels.jit import jit
from vidmamba.kernels.sizes import cdiv, power_of_two

UNROLL = 8  # frames loaded at once, before the ones at hand are used
WARPS_PER_CARD = 2048
MIN_CHUNK = 32


def launch_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    state: Tensor | None,
    offsets: Tensor | None,
    *,
    silu: bool,
    reverse: bool,
    keep_state: bool,
    parts: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Convolve contiguous ``x`` (B, T, D) and return it with the last states (S, K-1, D).

    With ``parts`` (E, W) the first E channels lie together, and behind them every W that follow.
    """
    batch, frames, width = x.shape
    videos = batch if offsets is None else len(offsets) - 1
    size = weight.shape[1]
    y = torch.empty_like(x)
    last = x.new_empty(videos if keep_state else 0, size - 1, width)
    block = channels_per_program(x)
    first, further = parts or (width, 0)
    blocks = count_blocks(width, block, first, further)
    chunk, chunks = cut(batch, frames, blocks)
    _forward_kernel[(batch * chunks * blocks,)](
        x, weight, bias, state, offsets, y, last, frames, width, videos, chunk, chunks, blocks,
        first, further, batch * frames, APART=parts is not None, K=size, SILU=silu,
        REVERSE=reverse, PACKED=offsets is not None, KEEP=keep_state,
        HAS_BIAS=bias is not None, HAS_STATE=state is not None, DOUBLE=x.dtype == torch.float64,
        UNROLL=UNROLL, BLOCK_D=block, num_warps=1,
    )  # fmt: skip
    return y, last


def launch_step(
    x: Tensor, state: Tensor, weight: Tensor, bias: Tensor | None, *, silu: bool
) -> Tensor:
    """Convolve a few frames (B, T, D) and move the state (B, K-1, D) on in place."""
    batch, frames, width = x.shape
    y = torch.empty_like(x)
    block = channels_per_program(x)
    _step_kernel[(batch * cdiv(width, block),)](
        x, state, weight, bias, y, frames, width, K=weight.shape[1], SILU=silu,
        HAS_BIAS=bias is not None, DOUBLE=x.dtype == torch.float64, BLOCK_D=block, num_warps=1,
    )  # fmt: skip
    return y


def channels_per_program(x: Tensor) -> int:
    """One warp's channels, as many a thread as 16 bytes hold or, measured, four at most."""
    widest = 32 * min(4, 16 // x.element_size())
    return max(32, min(widest, power_of_two(x.shape[2])))


def count_blocks(width: int, block: int, first: int, further: int) -> int:
    """Blocks of channels: no block has channels of two parts."""
    others = (width - first) // further * cdiv(further, block) if further else 0
    return cdiv(first, block) + others


def cut(batch: int, frames: int, blocks: int) -> tuple[int, int]:
    """Return frames a chunk and chunks a row: enough to fill any card."""
    wanted = frames * batch * blocks // WARPS_PER_CARD
    chunk = max(MIN_CHUNK, wanted // UNROLL * UNROLL)
    return chunk, cdiv(frames, chunk)


@jit()
@no_type_check
def find_channels(block, D, E, W, BLOCK_D: tl.constexpr, APART: tl.constexpr):
    """A block's part, the part's first channel and number of channels, the block's in the part."""
    part = 0
    begin = 0
    size = D
    if APART:
        firsts = tl.cdiv(E, BLOCK_D)
        each = tl.cdiv(W, BLOCK_D)
        other = block >= firsts
        part = tl.where(other, 1 + (block - firsts) // each, 0)
        begin = tl.where(other, E + (part - 1) * W, 0)
        size = tl.where(other, W, E)
        block = tl.where(other, (block - firsts) % each, block)
    return part, begin, size, block * BLOCK_D + tl.arange(0, BLOCK_D)


@jit()
@no_type_check
def bound(offsets_ptr, u, S, T, REVERSE: tl.constexpr):
    """The step with which the u-th video to be processed begins, or with u = S the end."""
    if REVERSE:
        return T - tl.load(offsets_ptr + S - u).to(tl.int32)
    return tl.load(offsets_ptr + u).to(tl.int32)


@jit()
@no_type_check
def find(offsets_ptr, step, S, T, REVERSE: tl.constexpr):
    """The video, in processing order, that has this step: the last that begins no later."""
    low = 0
    high = S - 1
    while low < high:
        middle = (low + high + 1) // 2
        early = bound(offsets_ptr, middle, S, T, REVERSE) <= step
        low = tl.where(early, middle, low)
        high = tl.where(early, high, middle - 1)
    return low


@jit()
@no_type_check
def video_of(u, S, PACKED: tl.constexpr, REVERSE: tl.constexpr):
    """Where the u-th video to be processed stands among the states."""
    return (S - 1 - u if PACKED and REVERSE else u).to(tl.int64)


@jit()
@no_type_check
def row_of(row, step, T, REVERSE: tl.constexpr):
    """The row of a step; ``row`` is int64: an hour at 30 fps and width 2048 passes 2**27."""
    return row + (T - 1 - step if REVERSE else step)


@jit()
@no_type_check
def place(
    offsets_ptr, piece, chunk, chunks, T, S, PACKED: tl.constexpr, REVERSE: tl.constexpr
):  # fmt: skip
    """Return a chunk's row, first step and end, and its first video with that one's steps."""
    first = piece % chunks * chunk
    row = tl.zeros((), tl.int64)
    u = piece // chunks
    start = first * 0  # not 0: the interpreter would go on with Python's booleans
    stop = first * 0 + T
    if PACKED:
        u = find(offsets_ptr, first, S, T, REVERSE)
        start = bound(offsets_ptr, u, S, T, REVERSE)
        stop = bound(offsets_ptr, u + 1, S, T, REVERSE)
    else:
        row = u.to(tl.int64) * T
    return row, first, tl.minimum(first + chunk, T), u, start, stop


@jit()
@no_type_check
def lanes(d, D, wanted):
    """The channels that there are, or none unless the scalar is true."""
    return d < tl.where(wanted, D, 0)


@jit()
@no_type_check
def take(
    x_ptr, state_ptr, row, step, start, video, T, D, d,
    K: tl.constexpr, REVERSE: tl.constexpr, HAS_STATE: tl.constexpr,
):  # fmt: skip
    """The input of a step, which before the video's start is in the state, or zero."""
    here = row_of(row, step, T, REVERSE) * D + d
    inside = (step >= start) & (step >= 0) & (step < T)
    value = tl.load(x_ptr + here, mask=lanes(d, D, inside), other=0.0)
    if HAS_STATE:
        place = K - 1 + step - start
        past = state_ptr + (video * (K - 1) + place) * D + d
        old = tl.load(past, mask=lanes(d, D, (step < start) & (place >= 0)), other=0.0)
        value = tl.where(step < start, old.to(value.dtype), value)
    return value


@jit()
@no_type_check
def load_taps(weight_ptr, d, mask, K: tl.constexpr, DOUBLE: tl.constexpr):
    """The K taps of a block of channels."""
    kind: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    taps = ()
    for k in tl.static_range(K):
        taps = taps + (tl.load(weight_ptr + d * K + k, mask=mask, other=0.0).to(kind),)
    return taps


@jit()
@no_type_check
def load_window(
    x_ptr, state_ptr, row, step, start, video, T, D, d,
    K: tl.constexpr, REVERSE: tl.constexpr, HAS_STATE: tl.constexpr, DOUBLE: tl.constexpr,
):  # fmt: skip
    """The K-1 inputs before a step, the oldest first."""
    kind: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    window = ()
    for k in tl.static_range(K - 1):
        value = take(
            x_ptr, state_ptr, row, step - (K - 1) + k, start, video, T, D, d,
            K, REVERSE, HAS_STATE,
        )  # fmt: skip
        window = window + (value.to(kind),)
    return window


@jit()
@no_type_check
def load_ahead(
    x_ptr, row, step, end, T, D, d, REVERSE: tl.constexpr, UNROLL: tl.constexpr
):  # fmt: skip
    """Some steps' rows, zeros past the end; nothing waits for them before they are used."""
    ahead = ()
    for j in tl.static_range(UNROLL):
        here = row_of(row, step + j, T, REVERSE) * D + d
        ahead = ahead + (tl.load(x_ptr + here, mask=lanes(d, D, step + j < end), other=0.0),)
    return ahead


@jit()
@no_type_check
def reset(
    window, hit, state_ptr, video, D, d, K: tl.constexpr, HAS_STATE: tl.constexpr
):  # fmt: skip
    """Where a video begins, put its state in place of the last inputs."""
    fresh = ()
    for k in tl.static_range(K - 1):
        old = 0.0
        if HAS_STATE:
            past = state_ptr + (video * (K - 1) + k) * D + d
            old = tl.load(past, mask=lanes(d, D, hit), other=0.0).to(window[k].dtype)
        fresh = fresh + (tl.where(hit, old, window[k]),)
    return fresh


@jit()
@no_type_check
def weigh(window, newest, taps, bias, K: tl.constexpr):
    """The sum before the activation."""
    total = bias + taps[K - 1] * newest
    for k in tl.static_range(K - 1):
        total += taps[k] * window[k]
    return total


@jit()
@no_type_check
def push(window, newest, K: tl.constexpr):
    """The window of the next step."""
    moved = ()
    for k in tl.static_range(1, K - 1):
        moved = moved + (window[k],)
    if K > 1:
        moved = moved + (newest,)
    return moved


@jit()
@no_type_check
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + tl.exp(-x))


@jit(do_not_specialize=["T", "S", "chunk", "chunks", "blocks", "rows"])
@no_type_check
def _forward_kernel(
    x_ptr, weight_ptr, bias_ptr, state_ptr, offsets_ptr, y_ptr, last_ptr, T, D, S, chunk, chunks,
    blocks, E, W, rows,
    APART: tl.constexpr, K: tl.constexpr, SILU: tl.constexpr, REVERSE: tl.constexpr,
    PACKED: tl.constexpr, KEEP: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_STATE: tl.constexpr,
    DOUBLE: tl.constexpr, UNROLL: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    kind: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    if not APART:
        blocks = tl.cdiv(D, BLOCK_D)
    piece = tl.program_id(0) // blocks
    _, begin_d, size_d, local = find_channels(tl.program_id(0) % blocks, D, E, W, BLOCK_D, APART)
    d = begin_d + local
    mask = local < size_d
    if APART:
        y_ptr += rows.to(tl.int64) * begin_d
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
    video = u
    ahead = load_ahead(x_ptr, row, first, end, T, D, d, REVERSE, UNROLL)
    for base in range(first, end, UNROLL):
        following = load_ahead(x_ptr, row, base + UNROLL, end, T, D, d, REVERSE, UNROLL)
        for j in tl.static_range(UNROLL):
            step = base + j
            if PACKED:
                if step == stop:
                    video = find(offsets_ptr, step, S, T, REVERSE)
                    start = step
                    stop = bound(offsets_ptr, video + 1, S, T, REVERSE)
                number = video_of(video, S, PACKED, REVERSE)
                window = reset(window, step == start, state_ptr, number, D, d, K, HAS_STATE)
            newest = ahead[j].to(kind)
            total = weigh(window, newest, taps, bias, K)
            if SILU:
                total *= sigmoid(total)
            window = push(window, newest, K)
            here = row_of(row, step, T, REVERSE) * size_d + local
            there = lanes(local, size_d, step < end)
            tl.store(y_ptr + here, total.to(y_ptr.dtype.element_ty), mask=there)
        ahead = following
    if KEEP:
        # the videos that end in this chunk, the empty ones at its end and at time's start included
        if first == 0 and PACKED:
            u = 0
        last_step = T
        if PACKED:
            last_step = bound(offsets_ptr, u + 1, S, T, REVERSE)
        more = last_step <= end
        while more:
            begin = bound(offsets_ptr, u, S, T, REVERSE) if PACKED else first * 0
            number = video_of(u, S, PACKED, REVERSE)
            for k in tl.static_range(K - 1):
                value = take(
                    x_ptr, state_ptr, row, last_step - (K - 1) + k, begin, number, T, D, d,
                    K, REVERSE, HAS_STATE,
                )  # fmt: skip
                tl.store(last_ptr + (number * (K - 1) + k) * D + d, value, mask=mask)
            u += 1
            more = False
            if PACKED:
                more = u < S
                last_step = bound(offsets_ptr, tl.minimum(u + 1, S), S, T, REVERSE)
                more = more & (last_step <= end)


@jit(do_not_specialize=["T"])
@no_type_check
def _step_kernel(
    x_ptr, state_ptr, weight_ptr, bias_ptr, y_ptr, T, D, K: tl.constexpr, SILU: tl.constexpr,
    HAS_BIAS: tl.constexpr, DOUBLE: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    kind: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    blocks = tl.cdiv(D, BLOCK_D)
    video = (tl.program_id(0) // blocks).to(tl.int64)
    d = tl.program_id(0) % blocks * BLOCK_D + tl.arange(0, BLOCK_D)
    mask = d < D
    taps = load_taps(weight_ptr, d, mask, K, DOUBLE)
    bias = tl.zeros([BLOCK_D], kind)
    if HAS_BIAS:
        bias = tl.load(bias_ptr + d, mask=mask, other=0.0).to(kind)
    window = ()
    for k in tl.static_range(K - 1):
        past = state_ptr + (video * (K - 1) + k) * D + d
        window = window + (tl.load(past, mask=mask, other=0.0).to(kind),)
    for step in range(T):
        here = (video * T + step) * D + d
        newest = tl.load(x_ptr + here, mask=mask, other=0.0).to(kind)
        total = weigh(window, newest, taps, bias, K)
        if SILU:
            total *= sigmoid(total)
        window = push(window, newest, K)
        tl.store(y_ptr + here, total.to(y_ptr.dtype.element_ty), mask=mask)
    for k in tl.static_range(K - 1):
        past = state_ptr + (video * (K - 1) + k) * D + d
        tl.store(past, window[k].to(state_ptr.dtype.element_ty), mask=mask)
