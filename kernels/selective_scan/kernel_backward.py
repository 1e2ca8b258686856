"""The sums that end the backward selective scan, in Triton: front to back, without atomics."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import jit, locate


@jit
def projection_grads_kernel(
    parts, grad_B, grad_C, table, T, chunks_a_video, chunks, N, groups,
    REVERSE: tl.constexpr, PACKED: tl.constexpr, FRAMES: tl.constexpr, ROWS: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Sum the groups' parts of the gradients of B and C, front to back, into (rows, N)."""
    blocks = FRAMES // BLOCK_T
    chunk = tl.program_id(0) // blocks
    row, count = locate(chunk, table, T, chunks_a_video, FRAMES, REVERSE, PACKED)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    t = tl.program_id(0) % blocks * BLOCK_T + tl.arange(0, BLOCK_T)
    here = (t < count)[:, None] & (n < N)[None, :]
    # as the gradients' lanes leave them: four frames by eight states of B and of C
    place = t // 4 * (8 * ROWS) + t % 4 * 16
    p = parts + chunk.to(tl.int64) * (FRAMES * ROWS * 2) + place[:, None]
    p += (n // 8 * 64 + n % 8)[None, :]
    part = chunks.to(tl.int64) * (FRAMES * ROWS * 2)
    b = tl.load(p, mask=here, other=0.0)
    c = tl.load(p + 8, mask=here, other=0.0)
    for group in range(1, groups):
        b += tl.load(p + group * part, mask=here, other=0.0)
        c += tl.load(p + group * part + 8, mask=here, other=0.0)
    at = row * N + (-t if REVERSE else t)[:, None] * N + n[None, :]
    tl.store(grad_B + at, b.to(grad_B.dtype.element_ty), mask=here)
    tl.store(grad_C + at, c.to(grad_C.dtype.element_ty), mask=here)


@jit
def totals_kernel(
    rows, grad_A, grad_skip, grad_bias, chunks, D, width, N,
    HAS_SKIP: tl.constexpr, HAS_BIAS: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Sum the chunks' parts of the gradients of A (D, N), D and the bias, front to back."""
    d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    n = tl.program_id(1)
    i = tl.arange(0, TILE)
    p = rows + (N + n) * width + d[None, :]
    real = d < D
    sums = tl.zeros((TILE, BLOCK), tl.float32)
    for first in range(0, chunks, TILE):
        chunk = (first + i).to(tl.int64)[:, None]
        here = (chunk < chunks) & real[None, :]
        sums += tl.load(p + chunk * (2 * N + 2) * width, mask=here, other=0.0)
    total = tl.sum(sums, axis=0)
    if n < N:
        tl.store(grad_A + d * N + n, total.to(grad_A.dtype.element_ty), mask=real)
    if HAS_SKIP:
        tl.store(grad_skip + d, total.to(grad_skip.dtype.element_ty), mask=real & (n == N))
    if HAS_BIAS:
        tl.store(grad_bias + d, total.to(grad_bias.dtype.element_ty), mask=real & (n == N + 1))
