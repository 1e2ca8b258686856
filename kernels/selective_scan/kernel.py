"""What the selective scan's kernels in Triton share, and the chaining of chunks.

A program is one warp: a chunk of frames and a block of channels. A lane holds a channel with all
its states in registers and walks the frames, so that nothing but inputs and outputs moves.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import inspect
from typing import Any

import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from vidmamba.kernels.jit import jit as triton_jit
from vidmamba.kernels.selective_scan.checks import CUDA_SEGMENT
from vidmamba.kernels.selective_scan.kernel_memory import load, load_always, store

# sizes that a kernel is not compiled anew for. Unknown divisors also keep Triton from wide loads of
# a lane, which would spread a tile's frames or a channel's states over lanes
LOOSE = {"T", "D", "channels", "frames", "width", "state_width", "end_plane"}
LOOSE |= {"chunks", "chunks_a_video", "span", "segments", "segments_a_video", "slots", "blocks"}
LOOSE |= {"per", "columns", "num_counters", "scratch_size", "rate_programs", "total_programs"}


def jit(function: Any) -> Any:
    """Compile with Triton, not anew for other loose sizes."""
    names = inspect.signature(inspect.unwrap(function)).parameters
    return triton_jit(do_not_specialize=[name for name in names if name in LOOSE])(function)


LOG2_E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
SEGMENT = tl.constexpr(CUDA_SEGMENT)  # frames of a segment, at most


@jit
def wait(EARLY: tl.constexpr):
    """Wait until the launch ahead has written all it writes; let the next one begin."""
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()


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
def log1p(e, PRECISE: tl.constexpr):
    """log(1 + e) for e from 0 to 1: polynomials of least relative error, 3e-8 or 1.4e-6."""
    if PRECISE:
        p = 0.07822594 + e * (-0.029505232 + e * 0.0052326927)
        p = -0.24842982 + e * (0.19106006 + e * (-0.13663244 + e * p))
        p = 0.99999994 + e * (-0.49999493 + e * (0.33319098 + e * p))
    else:
        p = 0.14922388 + e * (-0.0664018 + e * 0.014141024)
        p = 0.3310945 + e * (-0.2350386 + e * p)
        p = 0.99999875 + e * (-0.49986964 + e * p)
    return e * p


@jit
def softplus(x, NATIVE: tl.constexpr, PRECISE: tl.constexpr):
    """log(1 + exp(x)), to 1e-7 or 1.4e-6 of itself however small it is."""
    return tl.maximum(x, 0.0) + log1p(exp2(tl.abs(x) * -LOG2_E, NATIVE), PRECISE)


@jit
def softplus_and_slope(x, NATIVE: tl.constexpr, PRECISE: tl.constexpr):
    """The same and its derivative, from one exponential."""
    e = exp2(tl.abs(x) * -LOG2_E, NATIVE)
    slope = tl.where(x < 0.0, e, 1.0) * reciprocal(1.0 + e, NATIVE)
    return tl.maximum(x, 0.0) + log1p(e, PRECISE), slope


@jit
def chain(decay_left, h_left, decay_right, h_right):
    """Chain two steps h -> decay h + gain."""
    return decay_left * decay_right, h_left * decay_right + h_right


@jit
def chain_precise(m_left, h_left, m_right, h_right):
    """The same for decays minus one."""
    return m_left + m_right + m_left * m_right, (h_left * m_right + h_right) + h_left


@jit
def by_lanes(offset, NATIVE: tl.constexpr):
    """The offset itself, which the compiler cannot know to be one for all lanes.

    Addresses that it knows to be shared it holds apart and copies for every load.
    """
    if NATIVE:
        offset += 16 * tl.inline_asm_elementwise(
            "mov.u32 $0, %laneid; shr.u32 $0, $0, 5;", "=r,r", [offset], dtype=tl.int32,
            is_pure=True, pack=1,
        )  # fmt: skip
    return offset


@jit
def row_of(x, rows, row):
    """One row of a tile; zeros are added to bits, which the compiler leaves out."""
    bits = tl.where(rows[:, None] == row, x.to(tl.int32, bitcast=True), 0)
    return tl.sum(bits, axis=0).to(tl.float32, bitcast=True)


@jit
def add_up(x, before):
    """The sum over a tile's rows and a number before them, as (1, columns), by fused additions."""
    first = tl.arange(0, x.shape[0])[:, None] == 0
    return tl.sum(tl.where(first, x + before[None, :], x), axis=0)[None, :]


@jit
def locate(
    chunk, table, T, chunks_a_video, frames, REVERSE: tl.constexpr, PACKED: tl.constexpr
):  # fmt: skip
    """A chunk's first row in the order of the scan, and how many frames it has."""
    if PACKED:
        return tl.load(table + chunk * 2).to(tl.int64), tl.load(table + chunk * 2 + 1)
    # int64: ten hours of video at 30 fps and width 2048 pass 2**31 elements
    video = (chunk // chunks_a_video).to(tl.int64)
    first = chunk % chunks_a_video * frames
    if REVERSE:
        return video * T + (T - 1 - first), tl.minimum(frames, T - first)
    return video * T + first, tl.minimum(frames, T - first)


@jit
def place(first, i, count, d, D, REVERSE: tl.constexpr, WHOLE: tl.constexpr):
    """Offsets of the tile of frames first + i from the chunk's first; outside it, of one inside."""
    if WHOLE:
        t = tl.maximum(tl.minimum(first, count - i.shape[0]), 0) + i
    else:
        t = tl.maximum(tl.minimum(first + i, count - 1), 0)
    return (-t if REVERSE else t)[:, None] * D + d[None, :]


@jit
def are_inside(first, i, count, WHOLE: tl.constexpr):
    """Which frames of a tile a chunk has, as (frames, 1): all of them, if its tiles are whole."""
    return (i >= 0 if WHOLE else first + i < count)[:, None]


@jit
def load_raw(p, at, real, EVEN: tl.constexpr, NATIVE: tl.constexpr):
    """A tile as it is stored; unmasked where the width is whole blocks."""
    return load_always(p, at, NATIVE) if EVEN else load(p, at, real[None, :], NATIVE)


@jit
def sized(raw, shift, there, SOFTPLUS: tl.constexpr, NATIVE: tl.constexpr, PRECISE: tl.constexpr):
    """Step sizes, zero where no frame is: there, nothing changes."""
    step = raw + shift[None, :]
    if SOFTPLUS:
        step = softplus(step, NATIVE, PRECISE)
    return tl.where(there, step, 0.0)


@jit
def load_row(p, d, real, GIVEN: tl.constexpr, NATIVE: tl.constexpr = False):
    """A parameter of every channel, zero if there is none."""
    if GIVEN:
        return load(p, d, real, NATIVE).to(tl.float32)
    return d * 0.0


@jit
def load_states(p, n, d, width, N: tl.constexpr, ROWS: tl.constexpr, NATIVE: tl.constexpr):
    """A chunk's states or rates of a block of channels as (ROWS, BLOCK), zero from N on."""
    at = n[:, None] * width + d[None, :]
    return load_always(p, at, NATIVE) if ROWS == N else load(p, at, n[:, None] < N, NATIVE)


@jit
def store_states(p, x, n, d, width, N: tl.constexpr, NATIVE: tl.constexpr):
    """The opposite of `load_states`."""
    store(p, n[:, None] * width + d[None, :], x, n[:, None] < N, NATIVE)


@jit
def find_kept(
    states, video, segment, segments, d, width, N: tl.constexpr, REVERSE: tl.constexpr
):  # fmt: skip
    """Where the state before a segment is kept, and the columns of its rows for channels d.

    Of every row of 32 channels, halves lie apart, and segments in the order of the frames: so of
    16 states of float32, a block of channels has the very bytes that gradients of half precision
    have in a segment of 32 frames, and these can be written over them.
    """
    at = video * segments + (segments - 1 - segment if REVERSE else segment)
    columns = d // 32 * 16 + d % 16 + d % 32 // 16 * (width // 2)
    return states + at.to(tl.int64) * N * width, columns


@jit
def advance(h, rate, step, x, gain, NATIVE: tl.constexpr, PRECISE: tl.constexpr):
    """The states (ROWS, BLOCK) one frame on, from its step and input (BLOCK,) and B (ROWS, 1)."""
    exponent = step[None, :] * rate
    source = x[None, :] * gain
    if PRECISE:
        return h + (exp2m1(exponent, NATIVE) * h + source)
    return exp2(exponent, NATIVE) * h + source


@jit
def combine_kernel(
    ends, sums, a, initial, final, first_chunks, D, channels, columns, chunks_a_video, N,
    end_plane,
    HAS_INITIAL: tl.constexpr, LATEST_FIRST: tl.constexpr, PACKED: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr, NATIVE: tl.constexpr, PRECISE: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    """Chain the chunks of a video: write the state before each chunk and, (D, N), after the last.

    The states take the place of what the chunks add to them, which is read a tile ahead.

    Latest first, the same arithmetic carries the gradients backwards.
    """
    wait(EARLY)
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
    p_ends = ends + (n * columns + d)[None, :]
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
            p_ends + c[:, None] * end_plane, tl.where(start, h[None, :], 0.0), mask=here & start
        )
        following = c + (-1 if LATEST_FIRST else 1)
        inside = here & (i < TILE - 1)[:, None] & (tile + i + 1 < count)[:, None]
        tl.store(p_ends + following[:, None] * end_plane, after, mask=inside)
        h = row_of(after, i, TILE - 1)
        c, here, end, step = c_ahead, here_ahead, end_ahead, step_ahead
    tl.store(final + (video * D + d) * N + n, h, mask=d < channels)


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
