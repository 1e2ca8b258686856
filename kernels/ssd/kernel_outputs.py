"""The outputs of the Mamba-2 scan in Triton, each chunk on its own, in two halves."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import exp2, sigmoid
from vidmamba.kernels.ssd.kernel_tiles import (
    add_product,
    decays,
    halve_rows,
    jit,
    load_frames,
    load_half,
    locate,
    log2,
    operand,
    operand_tile,
    prefetch_frames,
    prefetch_state,
    prefetch_steps,
    product,
    store_frames,
    wait,
    widen,
)


@jit
def outputs_kernel(
    x, z, D, rows, row_scales, steps, sums, states, scales, out, inner, inner_scales,
    table, T, chunks_a_video, chunks, heads_a_program, H, G, P: tl.constexpr, N: tl.constexpr,
    KEEP: tl.constexpr, HAS_Z: tl.constexpr, HAS_SKIP: tl.constexpr, LOGS: tl.constexpr,
    NATIVE: tl.constexpr, EARLY: tl.constexpr, REVERSE: tl.constexpr, PACKED: tl.constexpr,
    HALF: tl.constexpr, L: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Write the outputs of a chunk for some heads of a group.

    With KEEP, also what they are before skip and gate, as operands with a scale a frame. With LOGS
    the steps are what `steps_kernel` writes so.
    """
    chunk = tl.program_id(0)
    row, count, _, _, _ = locate(chunk, table, T, chunks_a_video, L, REVERSE, PACKED)
    first = tl.program_id(1) * heads_a_program
    group = first // (H // G)
    SUB: tl.constexpr = L // 2
    t = tl.arange(0, SUB)
    prefetch_frames(x + first * P, row, count, H * P, NATIVE, REVERSE, L)
    if HAS_Z:
        prefetch_frames(z + first * P, row, count, H * P, NATIVE, REVERSE, L)
    c0, b0, c_scale0, b_scale0 = load_half(rows, row_scales, 0, chunk, chunks, group, G, L, BN)
    c1, b1, c_scale1, b_scale1 = load_half(rows, row_scales, 1, chunk, chunks, group, G, L, BN)
    scores00, scores10, scores11 = 0.0, 0.0, 0.0
    # where registers are left, later frames are left out here and not for each head
    CAUSAL: tl.constexpr = not KEEP and BN <= 64
    if not KEEP:  # as operands they find room in registers, and B's in shared memory is the frames'
        scores00 = operand(causal(product(c0, tl.trans(b0)), CAUSAL, SUB), HALF)
        scores10 = operand(product(c1, tl.trans(b0)), HALF)
        scores11 = operand(causal(product(c1, tl.trans(b1)), CAUSAL, SUB), HALF)
    wait(EARLY)  # and for what is read so far the launch ahead has waited
    for i in tl.range(0, heads_a_program, disable_licm=True):
        head = first + i
        at = chunk.to(tl.int64) * H + head
        p_log, p_step = sums + at * L + t, steps + at * L + t
        p_x, p_z = x + head * P, z + head * P
        if i + 1 < heads_a_program:
            prefetch_steps(sums, at + 1, NATIVE, L)
            prefetch_steps(steps, at + 1, NATIVE, L)
            prefetch_state(states, at + 1, NATIVE, BP, BN)
            prefetch_frames(p_x + P, row, count, H * P, NATIVE, REVERSE, L)
            if HAS_Z:
                prefetch_frames(p_z + P, row, count, H * P, NATIVE, REVERSE, L)
        h = tl.load(states + at * (BP * BN) + operand_tile(BP, BN))
        x0 = load_frames(p_x, row, t, count, H * P, P, BP, REVERSE)
        log, step = tl.load(p_log), tl.load(p_step)
        middle, scale = tl.load(sums + at * L + SUB - 1), tl.load(scales + at)
        gate = 0.0
        if HAS_Z:  # long before it is needed
            gate = load_frames(p_z, row, t, count, H * P, P, BP, REVERSE, LAST=True)
        weight = score(c0, b0, scores00, KEEP, HALF, NATIVE)
        weight *= shares(log, step, c_scale0 * b_scale0, LOGS, CAUSAL, NATIVE, SUB)
        if HAS_SKIP and not KEEP:
            # a frame's own weight: the output needs the skip nowhere else
            skip = tl.where(t[:, None] == t[None, :], tl.load(D + head).to(tl.float32), 0.0)
            weight += skip
        y = product(c0, tl.trans(h)) * (exp2(log, NATIVE) * scale * c_scale0)[:, None]
        y = add_product(weight, x0, y)
        finish(
            y, x0, gate, D, out, inner, inner_scales + at * L, head, row, t, count, H * P, P,
            KEEP, HAS_Z, HAS_SKIP, NATIVE, REVERSE, HALF, BP,
        )  # fmt: skip

        if LOGS:
            until = c_scale1 * b_scale0 * exp2(middle - step, NATIVE)
        else:
            until = c_scale1 * b_scale0 * exp2(middle - log, NATIVE) * step
        x1 = load_frames(p_x, row, t + SUB, count, H * P, P, BP, REVERSE)
        log, step = tl.load(p_log + SUB), tl.load(p_step + SUB)
        gate = 0.0
        if HAS_Z:  # long before it is needed
            gate = load_frames(p_z, row, t + SUB, count, H * P, P, BP, REVERSE, LAST=True)
        y = product(c1, tl.trans(h)) * (exp2(middle, NATIVE) * scale * c_scale1)
        weight = score(c1, b0, scores10, KEEP, HALF, NATIVE) * until[None, :]
        y = add_product(weight, x0, y)
        weight = score(c1, b1, scores11, KEEP, HALF, NATIVE)
        weight *= shares(log, step, c_scale1 * b_scale1, LOGS, CAUSAL, NATIVE, SUB)
        if HAS_SKIP and not KEEP:
            weight += skip
        y = add_product(weight, x1, y * exp2(log - middle, NATIVE)[:, None])
        finish(
            y, x1, gate, D, out, inner, inner_scales + at * L, head, row, t + SUB, count, H * P, P,
            KEEP, HAS_Z, HAS_SKIP, NATIVE, REVERSE, HALF, BP,
        )  # fmt: skip


@jit
def causal(scores, CAUSAL: tl.constexpr, SUB: tl.constexpr):
    """Scores without those of later frames, if asked for."""
    if CAUSAL:
        t = tl.arange(0, SUB)
        scores = tl.where(t[:, None] >= t[None, :], scores, 0.0)
    return scores


@jit
def shares(
    log, step, scale, LOGS: tl.constexpr, CAUSAL: tl.constexpr, NATIVE: tl.constexpr,
    SUB: tl.constexpr,
):  # fmt: skip
    """What frame j adds to later frames t (SUB, SUB), times C . B and a scale; see `decays`."""
    if LOGS:
        # one factor less for each pair of frames
        return decays(log + log2(scale, NATIVE), step, CAUSAL, NATIVE, SUB)
    return decays(log, log, CAUSAL, NATIVE, SUB) * (scale * step)[None, :]


@jit
def score(c, b, kept, KEEP: tl.constexpr, HALF: tl.constexpr, NATIVE: tl.constexpr):
    """C . B of two halves, anew for each head where gradients need all of float32."""
    return product(c, tl.trans(b)) if KEEP else widen(kept, HALF, NATIVE)


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
    store_frames(out + head * P, y, row, t, count, stride, P, BP, REVERSE, LAST=True)
