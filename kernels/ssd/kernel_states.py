"""The states that enter the chunks of the Mamba-2 scan, or those states' gradients, in Triton.

Time is cut into chunks of L frames and chunks into segments. A program walks one head's chunks of a
segment with the state on the chip; it begins at zero, or at a video's initial state, and what
entered the segment is added later, decayed. Logarithms are binary throughout.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import LOG2_E, exp2, softplus
from vidmamba.kernels.ssd.kernel_tiles import (
    add_product_transposed,
    halve,
    jit,
    keep_state,
    load_frames,
    locate,
    operand_tile,
    state_tile,
)


@jit
def steps_kernel(
    dt, A, bias, steps, sums, table, T, chunks_a_video, H,
    HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr, PRECISE: tl.constexpr, NATIVE: tl.constexpr,
    REVERSE: tl.constexpr, PACKED: tl.constexpr, L: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the steps, zero where no frame is, and their log-decays summed within each chunk.

    Both (chunks, H, L), in the order of the scan.
    """
    chunk = tl.program_id(0)
    row, count, _, _, _ = locate(chunk, table, T, chunks_a_video, L, REVERSE, PACKED)
    t, head = tl.arange(0, L), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = head < H
    here = (t < count)[:, None] & real[None, :]
    at = row * H + (-t if REVERSE else t)[:, None] * H + head[None, :]
    step = tl.load(dt + at, mask=here, other=0.0).to(tl.float32)
    if HAS_BIAS:
        step += tl.load(bias + head, mask=real, other=0.0).to(tl.float32)[None, :]
    if SOFTPLUS:
        step = softplus(step, NATIVE, PRECISE)
    step = tl.where(here, step, 0.0)
    rate = tl.load(A + head, mask=real, other=0.0).to(tl.float32) * LOG2_E
    to = (chunk.to(tl.int64) * H + head[None, :]) * L + t[:, None]
    there = (t >= 0)[:, None] & real[None, :]
    tl.store(steps + to, step, mask=there)
    tl.store(sums + to, tl.cumsum(step * rate[None, :], axis=0), mask=there)


@jit
def walk_kernel(
    frames, seen_scales, rows, steps, sums, given, states, scales, lefts, last_states, ends,
    end_lefts, table, T, chunks_a_video, chunks, length, H, G, P: tl.constexpr, N: tl.constexpr,
    GRADIENT: tl.constexpr, HAS_GIVEN: tl.constexpr,
    NATIVE: tl.constexpr, REVERSE: tl.constexpr, PACKED: tl.constexpr, HALF: tl.constexpr,
    L: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Walk the chunks of a segment, for one head: write the state that enters each.

    With GRADIENT, against time: the frames are the gradients of y, the rows C instead of B, and
    what is written is the gradient of the state that leaves each chunk.
    """
    segment, head = tl.program_id(0) // H, tl.program_id(0) % H
    group = head // (H // G)
    at_state, in_state = state_tile(P, N, BP, BN)
    h = tl.zeros((BP, BN), tl.float32)
    left = 0.0
    begin = segment * length
    count_here = tl.minimum(length, chunks - begin)
    t = tl.arange(0, L)
    for i in tl.range(0, count_here, disable_licm=True):
        chunk = begin + ((count_here - 1 - i) if GRADIENT else i)
        row, count, video, first, last = locate(chunk, table, T, chunks_a_video, L, REVERSE, PACKED)
        at = chunk.to(tl.int64) * H + head
        p_video = (video.to(tl.int64) * H + head) * (P * N)
        b = load_frames(rows + group * N, row, t, count, G * N, N, BN, REVERSE)
        value = load_frames(frames + head * P, row, t, count, H * P, P, BP, REVERSE)
        log, end = tl.load(sums + at * L + t), tl.load(sums + at * L + L - 1)
        if GRADIENT:
            weight = tl.load(seen_scales + at * 2 + t // (L // 2)) * exp2(log, NATIVE)
        else:
            weight = tl.load(steps + at * L + t) * exp2(end - log, NATIVE)
        if last if GRADIENT else first:
            h = tl.zeros((BP, BN), tl.float32)
            left = float("-inf")
            if HAS_GIVEN:
                h += tl.load(given + p_video + at_state, mask=in_state, other=0.0).to(tl.float32)
        keep_state(states, scales, at, h, HALF, BP, BN)
        tl.store(lefts + at, left)
        h *= exp2(end, NATIVE)
        left += end
        h = add_product_transposed(value.to(tl.float32) * weight[:, None], b, h)
        if first if GRADIENT else last:
            tl.store(last_states + p_video + at_state, h, mask=in_state)
    at = segment.to(tl.int64) * H + head
    tl.store(ends + at * (BP * BN) + operand_tile(BP, BN), h)
    tl.store(end_lefts + at, left)


@jit
def carry_kernel(
    ends, end_lefts, entered, segments, B, C, rows, row_scales, table, T, chunks_a_video, chunks,
    H, G, N: tl.constexpr, SIZE: tl.constexpr, GRADIENT: tl.constexpr, NATIVE: tl.constexpr,
    REVERSE: tl.constexpr, PACKED: tl.constexpr, HALF: tl.constexpr, L: tl.constexpr,
    BN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """From what each segment ends with, alone, to what enters it.

    That takes few programs; others write meanwhile what comes next reads of B and C.
    """
    BLOCKS: tl.constexpr = SIZE // BLOCK
    program = tl.program_id(0)
    if program < H * BLOCKS:
        at = program % BLOCKS * BLOCK + tl.arange(0, BLOCK)
        carry(ends, end_lefts, entered, segments, H, program // BLOCKS, at, SIZE, GRADIENT, NATIVE)
    else:
        part = program - H * BLOCKS
        chunk, group, half = part // (4 * G), part // 4 % G, part % 2
        row, count, _, _, _ = locate(chunk, table, T, chunks_a_video, L, REVERSE, PACKED)
        which = part // 2 % 2
        at_half = ((which * chunks + chunk).to(tl.int64) * G + group) * 2 + half
        to, scale = rows + at_half * (L // 2 * BN), row_scales + at_half
        if which == 0:
            write_rows(B + group * N, to, scale, row, half, count, G * N, N, REVERSE, HALF, L, BN)
        else:
            write_rows(C + group * N, to, scale, row, half, count, G * N, N, REVERSE, HALF, L, BN)


@jit
def carry(
    ends, end_lefts, entered, segments, H, head, at, SIZE: tl.constexpr, GRADIENT: tl.constexpr,
    NATIVE: tl.constexpr,
):  # fmt: skip
    """Chain one head's segments, in some numbers of its state."""
    h = at * 0.0
    # some at a time: their loads need not wait for one another
    for i in range(0, segments, 4):
        p0, e0, d0 = fetch_end(ends, end_lefts, i, segments, H, head, at, SIZE, GRADIENT, NATIVE)
        p1, e1, d1 = fetch_end(
            ends, end_lefts, i + 1, segments, H, head, at, SIZE, GRADIENT, NATIVE
        )
        p2, e2, d2 = fetch_end(
            ends, end_lefts, i + 2, segments, H, head, at, SIZE, GRADIENT, NATIVE
        )
        p3, e3, d3 = fetch_end(
            ends, end_lefts, i + 3, segments, H, head, at, SIZE, GRADIENT, NATIVE
        )
        tl.store(entered + p0, h)
        h = e0 + d0 * h
        tl.store(entered + p1, h, mask=(at >= 0) & (i + 1 < segments))
        h = e1 + d1 * h
        tl.store(entered + p2, h, mask=(at >= 0) & (i + 2 < segments))
        h = e2 + d2 * h
        tl.store(entered + p3, h, mask=(at >= 0) & (i + 3 < segments))
        h = e3 + d3 * h


@jit
def fetch_end(
    ends, end_lefts, i, segments, H, head, at, SIZE: tl.constexpr, GRADIENT: tl.constexpr,
    NATIVE: tl.constexpr,
):  # fmt: skip
    """Where a segment's state lies, what it ends with, and what it leaves of what enters it."""
    i = tl.minimum(i, segments - 1)
    place = ((segments - 1 - i) if GRADIENT else i).to(tl.int64) * H + head
    return (
        place * SIZE + at,
        tl.load(ends + place * SIZE + at),
        exp2(tl.load(end_lefts + place), NATIVE),
    )


@jit
def write_rows(
    given, to, to_scale, row, half, count, stride, N: tl.constexpr, REVERSE: tl.constexpr,
    HALF: tl.constexpr, L: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Write B or C in half a chunk as operands (L/2, BN) with one scale."""
    i, n = tl.arange(0, L // 2), tl.arange(0, BN)
    values = load_frames(given, row, half * (L // 2) + i, count, stride, N, BN, REVERSE)
    kept, scale = halve(values.to(tl.float32), HALF)
    tl.store(to + i[:, None] * BN + n[None, :], kept)
    tl.store(to_scale, scale)


@jit
def carried_kernel(
    sums, states, scales, lefts, entered, last_states, table, T, chunks_a_video, length,
    H, P: tl.constexpr, N: tl.constexpr, GRADIENT: tl.constexpr,
    NATIVE: tl.constexpr, REVERSE: tl.constexpr, PACKED: tl.constexpr, HALF: tl.constexpr,
    L: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Add what is left of what entered its segment to a chunk's state, and to a last state."""
    chunk, head = tl.program_id(0) // H, tl.program_id(0) % H
    _, _, video, first, last = locate(chunk, table, T, chunks_a_video, L, REVERSE, PACKED)
    at = chunk.to(tl.int64) * H + head
    left = tl.load(lefts + at)
    decay = exp2(left, NATIVE)
    p_entered = entered + ((chunk // length).to(tl.int64) * H + head) * (BP * BN)
    tile = operand_tile(BP, BN)
    if decay > 0:
        h = tl.load(states + at * (BP * BN) + tile).to(tl.float32)
        h *= tl.load(scales + at)
        h += decay * tl.load(p_entered + tile)
        keep_state(states, scales, at, h, HALF, BP, BN)
        if first if GRADIENT else last:
            place, real = state_tile(P, N, BP, BN)
            p_last = last_states + (video.to(tl.int64) * H + head) * (P * N) + place
            through = decay * exp2(tl.load(sums + at * L + L - 1), NATIVE)
            h = tl.load(p_last, mask=real, other=0.0) + through * tl.load(p_entered + tile)
            tl.store(p_last, h, mask=real)
