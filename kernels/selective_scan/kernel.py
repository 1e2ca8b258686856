"""The forward selective scan in Triton: chunk ends, combine, outputs.

A program is one warp: a chunk of frames and a block of channels. A lane holds a channel or two with
all their states in registers and walks the frames, so that nothing but inputs and outputs moves.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import inspect
from typing import Any

import triton.language as tl

from vidmamba.kernels.jit import jit as triton_jit

# sizes that a kernel is not compiled anew for. Unknown divisors also keep Triton from wide loads of
# a lane, which would spread a tile's frames or a channel's states over lanes
LOOSE = {"T", "D", "chunks_a_video", "chunks", "groups", "blocks", "columns"}
LOOSE |= {"end_plane", "state_plane", "width", "slot_width"}


def jit(function: Any) -> Any:
    """Compile with Triton, not anew for other loose sizes."""
    names = inspect.signature(inspect.unwrap(function)).parameters
    return triton_jit(do_not_specialize=[name for name in names if name in LOOSE])(function)


LOG2_E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@jit
def exp2(x, NATIVE: tl.constexpr):
    """2**x in one instruction where there is one."""
    if NATIVE:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    return tl.exp2(x)


@jit
def exp2m1(x, NATIVE: tl.constexpr):
    """2**x - 1 to float32's relative rounding near zero too: Taylor's series up to 1/4."""
    y = x * LN2
    p = 1.0 + y * (1.0 / 8)
    p = 1.0 + y * p * (1.0 / 7)
    p = 1.0 + y * p * (1.0 / 6)
    p = 1.0 + y * p * (1.0 / 5)
    p = 1.0 + y * p * (1.0 / 4)
    p = 1.0 + y * p * (1.0 / 3)
    p = 1.0 + y * p * (1.0 / 2)
    return tl.where(tl.abs(x) < 0.25, y * p, exp2(x, NATIVE) - 1.0)


@jit
def log2(x, NATIVE: tl.constexpr):
    """The binary logarithm, to about 1e-7 absolutely, in one instruction where there is one."""
    if NATIVE:
        return tl.inline_asm_elementwise(
            "lg2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    return tl.log2(x)


@jit
def reciprocal(x, NATIVE: tl.constexpr):
    """1 / x to two roundings, in one instruction where there is one."""
    if NATIVE:
        return tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    return 1.0 / x


@jit
def sigmoid(x, NATIVE: tl.constexpr):
    """1 / (1 + exp(-x))."""
    return reciprocal(1.0 + exp2(x * -LOG2_E, NATIVE), NATIVE)


@jit
def softplus(x, NATIVE: tl.constexpr, PRECISE: tl.constexpr):
    """log(1 + exp(x)); relative to a small result to 1e-6 if precise, else to 3e-5."""
    e = exp2(tl.abs(x) * -LOG2_E, NATIVE)
    if PRECISE:
        # log1p(e) = 2 atanh(e / (2 + e)), whose argument is at most 1/3
        s = e * reciprocal(2.0 + e, NATIVE)
        q = s * s
        p = 1.0 / 13 + q * (1.0 / 15 + q * (1.0 / 17))
        p = 1.0 / 5 + q * (1.0 / 7 + q * (1.0 / 9 + q * (1.0 / 11 + q * p)))
        log1p = 2.0 * s * (1.0 + q * (1.0 / 3 + q * p))
    else:
        series = e * (1.0 - e * (0.5 - e * (1.0 / 3)))
        log1p = tl.where(e < 1e-2, series, log2(1.0 + e, NATIVE) * LN2)
    return tl.maximum(x, 0.0) + log1p


@jit
def chain(decay_left, h_left, decay_right, h_right):
    """Chain two steps h -> decay h + gain."""
    return decay_left * decay_right, h_left * decay_right + h_right


@jit
def chain_precise(m_left, h_left, m_right, h_right):
    """The same for decays minus one."""
    return m_left + m_right + m_left * m_right, (h_left * m_right + h_right) + h_left


@jit
def row_of(x, rows, row):
    """One row of a tile; adding -0.0 is free, so this costs no instruction."""
    return tl.sum(tl.where(rows[:, None] == row, x, -0.0), axis=0)


@jit
def locate(
    chunk, table, T, chunks_a_video, FRAMES: tl.constexpr, REVERSE: tl.constexpr,
    PACKED: tl.constexpr,
):  # fmt: skip
    """A chunk's first row in the order of the scan, and how many frames it has."""
    if PACKED:
        return tl.load(table + chunk * 2).to(tl.int64), tl.load(table + chunk * 2 + 1)
    # int64: ten hours of video at 30 fps and width 2048 pass 2**31 elements
    video = (chunk // chunks_a_video).to(tl.int64)
    first = chunk % chunks_a_video * FRAMES
    if REVERSE:
        return video * T + (T - 1 - first), tl.minimum(FRAMES, T - first)
    return video * T + first, tl.minimum(FRAMES, T - first)


@jit
def place(t, count, d, D, REVERSE: tl.constexpr):
    """Offsets of a tile from the chunk's first frame; past the last frame, its own again."""
    t = tl.minimum(t, count - 1)
    return (-t if REVERSE else t)[:, None] * D + d[None, :]


@jit
def load(p, at, real, EVEN: tl.constexpr):
    """A tile as float32; unmasked where the width is whole blocks."""
    if EVEN:
        return tl.load(p + at).to(tl.float32)
    return tl.load(p + at, mask=real[None, :], other=0.0).to(tl.float32)


@jit
def sized(
    raw, shift, t, count, SOFTPLUS: tl.constexpr, NATIVE: tl.constexpr, PRECISE: tl.constexpr
):  # fmt: skip
    """Step sizes, zero past the last frame: such frames change nothing."""
    step = raw + shift[None, :]
    if SOFTPLUS:
        step = softplus(step, NATIVE, PRECISE)
    return tl.where((t < count)[:, None], step, 0.0)


@jit
def load_row(p, d, real, GIVEN: tl.constexpr):
    """A parameter of every channel, zero if there is none."""
    if GIVEN:
        return tl.load(p + d, mask=real, other=0.0).to(tl.float32)
    return d * 0.0


@jit
def rates_kernel(A, a, D, width, N, BLOCK: tl.constexpr):
    """Write log2(e) A as (N, width)."""
    d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    n = tl.program_id(1)
    rate = tl.load(A + d * N + n, mask=d < D, other=0.0).to(tl.float32)
    tl.store(a + n * width + d, rate * LOG2_E, mask=d < width)


@jit
def projections_kernel(
    B, C, out, table, T, chunks_a_video, chunks, N,
    REVERSE: tl.constexpr, PACKED: tl.constexpr, FRAMES: tl.constexpr, BLOCK_N: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Write B and C as float32 (2, chunks, FRAMES, ROWS), in the scan's order.

    Zero where no frame is and from N to ROWS, so that the scans need no masks.
    """
    chunk = tl.program_id(0)
    row, count = locate(chunk, table, T, chunks_a_video, FRAMES, REVERSE, PACKED)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    t = tl.arange(0, FRAMES)
    at = (-t if REVERSE else t)[:, None] * N + n[None, :]
    here = (t < count)[:, None] & (n < N)[None, :]
    to = chunk.to(tl.int64) * FRAMES * ROWS + n[None, :] + (t * ROWS)[:, None]
    b = tl.load(B + row * N + at, mask=here, other=0.0).to(tl.float32)
    tl.store(out + to, b)
    c = tl.load(C + row * N + at, mask=here, other=0.0).to(tl.float32)
    tl.store(out + chunks.to(tl.int64) * FRAMES * ROWS + to, c)


@jit
def load_states(p, n, d, width, N: tl.constexpr, ROWS: tl.constexpr):
    """A chunk's states or rates of a block of channels as (ROWS, BLOCK), zero from N on."""
    at = n[:, None] * width + d[None, :]
    if ROWS == N:
        return tl.load(p + at)
    return tl.load(p + at, mask=(n < N)[:, None] & (d >= 0)[None, :], other=0.0)


@jit
def store_states(p, x, n, d, width, N: tl.constexpr, ROWS: tl.constexpr):
    """The opposite of `load_states`."""
    at = n[:, None] * width + d[None, :]
    if ROWS == N:
        tl.store(p + at, x)
    else:
        tl.store(p + at, x, mask=(n < N)[:, None] & (d >= 0)[None, :])


@jit
def advance(h, rate, step, x, gain, NATIVE: tl.constexpr, PRECISE: tl.constexpr):
    """The states (ROWS, BLOCK) one frame on, from its step and input (BLOCK,) and B (ROWS,)."""
    exponent = step[None, :] * rate
    source = x[None, :] * gain[:, None]
    if PRECISE:
        return h + (exp2m1(exponent, NATIVE) * h + source)
    return exp2(exponent, NATIVE) * h + source


@jit
def chunk_ends_kernel(
    u, delta, a, B, bias, ends, sums, table, T, D, width, chunks_a_video, N: tl.constexpr, blocks,
    HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, PACKED: tl.constexpr,
    EVEN: tl.constexpr, FRAMES: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
    ROWS: tl.constexpr, NATIVE: tl.constexpr, PRECISE: tl.constexpr,
):  # fmt: skip
    """Write each chunk's end state if it began at zero, and the sum of its steps."""
    chunk = tl.program_id(0) // blocks
    d = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    real = d < D
    row, count = locate(chunk, table, T, chunks_a_video, FRAMES, REVERSE, PACKED)
    if count <= 0:
        return
    i, n = tl.arange(0, TILE), tl.arange(0, ROWS)
    p_u, p_delta = u + row * D, delta + row * D
    p_B = B + chunk.to(tl.int64) * FRAMES * ROWS + n
    shift = load_row(bias, d, real, HAS_BIAS)
    rate = load_states(a, n, d, width, N, ROWS)
    h = rate * 0.0
    total = d * 0.0
    for tile in range(0, count, TILE):
        t = tile + i
        at = place(t, count, d, D, REVERSE)
        raw = load(p_delta, at, real, EVEN)
        value = load(p_u, at, real, EVEN)
        step = sized(raw, shift, t, count, SOFTPLUS, NATIVE, PRECISE)
        x = value * step
        total += tl.sum(step, axis=0)
        for r in tl.static_range(TILE):
            gain = tl.load(p_B + (tile + r) * ROWS)
            h = advance(h, rate, row_of(step, i, r), row_of(x, i, r), gain, NATIVE, PRECISE)
    store_states(ends + chunk.to(tl.int64) * N * width, h, n, d, width, N, ROWS)
    tl.store(sums + chunk.to(tl.int64) * width + d, total)


@jit
def combine_kernel(
    ends, sums, a, initial, states, final, first_chunks, columns, chunks_a_video, N, end_plane,
    state_plane,
    HAS_INITIAL: tl.constexpr, LATEST_FIRST: tl.constexpr, PACKED: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr, NATIVE: tl.constexpr, PRECISE: tl.constexpr,
):  # fmt: skip
    """Chain the chunks of a video: write the state before each chunk and after the last.

    Latest first, the same arithmetic carries the gradients backwards.
    """
    blocks = tl.cdiv(columns, BLOCK)
    video, n = (tl.program_id(0) // blocks).to(tl.int64), tl.program_id(1)
    d = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    real = d < columns
    if PACKED:
        first = tl.load(first_chunks + video)
        count = tl.load(first_chunks + video + 1) - first
    else:
        first, count = video * chunks_a_video, chunks_a_video
    rate = tl.load(a + n * columns + d, mask=real, other=0.0)
    h = d * 0.0
    if HAS_INITIAL:
        h += tl.load(initial + (video * N + n) * columns + d, mask=real, other=0.0)
    i = tl.arange(0, TILE)
    p_ends, p_states = ends + (n * columns + d)[None, :], states + (n * columns + d)[None, :]
    start = (i == 0)[:, None]
    c = first.to(tl.int64) + (count - 1 - i if LATEST_FIRST else i)
    here = (i < count)[:, None] & real[None, :]
    end = tl.load(p_ends + c[:, None] * end_plane, mask=here, other=0.0)
    step = tl.load(sums + c[:, None] * columns + d[None, :], mask=here, other=0.0)
    for tile in range(0, count, TILE):
        # the next chunks are read before these are chained, which hides the wait
        c_ahead = c + (-TILE if LATEST_FIRST else TILE)
        here_ahead = (tile + TILE + i < count)[:, None] & real[None, :]
        end_ahead = tl.load(p_ends + c_ahead[:, None] * end_plane, mask=here_ahead, other=0.0)
        step_ahead = tl.load(
            sums + c_ahead[:, None] * columns + d[None, :], mask=here_ahead, other=0.0
        )
        after = scan_tile(h, step * rate[None, :], end, i, NATIVE, PRECISE)
        tl.store(
            p_states + c[:, None] * state_plane, tl.where(start, h[None, :], 0.0), mask=here & start
        )
        following = c + (-1 if LATEST_FIRST else 1)
        inside = here & (i < TILE - 1)[:, None] & (tile + i + 1 < count)[:, None]
        tl.store(p_states + following[:, None] * state_plane, after, mask=inside)
        h = row_of(after, i, TILE - 1)
        c, here, end, step = c_ahead, here_ahead, end_ahead, step_ahead
    tl.store(final + (video * N + n) * columns + d, h, mask=real)


@jit
def outputs_kernel(
    u, delta, a, B, C, skip, z, bias, states, y, table, T, D, width, chunks_a_video,
    N: tl.constexpr, blocks,
    HAS_SKIP: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr, PACKED: tl.constexpr, EVEN: tl.constexpr, FRAMES: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
    NATIVE: tl.constexpr, PRECISE: tl.constexpr,
):  # fmt: skip
    """Walk each chunk from the state before it, and write the outputs."""
    chunk = tl.program_id(0) // blocks
    d = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    real = d < D
    row, count = locate(chunk, table, T, chunks_a_video, FRAMES, REVERSE, PACKED)
    if count <= 0:
        return
    i, n = tl.arange(0, TILE), tl.arange(0, ROWS)
    p_u, p_delta, p_z, p_y = u + row * D, delta + row * D, z + row * D, y + row * D
    projection = chunk.to(tl.int64) * FRAMES * ROWS
    p_B, p_C = B + projection + n, C + projection + n
    shift = load_row(bias, d, real, HAS_BIAS)
    through = load_row(skip, d, real, HAS_SKIP)
    rate = load_states(a, n, d, width, N, ROWS)
    h = load_states(states + chunk.to(tl.int64) * N * width, n, d, width, N, ROWS)
    for tile in range(0, count, TILE):
        t = tile + i
        at = place(t, count, d, D, REVERSE)
        raw = load(p_delta, at, real, EVEN)
        value = load(p_u, at, real, EVEN)
        step = sized(raw, shift, t, count, SOFTPLUS, NATIVE, PRECISE)
        x = value * step
        out = value * through[None, :]
        for r in tl.static_range(TILE):
            gain, look = tl.load(p_B + (tile + r) * ROWS), tl.load(p_C + (tile + r) * ROWS)
            h = advance(h, rate, row_of(step, i, r), row_of(x, i, r), gain, NATIVE, PRECISE)
            seen = tl.sum(h * look[:, None], axis=0)
            out += tl.where((i == r)[:, None], seen[None, :], -0.0)
        if HAS_Z:
            gate = load(p_z, at, real, EVEN)
            out *= gate * sigmoid(gate, NATIVE)
        tl.store(p_y + at, out.to(y.dtype.element_ty), mask=(t < count)[:, None] & real[None, :])


@jit
def scan_tile(h, exponent, gain, i, NATIVE: tl.constexpr, PRECISE: tl.constexpr):
    """All of a tile's states, from the one before it."""
    start = (i == 0)[:, None]
    before = h[None, :]
    if PRECISE:
        m = exp2m1(exponent, NATIVE)
        gain = tl.where(start, gain + (m * before + before), gain)
        _, states = tl.associative_scan((m, gain), 0, chain_precise)
    else:
        decay = exp2(exponent, NATIVE)
        gain = tl.where(start, gain + decay * before, gain)
        _, states = tl.associative_scan((decay, gain), 0, chain)
    return states
