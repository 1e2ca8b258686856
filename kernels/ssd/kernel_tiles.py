"""Tiles of Mamba-2's scan in Triton: where frames lie, products of tiles, states as operands.

Matrix products of float32 numbers take operands of fewer bits. Here they go as float16 with scales
that are powers of two, 11 bits, or as sums of two bfloat16, 16 bits, where inputs are bfloat16;
else in float32's own accuracy.

Loops that need all registers hoist nothing (`disable_licm`): addresses that would be kept over the
whole loop are what a compiler spills.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call,union-attr"

import inspect
from typing import Any

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from vidmamba.kernels.jit import jit as triton_jit
from vidmamba.kernels.selective_scan.kernel import exp2

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)

# sizes that a kernel is not compiled anew for
LOOSE = {"T", "H", "G", "chunks_a_video", "chunks", "segments", "length", "heads_a_program"}
LOOSE |= {"splits"}


def jit(function: Any) -> Any:
    """Compile with Triton, not anew for other loose sizes."""
    names = inspect.signature(inspect.unwrap(function)).parameters
    return triton_jit(do_not_specialize=[name for name in names if name in LOOSE])(function)


@jit
def wait(EARLY: tl.constexpr):
    """Wait until the launch ahead has written all it writes, if this one began before."""
    if EARLY:
        gdc_wait()


@jit
def pass_on(EARLY: tl.constexpr):
    """Let the next launch begin, as far as it finds room; what it reads of this one it waits for.

    After `wait`, so that the next may count on what the one ahead of this one has written.
    """
    if EARLY:
        gdc_launch_dependents()


@jit
def locate(
    chunk, table, T, chunks_a_video, L: tl.constexpr, REVERSE: tl.constexpr, PACKED: tl.constexpr
):  # fmt: skip
    """A chunk's first row, how many frames, of which video, if its first chunk, if its last."""
    if PACKED:
        entry = table + chunk * 4
        row, count, video = tl.load(entry).to(tl.int64), tl.load(entry + 1), tl.load(entry + 2)
        flags = tl.load(entry + 3)
        return row, count, video, (flags & 1) > 0, (flags & 2) > 0
    video = chunk // chunks_a_video
    place = chunk % chunks_a_video
    first = place * L
    # int64: ten hours of video at 30 fps and width 2048 pass 2**31 elements
    row = video.to(tl.int64) * T + ((T - 1 - first) if REVERSE else first)
    return row, tl.minimum(L, T - first), video, place == 0, place == chunks_a_video - 1


@jit
def load_frames(
    p, row, t, count, stride, WIDTH: tl.constexpr, BLOCK: tl.constexpr, REVERSE: tl.constexpr,
    LAST: tl.constexpr = False,
):  # fmt: skip
    """Frames t of a chunk (t, BLOCK), WIDTH numbers each, zero where there are none.

    With LAST, nobody reads them again: they need not stay in the cache.
    """
    i = tl.arange(0, BLOCK)
    at = (-t if REVERSE else t)[:, None] * stride + i[None, :]
    here = (t < count)[:, None]
    if WIDTH < BLOCK:
        here &= (i < WIDTH)[None, :]
    evict: tl.constexpr = "evict_first" if LAST else ""
    return tl.load(p + row * stride + at, mask=here, other=0.0, eviction_policy=evict)


@jit
def store_frames(
    p, values, row, t, count, stride, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    REVERSE: tl.constexpr, LAST: tl.constexpr = False,
):  # fmt: skip
    """The reverse of `load_frames`; with LAST, of what no launch here reads: it need not stay."""
    i = tl.arange(0, BLOCK)
    at = (-t if REVERSE else t)[:, None] * stride + i[None, :]
    here = (t < count)[:, None]
    if WIDTH < BLOCK:
        here &= (i < WIDTH)[None, :]
    evict: tl.constexpr = "evict_first" if LAST else ""
    to = p + row * stride + at
    tl.store(to, values.to(p.dtype.element_ty), mask=here, eviction_policy=evict)


@jit
def prefetch(p, NATIVE: tl.constexpr):
    """Ask for the cache lines at some addresses, to find them in the second cache later."""
    if NATIVE:
        tl.inline_asm_elementwise(
            "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [p], dtype=tl.int32, is_pure=False,
            pack=1,
        )  # fmt: skip


@jit
def prefetch_frames(
    p, row, count, stride, NATIVE: tl.constexpr, REVERSE: tl.constexpr, L: tl.constexpr
):  # fmt: skip
    """Ask for the first lines of a chunk's frames."""
    t = tl.maximum(tl.minimum(tl.arange(0, L), count - 1), 0)
    prefetch(p + row * stride + (-t if REVERSE else t) * stride, NATIVE)


@jit
def prefetch_state(states, at, NATIVE: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr):
    """Ask for a state's lines."""
    LINE: tl.constexpr = 1024 // states.dtype.element_ty.primitive_bitwidth
    prefetch(states + at * (BP * BN) + tl.arange(0, BP * BN // LINE) * LINE, NATIVE)


@jit
def prefetch_steps(p, at, NATIVE: tl.constexpr, L: tl.constexpr):
    """Ask for the lines of a chunk's steps or log-decays."""
    prefetch(p + at * L + tl.arange(0, (L + 31) // 32) * 32, NATIVE)


@jit
def dot(a, b, total):
    """Add a b to the total."""
    if a.dtype == tl.float32:
        return tl.dot(a, b, total, input_precision="tf32x3")
    if INTERPRETED:  # which multiplies the bits of bfloat16 as if they were integers
        return tl.dot(a.to(tl.float32), b.to(tl.float32), total)
    return tl.dot(a, b, total)


@jit
def product(a, b):
    """A b of two tiles of operands, in float32."""
    return dot(a, b, tl.zeros((a.shape[0], b.shape[1]), tl.float32))


@jit
def split(x):
    """X as the sum of two bfloat16 numbers, the first cut off rather than rounded."""
    high = (x.to(tl.int32, bitcast=True) & -65536).to(tl.float32, bitcast=True)
    return high.to(tl.bfloat16), (x - high).to(tl.bfloat16)


@jit
def add_product(a, b, total):
    """Add a b to the total, where a is float32 and b holds inputs."""
    if b.dtype == tl.bfloat16:
        high, low = split(a)
        return dot(high, b, dot(low, b, total))
    return dot(a, b.to(tl.float32), total)


@jit
def add_product_transposed(a, b, total):
    """Add a' b to the total, where a is float32 and b holds inputs."""
    if b.dtype == tl.bfloat16:
        high, low = split(a)
        return dot(tl.trans(high), b, dot(tl.trans(low), b, total))
    return dot(tl.trans(a), b.to(tl.float32), total)


@jit
def floor(x):
    """The power of two below x, zero for what has none."""
    return (x.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)


@jit
def power(x):
    """The power of two below x, one for zero: multiplying by it or its inverse rounds nothing."""
    below = floor(x)
    return tl.where(below == 0, 1.0, below)


@jit
def log2(x, NATIVE: tl.constexpr):
    """The binary logarithm, to 2e-7, in one instruction where there is one."""
    if NATIVE:
        return tl.inline_asm_elementwise(
            "lg2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    return tl.log2(x)


@jit
def halve_rows(x, HALF: tl.constexpr):
    """The rows as operands with a scale each: 11 bits of all above a 30,000th of the largest."""
    if HALF:
        scale = power(tl.max(tl.abs(x), axis=1))
        part = (x * (1.0 / scale)[:, None]).to(tl.float16)
    else:
        scale = tl.full((x.shape[0],), 1.0, tl.float32)
        part = x
    return part, scale


@jit
def halve(x, HALF: tl.constexpr):
    """X as an operand and one scale."""
    if HALF:
        scale = power(tl.max(tl.max(tl.abs(x), axis=1), axis=0))
        part = (x * (1.0 / scale)).to(tl.float16)
    else:
        scale = 1.0
        part = x
    return part, scale


@jit
def operand(x, HALF: tl.constexpr):
    """Numbers known to be of moderate size as an operand."""
    return x.to(tl.float16) if HALF else x


@jit
def widen(x, HALF: tl.constexpr, NATIVE: tl.constexpr):
    """Operands as float32, here and not before the loop that this stands in: half the registers."""
    if HALF and NATIVE:
        return tl.inline_asm_elementwise(
            "{ .reg .b16 a, b; mov.b32 {a, b}, $2; cvt.f32.f16 $0, a; cvt.f32.f16 $1, b; }",
            "=r,=r,r", [x], dtype=tl.float32, is_pure=False, pack=2,
        )  # fmt: skip
    return x.to(tl.float32)


@jit
def state_tile(P: tl.constexpr, N: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr):
    """Places of a state (P, N), as every tensor of the caller holds it, and which are real."""
    p, n = tl.arange(0, BP), tl.arange(0, BN)
    return p[:, None] * N + n[None, :], (p < P)[:, None] & (n < N)[None, :]


@jit
def operand_tile(BP: tl.constexpr, BN: tl.constexpr):
    """Places of a state kept as an operand."""
    return tl.arange(0, BP)[:, None] * BN + tl.arange(0, BN)[None, :]


@jit
def keep_state(states, scales, at, h, HALF: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr):
    """Keep a state (BP, BN) as an operand; its scale is zero if the state is."""
    if HALF:
        largest = tl.max(tl.max(tl.abs(h), axis=1), axis=0)
        kept, scale = (h * (1.0 / power(largest))).to(tl.float16), floor(largest)
    else:
        kept, scale = h, 1.0
    tl.store(states + at * (BP * BN) + operand_tile(BP, BN), kept)
    tl.store(scales + at, scale)


@jit
def load_half(rows, scales, half, chunk, chunks, group, G, L: tl.constexpr, BN: tl.constexpr):
    """C and B in half a chunk, as `write_rows` writes them, and their scales."""
    at_b = (chunk.to(tl.int64) * G + group) * 2 + half
    at_c = ((chunks + chunk).to(tl.int64) * G + group) * 2 + half
    SUB: tl.constexpr = L // 2
    tile = tl.arange(0, SUB)[:, None] * BN + tl.arange(0, BN)[None, :]
    b = tl.load(rows + at_b * (SUB * BN) + tile)
    c = tl.load(rows + at_c * (SUB * BN) + tile)
    return c, b, tl.load(scales + at_c), tl.load(scales + at_b)


@jit
def decays(log, other, MASKED: tl.constexpr, NATIVE: tl.constexpr, SUB: tl.constexpr):
    """How much of frame j is left at frame t (SUB, SUB): zero for later ones.

    `other` is `log` again, less the logarithm of what each frame j shall be multiplied by. With
    MASKED any finite number for later ones, as they will be multiplied by zero.
    """
    t = tl.arange(0, SUB)
    decay = log[:, None] - other[None, :]
    if MASKED:
        return exp2(tl.minimum(decay, 127.99), NATIVE)
    return exp2(tl.where(t[:, None] >= t[None, :], decay, float("-inf")), NATIVE)


@jit
def decays_transposed(log, NATIVE: tl.constexpr, SUB: tl.constexpr):
    """The same with j first."""
    t = tl.arange(0, SUB)
    decay = tl.where(t[:, None] <= t[None, :], log[None, :] - log[:, None], float("-inf"))
    return exp2(decay, NATIVE)


@jit
def load_seen(
    seen, scales, head, half, row, t, count, stride, P: tl.constexpr, BP: tl.constexpr,
    REVERSE: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """One head's gradient before the gate, in half a chunk, as an operand and its scale."""
    values = load_frames(seen + head * P, row, t, count, stride, P, BP, REVERSE)
    if HALF:
        part, scale = values, tl.load(scales + half)
    else:
        part, scale = values.to(tl.float32), 1.0
    return part, scale
