"""Gradients of B and C in Triton, which the heads of a group share."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import exp2
from vidmamba.kernels.ssd.kernel_tiles import (
    add_product,
    decays,
    halve_rows,
    jit,
    load_frames,
    load_seen,
    locate,
    operand_tile,
    prefetch_frames,
    prefetch_steps,
    product,
    store_frames,
)


@jit
def score_grads_kernel(
    seen, seen_scales, x, steps, sums, out, table, T, chunks_a_video, chunks, heads_a_program,
    H, G, P: tl.constexpr, NATIVE: tl.constexpr, REVERSE: tl.constexpr, PACKED: tl.constexpr,
    HALF: tl.constexpr, L: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """Sum the gradients of the scores C[t] . B[j] over some heads of a group.

    In quarters: both in the earlier half, t in the later, both in the later.
    """
    chunk = tl.program_id(0)
    row, count, _, _, _ = locate(chunk, table, T, chunks_a_video, L, REVERSE, PACKED)
    SUB: tl.constexpr = L // 2
    t = tl.arange(0, SUB)
    total00 = tl.zeros((SUB, SUB), tl.float32)
    total10 = tl.zeros((SUB, SUB), tl.float32)
    total11 = tl.zeros((SUB, SUB), tl.float32)
    for i in tl.range(0, heads_a_program, disable_licm=True):
        head = tl.program_id(1) * heads_a_program + i
        at = chunk.to(tl.int64) * H + head
        p_log, p_step = sums + at * L + t, steps + at * L + t
        middle = tl.load(sums + at * L + SUB - 1)
        if i + 1 < heads_a_program:
            prefetch_steps(sums, at + 1, NATIVE, L)
            prefetch_steps(steps, at + 1, NATIVE, L)
            prefetch_frames(x + head * P + P, row, count, H * P, NATIVE, REVERSE, L)
            prefetch_frames(seen + head * P + P, row, count, H * P, NATIVE, REVERSE, L)
        x0, x_scale0 = load_inputs(x, head, row, t, count, H * P, P, BP, REVERSE, HALF)
        x1, x_scale1 = load_inputs(x, head, row, t + SUB, count, H * P, P, BP, REVERSE, HALF)
        seen0, scale0 = load_seen(
            seen, seen_scales + at * 2, head, 0, row, t, count, H * P, P, BP, REVERSE, HALF
        )
        seen1, scale1 = load_seen(
            seen, seen_scales + at * 2, head, 1, row, t + SUB, count, H * P, P, BP, REVERSE, HALF
        )
        log, step = tl.load(p_log), tl.load(p_step) * x_scale0
        pairs = product(seen0, tl.trans(x0))
        total00 += pairs * decays(log, log, False, NATIVE, SUB) * (scale0 * step)[None, :]
        until = exp2(middle - log, NATIVE) * step
        log, step = tl.load(p_log + SUB), tl.load(p_step + SUB) * x_scale1
        pairs = product(seen1, tl.trans(x0))
        total10 += pairs * (scale1 * exp2(log - middle, NATIVE))[:, None] * until[None, :]
        pairs = product(seen1, tl.trans(x1))
        total11 += pairs * decays(log, log, False, NATIVE, SUB) * (scale1 * step)[None, :]
    part = out + (tl.program_id(1).to(tl.int64) * chunks + chunk) * (3 * SUB * SUB)
    part += t[:, None] * SUB + t[None, :]
    tl.store(part, total00)
    tl.store(part + SUB * SUB, total10)
    tl.store(part + 2 * SUB * SUB, total11)


@jit
def load_inputs(
    x, head, row, t, count, stride, P: tl.constexpr, BP: tl.constexpr, REVERSE: tl.constexpr,
    HALF: tl.constexpr,
):  # fmt: skip
    """One head's frames as an operand and a scale each."""
    values = load_frames(x + head * P, row, t, count, stride, P, BP, REVERSE)
    return halve_rows(values.to(tl.float32), HALF)


@jit
def projection_grads_kernel(
    frames, seen_scales, others, steps, sums, states, scales, scores, grad,
    table, T, chunks_a_video, chunks, splits, H, G, P: tl.constexpr, N: tl.constexpr,
    OF_C: tl.constexpr, NATIVE: tl.constexpr,
    REVERSE: tl.constexpr, PACKED: tl.constexpr, HALF: tl.constexpr,
    L: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Write the gradients of half a chunk's C, from those of y, or of its B, from x."""
    chunk, group, half = tl.program_id(0), tl.program_id(1) // 2, tl.program_id(1) % 2
    row, count, _, _, _ = locate(chunk, table, T, chunks_a_video, L, REVERSE, PACKED)
    SUB: tl.constexpr = L // 2
    t = half * SUB + tl.arange(0, SUB)
    total = tl.zeros((SUB, BN), tl.float32)
    for i in tl.range(0, H // G, disable_licm=True):
        head = group * (H // G) + i
        at = chunk.to(tl.int64) * H + head
        log = tl.load(sums + at * L + t)
        if OF_C:
            part, scale = load_seen(
                frames, seen_scales + at * 2, head, half, row, t, count, H * P, P, BP, REVERSE, HALF
            )
            weight = exp2(log, NATIVE) * scale
        else:
            end = tl.load(sums + at * L + L - 1)
            part, scale = load_inputs(frames, head, row, t, count, H * P, P, BP, REVERSE, HALF)
            weight = tl.load(steps + at * L + t) * exp2(end - log, NATIVE) * scale
        h = tl.load(states + at * (BP * BN) + operand_tile(BP, BN))
        total += product(part, h) * (tl.load(scales + at) * weight)[:, None]
    i, j = tl.arange(0, SUB), tl.arange(0, SUB)
    for k in range(0, (half + 1) if OF_C else (2 - half)):
        # with the halves up to this one, or from this one
        other_half = k if OF_C else half + k
        quarter = half + other_half
        other_t = other_half * SUB + tl.arange(0, SUB)
        other = load_frames(others + group * N, row, other_t, count, G * N, N, BN, REVERSE)
        pairs = tl.zeros((SUB, SUB), tl.float32)
        for split in range(0, splits):
            place = ((group * splits + split).to(tl.int64) * chunks + chunk) * 3 + quarter
            p_pairs = scores + place * (SUB * SUB)
            if OF_C:
                pairs += tl.load(p_pairs + i[:, None] * SUB + j[None, :])
            else:
                pairs += tl.load(p_pairs + j[None, :] * SUB + i[:, None])
        total = add_product(pairs, other, total)
    store_frames(grad + group * N, total, row, t, count, G * N, N, BN, REVERSE)
