"""The forward Mamba-2 scan in Triton: steps, chunk states, carry, outputs.

Time is cut into chunks of L frames, in two halves, and chunks into segments. A program walks one
head's chunks of a segment with the state on the chip; it begins at zero, or at a video's initial
state, and what entered the segment is added later, decayed. Logarithms are binary throughout.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import LOG2_E, exp2, sigmoid, softplus
from vidmamba.kernels.ssd.kernel_tiles import (
    add_product,
    add_product_transposed,
    decays,
    halve,
    halve_rows,
    jit,
    keep_state,
    load_frames,
    load_half,
    locate,
    operand_tile,
    prefetch_frames,
    prefetch_state,
    prefetch_steps,
    product,
    score,
    state_tile,
    store_frames,
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
def rows_kernel(
    B, C, rows, row_scales, table, T, chunks_a_video, chunks, G, N: tl.constexpr,
    REVERSE: tl.constexpr, PACKED: tl.constexpr, HALF: tl.constexpr, NATIVE: tl.constexpr,
    L: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Write B and C as operands (2, chunks, G, L, BN), in the order of the scan."""
    chunk, group, half = tl.program_id(0), tl.program_id(1) // 4, tl.program_id(1) % 2
    which = tl.program_id(1) // 2 % 2
    row, count, _, _, _ = locate(chunk, table, T, chunks_a_video, L, REVERSE, PACKED)
    t = half * (L // 2) + tl.arange(0, L // 2)
    if which == 0:
        values = load_frames(B + group * N, row, t, count, G * N, N, BN, REVERSE).to(tl.float32)
    else:
        values = load_frames(C + group * N, row, t, count, G * N, N, BN, REVERSE).to(tl.float32)
    kept, scale = halve_rows(values, HALF)
    at = ((which * chunks + chunk).to(tl.int64) * G + group) * L
    tl.store(rows + at * BN + t[:, None] * BN + tl.arange(0, BN)[None, :], kept)
    tl.store(row_scales + at + t, scale)


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
    SUB: tl.constexpr = L // 2
    at_state, in_state = state_tile(P, N, BP, BN)
    h = tl.zeros((BP, BN), tl.float32)
    left = 0.0
    begin = segment * length
    count_here = tl.minimum(length, chunks - begin)
    coming = walk_logs(0, 2 * count_here, begin, head, steps, sums, seen_scales, H, GRADIENT, L)
    for i in range(0, 2 * count_here):  # by halves of chunks
        log, factor, before, after = coming
        # those of the next half: to have them when it comes
        coming = walk_logs(
            i + 1, 2 * count_here, begin, head, steps, sums, seen_scales, H, GRADIENT, L
        )
        place = (2 * count_here - 1 - i) if GRADIENT else i
        chunk, half = begin + place // 2, place % 2
        row, count, video, first, last = locate(chunk, table, T, chunks_a_video, L, REVERSE, PACKED)
        at = chunk.to(tl.int64) * H + head
        p_video = (video.to(tl.int64) * H + head) * (P * N)
        if i % 2 == 0:
            enters = last if GRADIENT else first
            h = tl.where(enters, 0.0, h)
            left = tl.where(enters, float("-inf"), left)
            if HAS_GIVEN:
                p_given = given + p_video + at_state
                h += tl.load(p_given, mask=in_state & enters, other=0.0).to(tl.float32)
            keep_state(states, scales, at, h, HALF, BP, BN)
            tl.store(lefts + at, left)

        t = half * SUB + tl.arange(0, SUB)
        b = load_frames(rows + group * N, row, t, count, G * N, N, BN, REVERSE)
        value = load_frames(frames + head * P, row, t, count, H * P, P, BP, REVERSE)
        weight = factor * (exp2(log - before, NATIVE) if GRADIENT else exp2(after - log, NATIVE))
        h *= exp2(after - before, NATIVE)
        h = add_product_transposed(value.to(tl.float32) * weight[:, None], b, h)
        left += after - before
        if (first if GRADIENT else last) & (i % 2 == 1):
            tl.store(last_states + p_video + at_state, h, mask=in_state)
    at = segment.to(tl.int64) * H + head
    tl.store(ends + at * (BP * BN) + operand_tile(BP, BN), h)
    tl.store(end_lefts + at, left)


@jit
def walk_logs(
    i, halves, begin, head, steps, sums, seen_scales, H, GRADIENT: tl.constexpr, L: tl.constexpr
):  # fmt: skip
    """The log-decays in the i-th half that a walk comes to, before it and after it; the steps.

    With GRADIENT, the scale of the operands in place of the steps.
    """
    i = tl.minimum(i, halves - 1)
    place = (halves - 1 - i) if GRADIENT else i
    at, half = (begin + place // 2).to(tl.int64) * H + head, place % 2
    t = half * (L // 2) + tl.arange(0, L // 2)
    log = tl.load(sums + at * L + t)
    before = tl.load(sums + at * L + L // 2 - 1, mask=half > 0, other=0.0)
    after = tl.load(sums + at * L + half * (L // 2) + L // 2 - 1)
    factor = tl.load(seen_scales + at * 2 + half) if GRADIENT else tl.load(steps + at * L + t)
    return log, factor, before, after


@jit
def carry_kernel(
    ends, end_lefts, entered, segments, H, SIZE: tl.constexpr, GRADIENT: tl.constexpr,
    NATIVE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """From what each segment ends with, alone, to what enters it."""
    head = tl.program_id(1)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    h = tl.zeros((BLOCK,), tl.float32)
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


@jit
def outputs_kernel(
    x, z, grad_y, D, rows, row_scales, steps, sums, states, scales, out, slopes, seen, seen_scales,
    table, T, chunks_a_video, chunks, heads_a_program, H, G, P: tl.constexpr, N: tl.constexpr,
    GRADIENT: tl.constexpr, HAS_Z: tl.constexpr, HAS_SKIP: tl.constexpr, NATIVE: tl.constexpr,
    REVERSE: tl.constexpr, PACKED: tl.constexpr, HALF: tl.constexpr,
    L: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Write the outputs of a chunk for some heads of a group.

    With GRADIENT, write instead the gradients of the gate and of what it is given, the latter as
    operands, and dy . y of every frame.
    """
    chunk = tl.program_id(0)
    row, count, _, _, _ = locate(chunk, table, T, chunks_a_video, L, REVERSE, PACKED)
    group = tl.program_id(1) * heads_a_program // (H // G)
    SUB: tl.constexpr = L // 2
    t = tl.arange(0, SUB)
    c0, b0, c_scale0, b_scale0 = load_half(rows, row_scales, chunk, chunks, group, t, G, L, BN)
    c1, b1, c_scale1, b_scale1 = load_half(
        rows, row_scales, chunk, chunks, group, t + SUB, G, L, BN
    )
    scores00, scale00 = score(c0, b0, c_scale0, b_scale0, HALF)
    scores10, scale10 = score(c1, b0, c_scale1, b_scale0, HALF)
    scores11, scale11 = score(c1, b1, c_scale1, b_scale1, HALF)
    for i in range(0, heads_a_program):
        head = tl.program_id(1) * heads_a_program + i
        at = chunk.to(tl.int64) * H + head
        p_log, p_step = sums + at * L + t, steps + at * L + t
        p_x, p_z, p_grad = x + head * P, z + head * P, grad_y + head * P
        if i + 1 < heads_a_program:
            prefetch_steps(sums, at + 1, NATIVE, L)
            prefetch_steps(steps, at + 1, NATIVE, L)
            prefetch_state(states, at + 1, NATIVE, BP, BN)
            prefetch_frames(p_x + P, row, count, H * P, NATIVE, REVERSE, L)
            if HAS_Z:
                prefetch_frames(p_z + P, row, count, H * P, NATIVE, REVERSE, L)
            if GRADIENT:
                prefetch_frames(p_grad + P, row, count, H * P, NATIVE, REVERSE, L)
        h = tl.load(states + at * (BP * BN) + operand_tile(BP, BN))
        x0 = load_frames(p_x, row, t, count, H * P, P, BP, REVERSE)
        log, step = tl.load(p_log), tl.load(p_step)
        middle, scale = tl.load(sums + at * L + SUB - 1), tl.load(scales + at)
        gate, grad = load_epilogue(
            p_z, p_grad, row, t, count, H * P, P, GRADIENT, HAS_Z, REVERSE, BP
        )
        weight = scores00.to(tl.float32) * decays(log, NATIVE, SUB) * (scale00 * step)[None, :]
        y = product(c0, tl.trans(h)) * (exp2(log, NATIVE) * scale * c_scale0)[:, None]
        y = add_product(weight, x0, y)
        finish(
            y, x0, gate, grad, D, out, slopes + at * L, seen, seen_scales + at * 2, head, row, t,
            count, H * P, P, GRADIENT, HAS_Z, HAS_SKIP, NATIVE, REVERSE, HALF, BP,
        )  # fmt: skip

        until = scale10 * exp2(middle - log, NATIVE) * step
        x1 = load_frames(p_x, row, t + SUB, count, H * P, P, BP, REVERSE)
        log, step = tl.load(p_log + SUB), tl.load(p_step + SUB)
        gate, grad = load_epilogue(
            p_z, p_grad, row, t + SUB, count, H * P, P, GRADIENT, HAS_Z, REVERSE, BP
        )
        y = product(c1, tl.trans(h)) * (exp2(middle, NATIVE) * scale * c_scale1)[:, None]
        y = add_product(scores10.to(tl.float32) * until[None, :], x0, y)
        weight = scores11.to(tl.float32) * decays(log, NATIVE, SUB) * (scale11 * step)[None, :]
        y = add_product(weight, x1, y * exp2(log - middle, NATIVE)[:, None])
        finish(
            y, x1, gate, grad, D, out, slopes + at * L, seen, seen_scales + at * 2 + 1, head, row,
            t + SUB, count, H * P, P, GRADIENT, HAS_Z, HAS_SKIP, NATIVE, REVERSE, HALF, BP,
        )  # fmt: skip


@jit
def load_epilogue(
    z, grad_y, row, t, count, stride, P: tl.constexpr, GRADIENT: tl.constexpr,
    HAS_Z: tl.constexpr, REVERSE: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """What `finish` needs, long before it needs it."""
    gate, grad = 0.0, 0.0
    if HAS_Z:
        gate = load_frames(z, row, t, count, stride, P, BP, REVERSE)
    if GRADIENT:
        grad = load_frames(grad_y, row, t, count, stride, P, BP, REVERSE)
    return gate, grad


@jit
def finish(
    y, value, gate, grad, D, out, slopes, seen, seen_scale, head, row, t, count, stride,
    P: tl.constexpr, GRADIENT: tl.constexpr, HAS_Z: tl.constexpr, HAS_SKIP: tl.constexpr,
    NATIVE: tl.constexpr, REVERSE: tl.constexpr, HALF: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """Add the skip, pass the gate and write; or write the gradient of the gate."""
    shown = y
    if HAS_SKIP:
        shown += tl.load(D + head).to(tl.float32) * value.to(tl.float32)
    if HAS_Z:
        gate = gate.to(tl.float32)
        open_ = sigmoid(gate, NATIVE)
    if GRADIENT:
        grad = grad.to(tl.float32)
        if HAS_Z:
            gate_grad = grad * shown * open_ * (1.0 + gate * (1.0 - open_))
            store_frames(out + head * P, gate_grad, row, t, count, stride, P, BP, REVERSE)
            grad *= gate * open_
        tl.store(slopes + t, tl.sum(grad * y, axis=1))
        part, scale = halve(grad, HALF)
        store_frames(seen + head * P, part, row, t, count, stride, P, BP, REVERSE)
        tl.store(seen_scale, scale)
    else:
        if HAS_Z:
            shown *= gate * open_
        store_frames(out + head * P, shown, row, t, count, stride, P, BP, REVERSE)
