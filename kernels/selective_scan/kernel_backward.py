"""The sums that end the backward selective scan, in Triton: front to back, without atomics."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import jit, locate, wait


@jit
def sums_kernel(
    parts, grad_B, grad_C, rows, grad_A, grad_skip, grad_bias, table, T, D, channels, width,
    frames, chunks_a_video, chunks, span, blocks, total_programs,
    N: tl.constexpr, HAS_SKIP: tl.constexpr, HAS_BIAS: tl.constexpr, REVERSE: tl.constexpr,
    PACKED: tl.constexpr, ROWS: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_N: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    """Sum the chunks' parts of the gradients of A, D and the bias.

    And, if there are programs for them, the parts of those of B and C that each block has left.
    """
    wait(EARLY)
    program = tl.program_id(0)
    if program < total_programs:
        sum_chunks(
            rows, grad_A, grad_skip, grad_bias, program, chunks, channels, width, N, ROWS,
            HAS_SKIP, HAS_BIAS, TILE, BLOCK,
        )  # fmt: skip
    else:
        program -= total_programs
        tiles, slices = tl.cdiv(frames, BLOCK_T), ROWS // BLOCK_N
        chunk = program // (tiles * slices)
        row, count = locate(chunk, table, T, chunks_a_video, frames, REVERSE, PACKED)
        t = program // slices % tiles * BLOCK_T + tl.arange(0, BLOCK_T)
        n = program % slices * BLOCK_N + tl.arange(0, BLOCK_N)
        first = chunk.to(tl.int64) * tl.cdiv(frames, span) * blocks * (span * ROWS * 2)
        sum_blocks(parts + first, grad_B, grad_C, row, t, n, count, span, blocks, N, REVERSE, ROWS)


@jit
def sum_blocks(
    p, grad_B, grad_C, row, t, n, count, span, blocks, N: tl.constexpr, REVERSE: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """Sum the blocks' parts of the gradients of B and C, front to back, into (rows, N)."""
    here = (t < count)[:, None] & (n < N)[None, :]
    # as the gradients' lanes leave them: four frames by four states of B and of C
    size = span * (ROWS * 2)
    at = t // span * (blocks * size) + t % span // 4 * (8 * ROWS) + t % 4 * 8
    p += at[:, None] + (n // 4 * 32 + n % 4)[None, :]
    b, c = tl.load(p, mask=here, other=0.0), tl.load(p + 4, mask=here, other=0.0)
    for block in range(1, blocks):
        b += tl.load(p + block * size, mask=here, other=0.0)
        c += tl.load(p + block * size + 4, mask=here, other=0.0)
    at = row * N + (-t if REVERSE else t)[:, None] * N + n[None, :]
    tl.store(grad_B + at, b.to(grad_B.dtype.element_ty), mask=here)
    tl.store(grad_C + at, c.to(grad_C.dtype.element_ty), mask=here)


@jit
def sum_chunks(
    rows, grad_A, grad_skip, grad_bias, program, chunks, channels, width, N: tl.constexpr,
    ROWS: tl.constexpr, HAS_SKIP: tl.constexpr, HAS_BIAS: tl.constexpr, TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum the chunks' parts of the gradients of A (D, N), D and the bias, front to back."""
    d = program // (N + 2) * BLOCK + tl.arange(0, BLOCK)
    n = program % (N + 2)
    i = tl.arange(0, TILE)
    p = rows + n * width + d[None, :]
    real = d < channels
    sums = tl.zeros((TILE, BLOCK), tl.float32)
    for first in range(0, chunks, TILE):
        chunk = (first + i).to(tl.int64)[:, None]
        here = (chunk < chunks) & real[None, :]
        sums += tl.load(p + chunk * (ROWS + 2) * width, mask=here, other=0.0)
    total = tl.sum(sums, axis=0)
    if n < N:
        tl.store(grad_A + d * N + n, total.to(grad_A.dtype.element_ty), mask=real)
    if HAS_SKIP:
        tl.store(grad_skip + d, total.to(grad_skip.dtype.element_ty), mask=real & (n == N))
    if HAS_BIAS:
        tl.store(grad_bias + d, total.to(grad_bias.dtype.element_ty), mask=real & (n == N + 1))
