"""Triton kernels of the taps: each program moves a block of frames and finds their videos itself.

A video's bounds are looked for in all offsets: batches hold a few videos, and a search would wait
for one load after another.
"""

import triton
import triton.language as tl
from torch import Tensor

from vidmamba.kernels.jit import jit

BLOCK_T = 32


def launch_forward(x: Tensor, offsets: Tensor | None, first: int, gap: int) -> Tensor:
    """Gather the three taps of contiguous (B, T, D) frames."""
    rows, width = x.shape[0] * x.shape[1], x.shape[2]
    y = x.new_empty(*x.shape[:2], 3, width)
    block = min(triton.next_power_of_2(width), 128)
    _forward_kernel[(triton.cdiv(rows, BLOCK_T), 3, triton.cdiv(width, block))](
        x, y, *_videos(x, offsets), rows, width, first, gap,
        PACKED=offsets is not None, BLOCK_T=BLOCK_T, BLOCK_D=block, num_warps=4,
    )  # fmt: skip
    return y


def launch_backward(grad: Tensor, offsets: Tensor | None, first: int, gap: int) -> Tensor:
    """Sum, for each frame, the gradients of the taps that it was."""
    rows, width = grad.shape[0] * grad.shape[1], grad.shape[3]
    x_grad = grad.new_empty(*grad.shape[:2], width)
    block = min(triton.next_power_of_2(width), 128)
    _backward_kernel[(triton.cdiv(rows, BLOCK_T), triton.cdiv(width, block))](
        grad, x_grad, *_videos(grad, offsets), rows, width, first, gap,
        PACKED=offsets is not None, BLOCK_T=BLOCK_T, BLOCK_D=block, num_warps=4,
    )  # fmt: skip
    return x_grad


def _videos(x: Tensor, offsets: Tensor | None) -> tuple[Tensor, int]:
    """Return the offsets and their videos; unpacked, any tensor, and the frames of each row."""
    return (x, x.shape[1]) if offsets is None else (offsets, len(offsets) - 1)


@jit()
def _bounds(p_offsets, videos, t, PACKED: tl.constexpr):
    """First frame of each frame's video, and the first behind it."""
    if PACKED:
        low = tl.zeros_like(t)
        high = tl.zeros_like(t)
        for number in range(videos):
            begin = tl.load(p_offsets + number).to(tl.int32)
            end = tl.load(p_offsets + number + 1).to(tl.int32)
            inside = (t >= begin) & (t < end)
            low = tl.where(inside, begin, low)
            high = tl.where(inside, end, high)
    else:
        low = t // videos * videos
        high = low + videos
    return low, high


@jit(do_not_specialize=["videos", "rows", "first", "gap"])
def _forward_kernel(
    p_x, p_y, p_offsets, videos, rows, width, first, gap,
    PACKED: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    k = tl.program_id(1)
    d = tl.program_id(2) * BLOCK_D + tl.arange(0, BLOCK_D)
    low, high = _bounds(p_offsets, videos, t, PACKED)
    source = t - first + k * gap
    seen = (t < rows) & (source >= low) & (source < high)
    here = d[None, :] < width
    x = tl.load(
        p_x + source.to(tl.int64)[:, None] * width + d[None, :],
        mask=seen[:, None] & here, other=0.0,
    )  # fmt: skip
    o_y = (t.to(tl.int64) * 3 + k)[:, None] * width + d[None, :]
    tl.store(p_y + o_y, x, mask=(t < rows)[:, None] & here)


@jit(do_not_specialize=["videos", "rows", "first", "gap"])
def _backward_kernel(
    p_grad, p_x_grad, p_offsets, videos, rows, width, first, gap,
    PACKED: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    low, high = _bounds(p_offsets, videos, t, PACKED)
    here = d[None, :] < width
    DOUBLE: tl.constexpr = p_grad.dtype.element_ty == tl.float64
    kind: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    total = tl.zeros((BLOCK_T, BLOCK_D), dtype=kind)
    for k in tl.static_range(3):
        target = t + first - k * gap
        seen = (t < rows) & (target >= low) & (target < high)
        grad = tl.load(
            p_grad + (target.to(tl.int64) * 3 + k)[:, None] * width + d[None, :],
            mask=seen[:, None] & here, other=0.0,
        )  # fmt: skip
        total += grad.to(kind)
    o_x = t.to(tl.int64)[:, None] * width + d[None, :]
    tl.store(p_x_grad + o_x, total.to(p_x_grad.dtype.element_ty), mask=(t < rows)[:, None] & here)
