"""The states that enter the chunks of the Mamba-2 scan, or those states' gradients, in Triton.

Time is cut into chunks of L frames and chunks into segments. A program walks one head's chunks of a
segment with the state on the chip; it begins at zero, or at a video's initial state, and what
entered the segment is added later, decayed. Logarithms are binary throughout.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call,assignment"
# mypy: disable-error-code="var-annotated"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import LOG2_E, exp2, softplus
from vidmamba.kernels.ssd.kernel_tiles import (
    add_product_transposed,
    floor,
    halve,
    jit,
    keep_state,
    load_frames,
    locate,
    log2,
    operand,
    operand_tile,
    pass_on,
    power,
    prefetch_frames,
    state_tile,
    wait,
)


@jit
def steps_kernel(
    dt, A, bias, steps, sums, table, T, chunks_a_video, H,
    HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr, PRECISE: tl.constexpr, NATIVE: tl.constexpr,
    PASS: tl.constexpr, LOGS: tl.constexpr, REVERSE: tl.constexpr, PACKED: tl.constexpr,
    L: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the steps, zero where no frame is, and their log-decays summed within each chunk.

    Both (chunks, H, L), in the order of the scan. With LOGS, for steps that are not negative, not
    the steps but those sums less the steps' logarithms: a frame's share in a later one is the
    exponential of one difference.
    """
    pass_on(PASS)
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
    log = tl.cumsum(step * rate[None, :], axis=0)
    if LOGS:
        # the smallest number with all its bits stands for zero
        step = log - log2(tl.maximum(step, 1.1754944e-38), NATIVE)
    tl.store(steps + to, step, mask=there)
    tl.store(sums + to, log, mask=there)


@jit
def walk_kernel(
    frames, seen_scales, rows, steps, sums, given, states, scales, lefts, last_states, ends, marks,
    ended, table, T, chunks_a_video, chunks, length, H, G, P: tl.constexpr, N: tl.constexpr,
    GRADIENT: tl.constexpr, HAS_GIVEN: tl.constexpr, LOGS: tl.constexpr, EARLY: tl.constexpr,
    NATIVE: tl.constexpr, REVERSE: tl.constexpr, PACKED: tl.constexpr, HALF: tl.constexpr,
    L: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Walk the chunks of a segment, for one head: write the state that enters each.

    With GRADIENT, against time: the frames are the gradients of y, the rows C instead of B, and
    what is written is the gradient of the state that leaves each chunk.
    """
    segment, head = tl.program_id(0) // H, tl.program_id(0) % H
    group = head // (H // G)
    begin = segment * length
    count_here = tl.minimum(length, chunks - begin)
    near = begin + ((count_here - 1) if GRADIENT else 0)
    row, count, _, _, _ = locate(near, table, T, chunks_a_video, L, REVERSE, PACKED)
    prefetch_frames(rows + group * N, row, count, G * N, NATIVE, REVERSE, L)
    prefetch_frames(frames + head * P, row, count, H * P, NATIVE, REVERSE, L)
    wait(EARLY)
    pass_on(EARLY)
    at_state, in_state = state_tile(P, N, BP, BN)
    h = tl.zeros((BP, BN), tl.float32)
    left, through, video_ended = 0.0, float("-inf"), 0
    t = tl.arange(0, L)
    for i in tl.range(0, count_here, disable_licm=True):
        chunk = begin + ((count_here - 1 - i) if GRADIENT else i)
        row, count, video, first, last = locate(chunk, table, T, chunks_a_video, L, REVERSE, PACKED)
        at = chunk.to(tl.int64) * H + head
        p_video = (video.to(tl.int64) * H + head) * (P * N)
        b = load_frames(rows + group * N, row, t, count, G * N, N, BN, REVERSE)
        value = load_frames(frames + head * P, row, t, count, H * P, P, BP, REVERSE)
        end = tl.load(sums + at * L + L - 1)
        if GRADIENT:
            log = tl.load(sums + at * L + t)
            weight = tl.load(seen_scales + at * 2 + t // (L // 2)) * exp2(log, NATIVE)
        elif LOGS:
            weight = exp2(end - tl.load(steps + at * L + t), NATIVE)
        else:
            weight = tl.load(steps + at * L + t) * exp2(end - tl.load(sums + at * L + t), NATIVE)
        after = tl.maximum(tl.minimum(chunk + (-1 if GRADIENT else 1), chunks - 1), 0)
        row, count, _, _, _ = locate(after, table, T, chunks_a_video, L, REVERSE, PACKED)
        prefetch_frames(frames + head * P, row, count, H * P, NATIVE, REVERSE, L)
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
            if left > float("-inf"):  # what entered the segment is to be added
                through, video_ended = left, video
    at = segment.to(tl.int64) * H + head
    tl.store(ends + at * (BP * BN) + operand_tile(BP, BN), h)
    tl.store(marks + at * 4, exp2(left, NATIVE))
    tl.store(marks + at * 4 + 1, exp2(through, NATIVE))
    tl.store(marks + at * 4 + 2, tl.max(tl.max(tl.abs(h), axis=1), axis=0))
    tl.store(ended + at, video_ended)


@jit
def carry_kernel(
    ends, marks, ended, entered, entered_scales, last_states, segments, B, C, rows, row_scales,
    table, T, chunks_a_video, chunks, H, G, P: tl.constexpr, N: tl.constexpr,
    GRADIENT: tl.constexpr, NATIVE: tl.constexpr, REVERSE: tl.constexpr, PACKED: tl.constexpr,
    HALF: tl.constexpr, L: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr, BLOCK: tl.constexpr,
    AHEAD: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """From what each segment ends with, alone, to what enters it.

    That takes few programs; others write what comes next reads of B and C, which they need wait
    for nobody to do.
    """
    BLOCKS: tl.constexpr = BP * BN // BLOCK
    part = tl.program_id(0)
    if part >= chunks * 4 * G:
        wait(EARLY)
        pass_on(EARLY)
        program = part - chunks * 4 * G
        at = program % BLOCKS * BLOCK + tl.arange(0, BLOCK)
        carry(
            ends, marks, ended, entered, entered_scales, last_states, segments, H,
            program // BLOCKS, at, P, N, GRADIENT, NATIVE, HALF, BP, BN, AHEAD,
        )  # fmt: skip
    else:
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
    ends, marks, ended, entered, entered_scales, last_states, segments, H, head, at,
    P: tl.constexpr, N: tl.constexpr, GRADIENT: tl.constexpr, NATIVE: tl.constexpr,
    HALF: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """Chain one head's segments, in some numbers of its state.

    What enters is written as an operand, and what is left of it where a video ends is added to the
    last state.
    """
    p_last = last_states + head * (P * N) + at // BN * N + at % BN
    real = (at // BN < P) & (at % BN < N)
    first = ((segments - 1) * H if GRADIENT else 0) + head
    stride = -H if GRADIENT else H
    h, bound = at * 0.0, tl.full((), 0.0, tl.float32)
    for i in range(0, segments, AHEAD):
        # some at a time: their loads need not wait for one another
        found = ()
        for k in tl.static_range(AHEAD):
            place = (first + (i + k) * stride).to(tl.int64)
            here = i + k < segments
            found += (
                (
                    tl.load(ends + place * (BP * BN) + at, mask=(at >= 0) & here, other=0.0),
                    tl.load(marks + place * 4, mask=here, other=0.0),
                    tl.load(marks + place * 4 + 1, mask=here, other=0.0),
                    tl.load(marks + place * 4 + 2, mask=here, other=0.0),
                ),
            )
        entering, some_ended = (), 0.0
        for k in tl.static_range(AHEAD):
            end, left, through, largest = found[k]
            place = (first + (i + k) * stride).to(tl.int64)
            here = i + k < segments
            scale = power(bound) if HALF else 1.0
            p_entered = entered + place * (BP * BN) + at
            tl.store(p_entered, operand(h * (1.0 / scale), HALF), mask=(at >= 0) & here)
            tl.store(entered_scales + place, scale, mask=here)
            entering += (h,)
            some_ended = tl.maximum(some_ended, through)
            h = end + left * h
            # of all numbers of the state, at most: others of them are in other programs
            bound = largest + left * bound
        if some_ended > 0:
            for k in tl.static_range(AHEAD):
                through = found[k][2]
                if through > 0:
                    place = (first + (i + k) * stride).to(tl.int64)
                    p_own = p_last + tl.load(ended + place).to(tl.int64) * H * (P * N)
                    own = tl.load(p_own, mask=real, other=0.0)
                    tl.store(p_own, own + through * entering[k], mask=real)


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
    states, scales, lefts, entered, entered_scales, length, H, NATIVE: tl.constexpr,
    HALF: tl.constexpr, EARLY: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Add what is left of what entered its segment to a chunk's state."""
    chunk, head = tl.program_id(0) // H, tl.program_id(0) % H
    at = chunk.to(tl.int64) * H + head
    in_segment = (chunk // length).to(tl.int64) * H + head
    tile = operand_tile(BP, BN)
    # the walk has ended: the launch ahead waited for it
    left, scale = exp2(tl.load(lefts + at), NATIVE), tl.load(scales + at)
    # what is most likely added to; more would be in the way of what the chain still loads
    soon = (left > 1e-6) & (scale > 0)
    p_state = states + at * (BP * BN) + tile
    h = tl.load(p_state, mask=tile < tl.where(soon, BP * BN, 0), other=0.0)
    wait(EARLY)
    pass_on(EARLY)
    share = left * tl.load(entered_scales + in_segment)
    # else nothing is added: numbers, each below two of its scale, that an operand's bits end above
    if floor(share) * (134217728.0 if HALF else 1.0) > (scale if HALF else 0.0):
        if not soon:
            h = tl.load(p_state)
        more = tl.load(entered + in_segment * (BP * BN) + tile).to(tl.float32)
        # a scale for both, without looking at the numbers again
        both = tl.maximum(scale, floor(share))
        total = h.to(tl.float32) * (scale / both) + more * (share / both)
        tl.store(p_state, operand(total, HALF))
        tl.store(scales + at, both)
