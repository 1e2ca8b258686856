"""Gradients of what the Mamba-2 scan has for every frame, in Triton: gates, x, steps.

The gradients of the states come from `walk_kernel`, run against time. The formulas stand in
kernels/README.md.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import LOG2_E, exp2, exp2m1, sigmoid
from vidmamba.kernels.ssd.kernel_tiles import (
    decays_transposed,
    halve,
    jit,
    load_frames,
    load_half,
    load_seen,
    locate,
    operand,
    operand_tile,
    prefetch_frames,
    prefetch_state,
    prefetch_steps,
    product,
    store_frames,
)


@jit
def gate_grads_kernel(
    x, z, grad_y, D, inner, inner_scales, grad_z, slopes, skips, seen, seen_scales,
    table, T, chunks_a_video, H, P: tl.constexpr,
    HAS_Z: tl.constexpr, HAS_SKIP: tl.constexpr, NATIVE: tl.constexpr,
    REVERSE: tl.constexpr, PACKED: tl.constexpr, HALF: tl.constexpr,
    L: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """Write the gradients of the gate and of what it is given, in half a chunk, for one head.

    The latter as operands. And, for every frame, its products with y, and with x for the skip.
    """
    half, head = tl.program_id(0) // H % 2, tl.program_id(0) % H
    chunk = tl.program_id(0) // (2 * H)
    row, count, _, _, _ = locate(chunk, table, T, chunks_a_video, L, REVERSE, PACKED)
    t = half * (L // 2) + tl.arange(0, L // 2)
    at = chunk.to(tl.int64) * H + head
    grad = load_frames(grad_y + head * P, row, t, count, H * P, P, BP, REVERSE).to(tl.float32)
    y = load_frames(inner + head * P, row, t, count, H * P, P, BP, REVERSE).to(tl.float32)
    y *= tl.load(inner_scales + at * L + t)[:, None]
    shown = y
    if HAS_SKIP:
        value = load_frames(x + head * P, row, t, count, H * P, P, BP, REVERSE).to(tl.float32)
        shown += tl.load(D + head).to(tl.float32) * value
    if HAS_Z:
        gate = load_frames(z + head * P, row, t, count, H * P, P, BP, REVERSE).to(tl.float32)
        open_ = sigmoid(gate, NATIVE)
        gate_grad = grad * shown * open_ * (1.0 + gate * (1.0 - open_))
        store_frames(grad_z + head * P, gate_grad, row, t, count, H * P, P, BP, REVERSE)
        grad *= gate * open_
    if HAS_SKIP:
        tl.store(skips + at * L + t, tl.sum(grad * value, axis=1))
    part, scale = halve(grad, HALF)
    store_frames(seen + head * P, part, row, t, count, H * P, P, BP, REVERSE)
    tl.store(seen_scales + at * 2 + half, scale)
    # of what the gradients of x are made of: in those of dt the two all but cancel
    tl.store(slopes + at * L + t, scale * tl.sum(part.to(tl.float32) * y, axis=1))


@jit
def frame_grads_kernel(
    seen, seen_scales, x, D, rows, row_scales, steps, sums, states, scales, grads, grad_scales,
    grad_x, row_sums, state_sums, table, T, chunks_a_video, chunks, heads_a_program,
    H, G, P: tl.constexpr, N: tl.constexpr,
    HAS_SKIP: tl.constexpr, NATIVE: tl.constexpr,
    REVERSE: tl.constexpr, PACKED: tl.constexpr, HALF: tl.constexpr,
    L: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Write the gradients of a chunk's x for some heads of a group, and what those of dt need.

    Those of x may take the place of those seen. What dt needs is, for every frame, x . du and the
    part of it that comes through the state that leaves the chunk; and over the states g . h, g the
    gradient of that state, h the one entering.
    """
    chunk = tl.program_id(0)
    row, count, _, _, _ = locate(chunk, table, T, chunks_a_video, L, REVERSE, PACKED)
    group = tl.program_id(1) * heads_a_program // (H // G)
    SUB: tl.constexpr = L // 2
    t, p = tl.arange(0, SUB), tl.arange(0, BP)
    c0, b0, c_scale0, b_scale0 = load_half(rows, row_scales, 0, chunk, chunks, group, G, L, BN)
    c1, b1, c_scale1, b_scale1 = load_half(rows, row_scales, 1, chunk, chunks, group, G, L, BN)
    for i in tl.range(0, heads_a_program, disable_licm=True):
        head = tl.program_id(1) * heads_a_program + i
        at = chunk.to(tl.int64) * H + head
        p_log, p_step, p_sums = sums + at * L + t, steps + at * L + t, row_sums + at * (2 * L) + t
        middle, end = tl.load(sums + at * L + SUB - 1), tl.load(sums + at * L + L - 1)
        if i + 1 < heads_a_program:
            prefetch_steps(sums, at + 1, NATIVE, L)
            prefetch_steps(steps, at + 1, NATIVE, L)
            prefetch_state(grads, at + 1, NATIVE, BP, BN)
            prefetch_state(states, at + 1, NATIVE, BP, BN)
            prefetch_frames(x + head * P + P, row, count, H * P, NATIVE, REVERSE, L)
            prefetch_frames(seen + head * P + P, row, count, H * P, NATIVE, REVERSE, L)
        g = tl.load(grads + at * (BP * BN) + operand_tile(BP, BN))
        h = tl.load(states + at * (BP * BN) + operand_tile(BP, BN)).to(tl.float32)
        scale = tl.load(grad_scales + at)
        both = scale * tl.load(scales + at)
        tl.store(state_sums + at * BP + p, both * tl.sum(g.to(tl.float32) * h, axis=1))

        # the later half
        seen1, seen_scale1 = load_seen(
            seen, seen_scales + at * 2, head, 1, row, t + SUB, count, H * P, P, BP, REVERSE, HALF
        )
        value = load_frames(x + head * P, row, t + SUB, count, H * P, P, BP, REVERSE)
        log, step = tl.load(p_log + SUB), tl.load(p_step + SUB)
        x_grad = product(b1, tl.trans(g)) * (exp2(end - log, NATIVE) * scale * b_scale1)[:, None]
        value = value.to(tl.float32)
        tl.store(p_sums + L + SUB, tl.sum(value * x_grad, axis=1))
        weight = product(b1, tl.trans(c1)) * decays_transposed(log, NATIVE, SUB)
        x_grad += product(operand(weight, HALF), seen1) * (b_scale1 * c_scale1 * seen_scale1)
        tl.store(p_sums + SUB, tl.sum(value * x_grad, axis=1))
        x_grad *= step[:, None]
        if HAS_SKIP:
            x_grad += (tl.load(D + head).to(tl.float32) * seen_scale1) * seen1.to(tl.float32)
        store_frames(grad_x + head * P, x_grad, row, t + SUB, count, H * P, P, BP, REVERSE)

        # the earlier half
        seen0, seen_scale0 = load_seen(
            seen, seen_scales + at * 2, head, 0, row, t, count, H * P, P, BP, REVERSE, HALF
        )
        value = load_frames(x + head * P, row, t, count, H * P, P, BP, REVERSE).to(tl.float32)
        weight = product(b0, tl.trans(c1)) * exp2(log - middle, NATIVE)[None, :]
        log, step = tl.load(p_log), tl.load(p_step)
        x_grad = product(b0, tl.trans(g)) * (exp2(end - middle, NATIVE) * scale * b_scale0)
        inside = product(operand(weight, HALF), seen1) * (b_scale0 * c_scale1 * seen_scale1)
        until = exp2(middle - log, NATIVE)
        tl.store(p_sums + L, until * tl.sum(value * x_grad, axis=1))
        x_grad = (x_grad + inside) * until[:, None]
        weight = product(b0, tl.trans(c0)) * decays_transposed(log, NATIVE, SUB)
        x_grad += product(operand(weight, HALF), seen0) * (b_scale0 * c_scale0 * seen_scale0)
        tl.store(p_sums, tl.sum(value * x_grad, axis=1))
        x_grad *= step[:, None]
        if HAS_SKIP:
            x_grad += (tl.load(D + head).to(tl.float32) * seen_scale0) * seen0.to(tl.float32)
        store_frames(grad_x + head * P, x_grad, row, t, count, H * P, P, BP, REVERSE)


@jit
def step_grads_kernel(
    A, steps, sums, slopes, skips, row_sums, state_sums, grad_dt, parts,
    table, T, chunks_a_video, chunks, H, P: tl.constexpr, SOFTPLUS: tl.constexpr,
    HAS_SKIP: tl.constexpr, NATIVE: tl.constexpr, REVERSE: tl.constexpr, PACKED: tl.constexpr,
    L: tl.constexpr, BP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the gradients of a chunk's dt, and its parts of those of A, D and the bias."""
    chunk = tl.program_id(0)
    row, count, _, _, _ = locate(chunk, table, T, chunks_a_video, L, REVERSE, PACKED)
    t, p = tl.arange(0, L), tl.arange(0, BP)
    head = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = head < H
    at = chunk.to(tl.int64) * H + head
    here = (t >= 0)[:, None] & real[None, :]
    frames = at[None, :] * L + t[:, None]
    step = tl.load(steps + frames, mask=here, other=0.0)
    twice = at[None, :] * (2 * L) + t[:, None]
    slope = tl.load(row_sums + twice, mask=here, other=0.0)
    through = tl.sum(step * tl.load(row_sums + twice + L, mask=here, other=0.0), axis=0)
    there = (p >= 0)[:, None] & real[None, :]
    held = tl.load(state_sums + at[None, :] * BP + p[:, None], mask=there, other=0.0)
    end = tl.load(sums + at * L + L - 1, mask=real, other=0.0)
    at_end = through + exp2(end, NATIVE) * tl.sum(held, axis=0)
    # the gradients of log-decays are sums until the chunk's end
    log_grad = tl.load(slopes + frames, mask=here, other=0.0) - step * slope
    log_grad = at_end[None, :] + tl.cumsum(log_grad, axis=0, reverse=True)
    rate = tl.load(A + head, mask=real, other=0.0).to(tl.float32)
    grad = log_grad * rate[None, :] + slope
    if SOFTPLUS:
        # 1 - exp(-softplus(r)) = sigmoid(r)
        grad *= -exp2m1(step * -LOG2_E, NATIVE)
    here &= (t < count)[:, None]
    grad = tl.where(here, grad, 0.0)
    to = row * H + (-t if REVERSE else t)[:, None] * H + head[None, :]
    tl.store(grad_dt + to, grad.to(grad_dt.dtype.element_ty), mask=here)
    p_parts, total = parts + at, chunks.to(tl.int64) * H
    tl.store(p_parts, tl.sum(log_grad * step, axis=0), mask=real)
    tl.store(p_parts + total, tl.sum(grad, axis=0), mask=real)
    if HAS_SKIP:
        skipped = tl.load(skips + frames, mask=here, other=0.0)
        tl.store(p_parts + 2 * total, tl.sum(skipped, axis=0), mask=real)


@jit
def totals_kernel(
    parts, grad_A, grad_bias, grad_D, chunks, H, HAS_BIAS: tl.constexpr, HAS_SKIP: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Add the chunks' parts of the gradients of A, the bias and D, always in the same order."""
    which = tl.program_id(0)
    head = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    chunk = tl.arange(0, ROWS)
    total = tl.zeros([ROWS, BLOCK], tl.float32)
    if (which == 0) | ((which == 1) & HAS_BIAS) | ((which == 2) & HAS_SKIP):
        for first in range(0, chunks, ROWS):
            row = (which.to(tl.int64) * chunks + first + chunk)[:, None] * H
            there = (first + chunk < chunks)[:, None] & (head < H)[None, :]
            total += tl.load(parts + row + head[None, :], mask=there, other=0.0)
    total = tl.sum(total, axis=0)
    if which == 0:
        tl.store(grad_A + head, total.to(grad_A.dtype.element_ty), mask=head < H)
    if HAS_BIAS:
        to = grad_bias + head
        tl.store(to, total.to(grad_bias.dtype.element_ty), mask=(head < H) & (which == 1))
    if HAS_SKIP:
        to = grad_D + head
        tl.store(to, total.to(grad_D.dtype.element_ty), mask=(head < H) & (which == 2))
