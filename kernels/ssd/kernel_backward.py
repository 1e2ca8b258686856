"""The backward Mamba-2 scan in Triton: gradients of frames, of scores, of the projections.

The gradients of the states come from `walk_kernel`, run against time, and those of the gate from
`outputs_kernel`. The formulas stand in kernels/README.md.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import LOG2_E, exp2, exp2m1
from vidmamba.kernels.ssd.kernel_tiles import (
    add_product,
    decays,
    decays_transposed,
    halve_rows,
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
    score,
    store_frames,
)


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

    Those of x may take the place of those seen. What dt needs is, for every frame, x . du, the
    part of it that comes through the state that leaves the chunk, and dy . x; and over the states
    g . h, g the gradient of that state, h the one entering.
    """
    chunk = tl.program_id(0)
    row, count, _, _, _ = locate(chunk, table, T, chunks_a_video, L, REVERSE, PACKED)
    group = tl.program_id(1) * heads_a_program // (H // G)
    SUB: tl.constexpr = L // 2
    t, p = tl.arange(0, SUB), tl.arange(0, BP)
    c0, b0, c_scale0, b_scale0 = load_half(rows, row_scales, chunk, chunks, group, t, G, L, BN)
    c1, b1, c_scale1, b_scale1 = load_half(
        rows, row_scales, chunk, chunks, group, t + SUB, G, L, BN
    )
    scores00, scale00 = score(b0, c0, b_scale0, c_scale0, HALF)
    scores01, scale01 = score(b0, c1, b_scale0, c_scale1, HALF)
    scores11, scale11 = score(b1, c1, b_scale1, c_scale1, HALF)
    for i in range(0, heads_a_program):
        head = tl.program_id(1) * heads_a_program + i
        at = chunk.to(tl.int64) * H + head
        p_log, p_step, p_sums = sums + at * L + t, steps + at * L + t, row_sums + at * (3 * L) + t
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
        weight = scores11.to(tl.float32) * decays_transposed(log, NATIVE, SUB)
        x_grad += product(operand(weight, HALF), seen1) * (scale11 * seen_scale1)
        tl.store(p_sums + SUB, tl.sum(value * x_grad, axis=1))
        skip = tl.sum(seen1.to(tl.float32) * value, axis=1)
        tl.store(p_sums + 2 * L + SUB, skip * seen_scale1)
        x_grad *= step[:, None]
        if HAS_SKIP:
            x_grad += (tl.load(D + head).to(tl.float32) * seen_scale1) * seen1.to(tl.float32)
        store_frames(grad_x + head * P, x_grad, row, t + SUB, count, H * P, P, BP, REVERSE)

        # the earlier half
        seen0, seen_scale0 = load_seen(
            seen, seen_scales + at * 2, head, 0, row, t, count, H * P, P, BP, REVERSE, HALF
        )
        value = load_frames(x + head * P, row, t, count, H * P, P, BP, REVERSE).to(tl.float32)
        weight = scores01.to(tl.float32) * exp2(log - middle, NATIVE)[None, :]
        log, step = tl.load(p_log), tl.load(p_step)
        x_grad = product(b0, tl.trans(g)) * (exp2(end - middle, NATIVE) * scale * b_scale0)[:, None]
        inside = product(operand(weight, HALF), seen1) * (scale01 * seen_scale1)
        until = exp2(middle - log, NATIVE)
        tl.store(p_sums + L, until * tl.sum(value * x_grad, axis=1))
        x_grad = (x_grad + inside) * until[:, None]
        weight = scores00.to(tl.float32) * decays_transposed(log, NATIVE, SUB)
        x_grad += product(operand(weight, HALF), seen0) * (scale00 * seen_scale0)
        tl.store(p_sums, tl.sum(value * x_grad, axis=1))
        skip = tl.sum(seen0.to(tl.float32) * value, axis=1)
        tl.store(p_sums + 2 * L, skip * seen_scale0)
        x_grad *= step[:, None]
        if HAS_SKIP:
            x_grad += (tl.load(D + head).to(tl.float32) * seen_scale0) * seen0.to(tl.float32)
        store_frames(grad_x + head * P, x_grad, row, t, count, H * P, P, BP, REVERSE)


@jit
def step_grads_kernel(
    A, steps, sums, slopes, row_sums, state_sums, grad_dt, parts,
    table, T, chunks_a_video, chunks, H, P: tl.constexpr, SOFTPLUS: tl.constexpr,
    NATIVE: tl.constexpr, REVERSE: tl.constexpr, PACKED: tl.constexpr,
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
    thrice = at[None, :] * (3 * L) + t[:, None]
    slope = tl.load(row_sums + thrice, mask=here, other=0.0)
    through = tl.sum(step * tl.load(row_sums + thrice + L, mask=here, other=0.0), axis=0)
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
    skipped = tl.load(row_sums + thrice + 2 * L, mask=here, other=0.0)
    p_parts, total = parts + at, chunks.to(tl.int64) * H
    tl.store(p_parts, tl.sum(log_grad * step, axis=0), mask=real)
    tl.store(p_parts + total, tl.sum(skipped, axis=0), mask=real)
    tl.store(p_parts + 2 * total, tl.sum(grad, axis=0), mask=real)


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
    for i in range(0, heads_a_program):
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
        total00 += pairs * decays(log, NATIVE, SUB) * (scale0 * step)[None, :]
        until = exp2(middle - log, NATIVE) * step
        log, step = tl.load(p_log + SUB), tl.load(p_step + SUB) * x_scale1
        pairs = product(seen1, tl.trans(x0))
        total10 += pairs * (scale1 * exp2(log - middle, NATIVE))[:, None] * until[None, :]
        pairs = product(seen1, tl.trans(x1))
        total11 += pairs * decays(log, NATIVE, SUB) * (scale1 * step)[None, :]
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
    for i in range(0, H // G):
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
