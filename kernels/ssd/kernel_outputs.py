"""The outputs of the Mamba-2 scan in Triton, each chunk on its own, in two halves."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import exp2, sigmoid
from vidmamba.kernels.ssd.kernel_tiles import (
    add_product,
    decays,
    enter,
    halve_rows,
    jit,
    load_frames,
    load_half,
    locate,
    operand_tile,
    prefetch_frames,
    prefetch_state,
    prefetch_steps,
    product,
    store_frames,
)


@jit
def outputs_kernel(
    x, z, D, rows, row_scales, steps, sums, states, scales, lefts, entered, entered_scales, out,
    inner, inner_scales, table, T, chunks_a_video, chunks, length, heads_a_program, H, G,
    P: tl.constexpr, N: tl.constexpr,
    KEEP: tl.constexpr, HAS_Z: tl.constexpr, HAS_SKIP: tl.constexpr, NATIVE: tl.constexpr,
    REVERSE: tl.constexpr, PACKED: tl.constexpr, HALF: tl.constexpr,
    L: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Write the outputs of a chunk for some heads of a group.

    With KEEP, also what they are before skip and gate, as operands with a scale a frame.
    """
    chunk = tl.program_id(0)
    row, count, _, _, _ = locate(chunk, table, T, chunks_a_video, L, REVERSE, PACKED)
    group = tl.program_id(1) * heads_a_program // (H // G)
    SUB: tl.constexpr = L // 2
    t = tl.arange(0, SUB)
    first = tl.program_id(1) * heads_a_program
    prefetch_state(states, chunk.to(tl.int64) * H + first, NATIVE, BP, BN)
    prefetch_frames(x + first * P, row, count, H * P, NATIVE, REVERSE, L)
    if HAS_Z:
        prefetch_frames(z + first * P, row, count, H * P, NATIVE, REVERSE, L)
    c0, b0, c_scale0, b_scale0 = load_half(rows, row_scales, 0, chunk, chunks, group, G, L, BN)
    c1, b1, c_scale1, b_scale1 = load_half(rows, row_scales, 1, chunk, chunks, group, G, L, BN)
    at, in_segment = chunk.to(tl.int64) * H + first, (chunk // length).to(tl.int64) * H + first
    near = fetch_scalars(sums, scales, lefts, entered_scales, at, in_segment, NATIVE, L)
    for i in tl.range(0, heads_a_program, disable_licm=True):
        head = first + i
        at, in_segment = chunk.to(tl.int64) * H + head, (chunk // length).to(tl.int64) * H + head
        middle, scale, left, share = near
        further = tl.where(i + 1 < heads_a_program, 1, 0)
        # one head ahead: the loads of what entered wait for them
        near = fetch_scalars(
            sums, scales, lefts, entered_scales, at + further, in_segment + further, NATIVE, L
        )
        p_log, p_step = sums + at * L + t, steps + at * L + t
        p_x, p_z = x + head * P, z + head * P
        if i + 1 < heads_a_program:
            prefetch_steps(sums, at + 1, NATIVE, L)
            prefetch_steps(steps, at + 1, NATIVE, L)
            prefetch_state(states, at + 1, NATIVE, BP, BN)
            prefetch_frames(p_x + P, row, count, H * P, NATIVE, REVERSE, L)
            if HAS_Z:
                prefetch_frames(p_z + P, row, count, H * P, NATIVE, REVERSE, L)
        tile = operand_tile(BP, BN)
        h = tl.load(states + at * (BP * BN) + tile)
        more = tl.load(entered + in_segment * (BP * BN) + tile, mask=left > 0, other=0.0)
        log0, step0 = tl.load(p_log), tl.load(p_step)
        x0 = load_frames(p_x, row, t, count, H * P, P, BP, REVERSE)
        x1 = load_frames(p_x, row, t + SUB, count, H * P, P, BP, REVERSE)
        gate = 0.0
        if HAS_Z:  # long before it is needed
            gate = load_frames(p_z, row, t, count, H * P, P, BP, REVERSE)
        h, scale = enter(h, scale, more, left * share, HALF, NATIVE)
        if KEEP and left > 0:
            tl.store(states + at * (BP * BN) + tile, h)
            tl.store(scales + at, scale)
        weight = product(c0, tl.trans(b0)) * decays(log0, NATIVE, SUB)
        weight *= (c_scale0 * b_scale0 * step0)[None, :]
        if HAS_SKIP and not KEEP:
            # a frame's own weight: the output needs the skip nowhere else
            skip = tl.where(t[:, None] == t[None, :], tl.load(D + head).to(tl.float32), 0.0)
            weight += skip
        y = product(c0, tl.trans(h)) * (exp2(log0, NATIVE) * scale * c_scale0)[:, None]
        y = add_product(weight, x0, y)
        gate0 = gate
        if HAS_Z:  # long before it is needed
            gate = load_frames(p_z, row, t + SUB, count, H * P, P, BP, REVERSE)
        finish(
            y, x0, gate0, D, out, inner, inner_scales + at * L, head, row, t, count, H * P, P,
            KEEP, HAS_Z, HAS_SKIP, NATIVE, REVERSE, HALF, BP,
        )  # fmt: skip

        until = c_scale1 * b_scale0 * exp2(middle - log0, NATIVE) * step0
        y = product(c1, tl.trans(h)) * (exp2(middle, NATIVE) * scale * c_scale1)
        y = add_product(product(c1, tl.trans(b0)) * until[None, :], x0, y)
        log1, step1 = tl.load(p_log + SUB), tl.load(p_step + SUB)
        weight = product(c1, tl.trans(b1)) * decays(log1, NATIVE, SUB)
        weight *= (c_scale1 * b_scale1 * step1)[None, :]
        if HAS_SKIP and not KEEP:
            weight += skip
        y = add_product(weight, x1, y * exp2(log1 - middle, NATIVE)[:, None])
        finish(
            y, x1, gate, D, out, inner, inner_scales + at * L, head, row, t + SUB, count, H * P, P,
            KEEP, HAS_Z, HAS_SKIP, NATIVE, REVERSE, HALF, BP,
        )  # fmt: skip


@jit
def fetch_scalars(
    sums, scales, lefts, entered_scales, at, in_segment, NATIVE: tl.constexpr, L: tl.constexpr
):  # fmt: skip
    """A head's log-decay in the middle of a chunk, and its state's scale.

    And what is left of what entered the segment, and the scale of that.
    """
    left = exp2(tl.load(lefts + at), NATIVE)
    middle = tl.load(sums + at * L + L // 2 - 1)
    return middle, tl.load(scales + at), left, tl.load(entered_scales + in_segment)


@jit
def finish(
    y, value, gate, D, out, inner, inner_scales, head, row, t, count, stride,
    P: tl.constexpr, KEEP: tl.constexpr, HAS_Z: tl.constexpr, HAS_SKIP: tl.constexpr,
    NATIVE: tl.constexpr, REVERSE: tl.constexpr, HALF: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """Keep what the backward pass wants, add the skip if that is still to do, gate, and write."""
    if KEEP:
        part, scale = halve_rows(y, HALF)
        store_frames(inner + head * P, part, row, t, count, stride, P, BP, REVERSE)
        tl.store(inner_scales + t, scale)
        if HAS_SKIP:
            y += tl.load(D + head).to(tl.float32) * value.to(tl.float32)
    if HAS_Z:
        gate = gate.to(tl.float32)
        y *= gate * sigmoid(gate, NATIVE)
    store_frames(out + head * P, y, row, t, count, stride, P, BP, REVERSE)
