"""Rates and projections as the scan's kernels read them, in Triton."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import LOG2_E, jit, locate, wait


@jit
def prepare_kernel(
    A, B, C, a, out, counters, table, T, D, width, frames, chunks_a_video, chunks, rate_programs,
    num_counters,
    N: tl.constexpr, REVERSE: tl.constexpr, PACKED: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_N: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    """Write log2(e) A as (N, width), B and C as float32 (2, chunks, frames, ROWS), and zeros."""
    wait(EARLY)
    program = tl.program_id(0)
    at = program * BLOCK + tl.arange(0, BLOCK)
    tl.store(counters + at, 0, mask=at < num_counters)
    if program < rate_programs:
        write_rates(A, a, program, D, width, N, BLOCK)
    else:
        program -= rate_programs
        tiles, parts = tl.cdiv(frames, BLOCK_T), ROWS // BLOCK_N
        chunk, first = program // (tiles * parts), program // parts % tiles * BLOCK_T
        row, count = locate(chunk, table, T, chunks_a_video, frames, REVERSE, PACKED)
        n = program % parts * BLOCK_N + tl.arange(0, BLOCK_N)
        out += (chunk.to(tl.int64) * frames + first) * ROWS
        row, count = row + (-first if REVERSE else first), count - first
        write_projection(B, out, n, row, count, frames - first, N, REVERSE, ROWS, BLOCK_T)
        out += chunks.to(tl.int64) * frames * ROWS
        write_projection(C, out, n, row, count, frames - first, N, REVERSE, ROWS, BLOCK_T)


@jit
def write_rates(A, a, program, D, width, N: tl.constexpr, BLOCK: tl.constexpr):
    """The rates of one state and a block of channels, zero beyond the last channel."""
    d, n = program // N * BLOCK + tl.arange(0, BLOCK), program % N
    rate = tl.load(A + d * N + n, mask=d < D, other=0.0).to(tl.float32)
    tl.store(a + n * width + d, rate * LOG2_E)


@jit
def write_projection(
    p, out, n, row, count, room, N: tl.constexpr, REVERSE: tl.constexpr, ROWS: tl.constexpr,
    BLOCK_T: tl.constexpr,
):  # fmt: skip
    """A tile of B or C in the scan's order, zero where no frame is and from N to ROWS.

    So the scans need no masks. A chunk has ``room`` for as many frames from the tile's first on.
    """
    t = tl.arange(0, BLOCK_T)
    at = (-t if REVERSE else t)[:, None] * N + n[None, :]
    here = (t < count)[:, None] & (n < N)[None, :]
    x = tl.load(p + row * N + at, mask=here, other=0.0).to(tl.float32)
    tl.store(out + (t * ROWS)[:, None] + n[None, :], x, mask=(t < room)[:, None])
