"""One frame through a whole mixer in Triton: three launches, each waiting for little but memory.

`enter_kernel` multiplies by in_proj, convolves and, for Mamba-1, multiplies by its block of x_proj;
the scan's kernel adds those parts up and moves the state on; `leave_kernel` multiplies by out_proj
and, for Mamba-2, divides by the norm. With one video the products are sums of a warp's own; with
several they run on tensor cores. Where videos are few, a launch may begin before the one ahead ends
(programmatic dependent launch, from Hopper on): it fetches its weights, then waits.
"""

# ruff: noqa: RUF005 (tuples in Triton know no star)

from typing import no_type_check

import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from vidmamba.kernels.jit import jit
from vidmamba.kernels.selective_scan.kernel import LOG2_E, exp2, sigmoid, softplus


@jit()
@no_type_check
def wait(EARLY: tl.constexpr):
    """Wait until the launch ahead has written all it writes; let the next one begin."""
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()


@jit()
@no_type_check
def load_weights(w, rows, k, R, K):
    """A tile of a (R, K) matrix."""
    return load_part(w, rows, 0, k, R, K, K)


@jit()
@no_type_check
def multiply(x, tile, VECTOR: tl.constexpr):
    """Rows of x (b, k) times rows of a tile (r, k): (b, r) in float32."""
    if VECTOR:
        return tl.sum(x.to(tl.float32) * tile.to(tl.float32), axis=1)[None, :]
    return tl.dot(x.to(tile.dtype), tl.trans(tile), input_precision="ieee")


@jit()
@no_type_check
def silu(x, NATIVE: tl.constexpr):
    """SiLU: x / (1 + exp(-x))."""
    return x * sigmoid(x, NATIVE)


@jit()
@no_type_check
def enter_kernel(
    x, w, taps, bias, conv, x_proj, mixed, parts, B, D, rows_in, first, C, Q,
    K: tl.constexpr, PARTS: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_R: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_Q: tl.constexpr, NATIVE: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """A block of in_proj's rows; C of them, from ``first`` on, are convolved and pass a SiLU.

    ``mixed`` (B, rows_in) takes the results; ``parts`` (C / BLOCK_R, B, Q), for Mamba-1, what each
    block of convolved channels adds to x_proj's outputs.
    """
    VECTOR: tl.constexpr = BLOCK_B == 1
    block, b = tl.program_id(0), tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)
    r = block * BLOCK_R + tl.arange(0, BLOCK_R)
    # weights are not fetched early here: the launch ahead is somebody else's, and may write them
    wait(EARLY)
    value = tl.zeros([BLOCK_B, BLOCK_R], tl.float32)
    for start in range(0, D, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        tile = load_weights(w, r, d, rows_in, D)
        value += multiply(load_weights(x, b, d, B, D), tile, VECTOR)
    c = r - first
    convolved = (c >= 0) & (c < C)
    here = (b < B)[:, None] & convolved[None, :]
    total = value * tl.load(taps + c * K + K - 1, mask=convolved, other=0.0).to(tl.float32)[None, :]
    total += tl.load(bias + c, mask=convolved, other=0.0).to(tl.float32)[None, :]
    p_old = conv + b[:, None].to(tl.int64) * (K - 1) * C + c[None, :]
    olds = ()
    for k in tl.static_range(K - 1):
        old = tl.load(p_old + k * C, mask=here, other=0.0)
        tap = tl.load(taps + c * K + k, mask=convolved, other=0.0).to(tl.float32)
        total += old.to(tl.float32) * tap[None, :]
        olds = olds + (old,)
    if K > 1:
        tl.debug_barrier()  # every warp reads all of a small tile: no write before the last read
        for k in tl.static_range(1, K - 1):
            tl.store(p_old + (k - 1) * C, olds[k], mask=here)
        tl.store(p_old + (K - 2) * C, value.to(conv.dtype.element_ty), mask=here)
    out = tl.where(convolved[None, :], silu(total, NATIVE), value)
    real = (b < B)[:, None] & (r < rows_in)[None, :]
    tl.store(mixed + b[:, None].to(tl.int64) * rows_in + r[None, :], out, mask=real)
    if PARTS:  # noqa: SIM102 (known when compiled; the other is not)
        if block * BLOCK_R < C:
            q = tl.arange(0, BLOCK_Q)
            out = tl.where(convolved[None, :], out, 0.0)
            part = multiply(out, load_weights(x_proj, q, r, Q, C), VECTOR)
            p_part = parts + (block * B + b[:, None]) * Q + q[None, :]
            tl.store(p_part, part, mask=(b < B)[:, None] & (q < Q)[None, :])


@jit()
@no_type_check
def add_parts(parts, video, B, Q, count, q, wanted, BLOCK_P: tl.constexpr):
    """The sum over ``count`` blocks of x_proj's outputs q for one video, in a fixed order."""
    total = tl.zeros([q.shape[0]], tl.float32)
    for start in range(0, count, BLOCK_P):
        p = start + tl.arange(0, BLOCK_P)
        here = (p < count)[:, None] & wanted[None, :]
        tile = tl.load(parts + (p[:, None] * B + video) * Q + q[None, :], mask=here, other=0.0)
        total += tl.sum(tile, axis=0)
    return total


@jit()
@no_type_check
def mamba1_scan_kernel(
    mixed, parts, w_dt, dt_bias, A_log, skip, scan, y, B, E, N, R, Q, count,
    BLOCK_E: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_P: tl.constexpr,
    NATIVE: tl.constexpr, PRECISE: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """One video and a block of channels: the step size, the state moved on, skip and gate."""
    video = tl.program_id(1)
    d = tl.program_id(0) * BLOCK_E + tl.arange(0, BLOCK_E)
    n, r = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_R)
    real = d < E
    here = real[:, None] & (n < N)[None, :]
    p_state = scan + video.to(tl.int64) * E * N + d[:, None] * N + n[None, :]
    h = tl.load(p_state, mask=here, other=0.0)
    rate = tl.load(A_log + d[:, None] * N + n[None, :], mask=here, other=0.0).to(tl.float32)
    rate = -exp2(rate * LOG2_E, NATIVE) * LOG2_E
    tile = load_weights(w_dt, d, r, E, R)
    shift = tl.load(dt_bias + d, mask=real, other=0.0).to(tl.float32)
    through = tl.load(skip + d, mask=real, other=0.0).to(tl.float32)
    wait(EARLY)
    low = add_parts(parts, video, B, Q, count, r, r < R, BLOCK_P)
    gain = add_parts(parts, video, B, Q, count, R + n, n < N, BLOCK_P)
    look = add_parts(parts, video, B, Q, count, R + N + n, n < N, BLOCK_P)
    value = tl.load(mixed + video * 2 * E + d, mask=real, other=0.0)
    gate = tl.load(mixed + video * 2 * E + E + d, mask=real, other=0.0)
    size = tl.sum(tile.to(tl.float32) * low[None, :], axis=1) + shift
    size = softplus(size, NATIVE, PRECISE)
    h = h * exp2(size[:, None] * rate, NATIVE) + (size * value)[:, None] * gain[None, :]
    out = tl.sum(h * look[None, :], axis=1) + value * through
    out *= silu(gate, NATIVE)
    tl.store(y + video * E + d, out.to(y.dtype.element_ty), mask=real)
    tl.store(p_state, h, mask=here)


@jit()
@no_type_check
def mamba2_scan_kernel(
    mixed, dt_bias, A_log, skip, norm, scan, y, squares, rows_in, H, P, N, heads_a_group, groups,
    blocks, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr,
    NATIVE: tl.constexpr, PRECISE: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """One video and a block of a head's channels; ``mixed`` holds gate, value, B, C and steps.

    ``y`` takes the outputs times the norm's weights, ``squares`` what each block adds to the sum of
    squares that the norm divides by.
    """
    video, head = tl.program_id(1), tl.program_id(0) // blocks
    p = tl.program_id(0) % blocks * BLOCK_P + tl.arange(0, BLOCK_P)
    n = tl.arange(0, BLOCK_N)
    here = (p < P)[:, None] & (n < N)[None, :]
    p_state = scan + ((video.to(tl.int64) * H + head) * P + p[:, None]) * N + n[None, :]
    h = tl.load(p_state, mask=here, other=0.0)
    rate = -exp2(tl.load(A_log + head).to(tl.float32) * LOG2_E, NATIVE) * LOG2_E
    shift, through = tl.load(dt_bias + head).to(tl.float32), tl.load(skip + head).to(tl.float32)
    d = head * P + p
    weight = tl.load(norm + d, mask=p < P, other=0.0).to(tl.float32)
    wait(EARLY)
    E, row = H * P, mixed + video.to(tl.int64) * rows_in
    gate = tl.load(row + d, mask=p < P, other=0.0)
    value = tl.load(row + E + d, mask=p < P, other=0.0)
    shared = row + 2 * E + head // heads_a_group * N + n
    gain = tl.load(shared, mask=n < N, other=0.0)
    look = tl.load(shared + groups * N, mask=n < N, other=0.0)
    size = softplus(tl.load(row + 2 * E + 2 * groups * N + head) + shift, NATIVE, PRECISE)
    h = h * exp2(size * rate, NATIVE) + (size * value)[:, None] * gain[None, :]
    out = tl.sum(h * look[None, :], axis=1) + value * through
    out *= silu(gate, NATIVE)
    square = tl.sum(tl.where(p < P, out * out, 0.0), axis=0)
    tl.store(squares + video * H * blocks + tl.program_id(0), square)
    tl.store(y + video * E + d, (out * weight).to(y.dtype.element_ty), mask=p < P)
    tl.store(p_state, h, mask=here)


@jit()
@no_type_check
def load_part(x, rows, first, k, R, K, size):
    """A tile of a (R, K) matrix's columns ``first + k``, of which there are ``size``."""
    here = (rows < R)[:, None] & (k < size)[None, :]
    return tl.load(x + rows[:, None] * K + first + k[None, :], mask=here, other=0.0)


@jit()
@no_type_check
def leave_kernel(
    y, w, squares, out, B, E, D, parts, eps,
    GROUPS: tl.constexpr, NORM: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_E: tl.constexpr, BLOCK_S: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """A block of out_proj's rows, after the norm of each of the groups that share E.

    A group's mean square is made of ``parts`` sums.
    """
    VECTOR: tl.constexpr = BLOCK_B == 1
    b = tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)
    r = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    size, e, s = E // GROUPS, tl.arange(0, BLOCK_E), tl.arange(0, BLOCK_S)
    tiles = ()
    if VECTOR:  # a group is one tile, fetched before what it waits for
        for g in tl.static_range(GROUPS):
            tiles = tiles + (load_part(w, r, g * size, e, D, E, size),)
    wait(EARLY)
    total = tl.zeros([BLOCK_B, BLOCK_D], tl.float32)
    for g in tl.static_range(GROUPS):
        product = tl.zeros([BLOCK_B, BLOCK_D], tl.float32)
        if VECTOR:
            product = multiply(load_part(y, b, g * size, e, B, E, size), tiles[g], VECTOR)
        else:
            for start in range(0, size, BLOCK_E):
                values = load_part(y, b, g * size, start + e, B, E, size)
                tile = load_part(w, r, g * size, start + e, D, E, size)
                product += multiply(values, tile, VECTOR)
        if NORM:
            sums = load_part(squares, b, g * parts, s, B, GROUPS * parts, parts)
            product *= tl.rsqrt(tl.sum(sums, axis=1) / size + eps)[:, None]
        total += product
    here = (b < B)[:, None] & (r < D)[None, :]
    tl.store(out + b[:, None] * D + r[None, :], total.to(out.dtype.element_ty), mask=here)
