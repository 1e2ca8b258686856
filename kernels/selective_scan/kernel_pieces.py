"""Rows of half precision as the gradients' programs read and write them, in Triton.

A tile of four frames of two inputs or gradients is 512 bytes: 16 a lane, to or from memory, half of
the lanes one's, half the other's. Each lane reads or leaves its own channel in shared memory. So
there is one address a lane, not one for each frame of each of them.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import jit
from vidmamba.kernels.selective_scan.kernel_lanes import TILE

ROW = tl.constexpr(64)  # bytes of a frame
HALF = tl.constexpr(TILE.value * ROW.value)  # of a tile of one of the two

COPY = tl.constexpr(
    "{ .reg .b32 lane, to; mov.u32 lane, %laneid; mad.lo.u32 to, lane, 16, $1;"
    "bar.warp.sync 0xffffffff; cp.async.cg.shared.global [to], [$2], 16;"
    "cp.async.commit_group; mov.u32 $0, to; }"
)
LOAD = tl.constexpr("ld.global.v4.b32 {$0, $1, $2, $3}, [$4];")
PUT = tl.constexpr(
    "st.shared.v4.b32 [$5], {$1, $2, $3, $4}; bar.warp.sync 0xffffffff; mov.u32 $0, 0;"
)
LEAVE = tl.constexpr("st.shared.b16 [$2], $1; mov.u32 $0, 0;")
SEND = tl.constexpr(
    "{ .reg .pred p; .reg .b32 x<4>; setp.ne.u32 p, $3, 0; bar.warp.sync 0xffffffff;"
    "@p ld.shared.v4.b32 {x0, x1, x2, x3}, [$1]; @p st.global.v4.b32 [$2], {x0, x1, x2, x3};"
    "mov.u32 $0, 0; }"
)


@jit
def find_pieces(p, p_other, channel, lane):
    """Where in a row each lane's piece is: half of them have one pointer's, half the other's."""
    return tl.where(lane < 16, p.to(tl.int64), p_other.to(tl.int64)) + (channel + lane % 4 * 8) * 2


@jit
def find_frame(pieces, t, D, lane, REVERSE: tl.constexpr):
    """The same in the row of each lane's frame t."""
    return pieces + (-t if REVERSE else t).to(tl.int64) * (D * 2)


@jit
def clamp_frame(first, count, lane, WHOLE: tl.constexpr):
    """Each lane's frame of the tile from ``first`` on; outside the chunk, one inside."""
    i = lane % 16 // 4
    if WHOLE:
        t = tl.maximum(tl.minimum(first, count - TILE), 0) + i
    else:
        t = tl.maximum(tl.minimum(first + i, count - 1), 0)
    return t


@jit
def copy_pieces(
    at, pieces, first, count, D, lane, REVERSE: tl.constexpr, WHOLE: tl.constexpr
):  # fmt: skip
    """Start to copy a tile to shared memory, as a group of its own."""
    t = clamp_frame(first, count, lane, WHOLE)
    tl.inline_asm_elementwise(
        COPY, "=r,r,l", [at, find_frame(pieces, t, D, lane, REVERSE)], dtype=tl.int32,
        is_pure=False, pack=1,
    )  # fmt: skip


@jit
def load_pieces(pieces, first, count, D, lane, REVERSE: tl.constexpr, WHOLE: tl.constexpr):
    """A tile, held in registers until `put_pieces`: four for each lane's 16 bytes."""
    t = clamp_frame(first, count, lane, WHOLE)
    return tl.inline_asm_elementwise(
        LOAD, "=r,=r,=r,=r,l", [find_frame(pieces, t, D, lane, REVERSE)],
        dtype=(tl.int32, tl.int32, tl.int32, tl.int32), is_pure=False, pack=1,
    )  # fmt: skip


@jit
def put_pieces(at, held, lane):
    """Put it to shared memory, for all lanes."""
    tl.inline_asm_elementwise(
        PUT, "=r,r,r,r,r,r", [held[0], held[1], held[2], held[3], at + lane * 16],
        dtype=tl.int32, is_pure=False, pack=1,
    )  # fmt: skip


@jit
def leave_channels(at, x, p, i, lane):
    """Leave numbers of frames i, a channel a lane, in shared memory, in the kind of ``p``."""
    tl.inline_asm_elementwise(
        LEAVE, "=r,h,r",
        [x.to(p.dtype.element_ty), (at + lane * 2)[None, :] + i[:, None] * ROW], dtype=tl.int32,
        is_pure=False, pack=1,
    )  # fmt: skip


@jit
def send_pieces(at, pieces, first, there, D, lane, REVERSE: tl.constexpr):
    """Write what all lanes have left of the tile from ``first`` on, where it is there."""
    t = first + lane % 16 // 4
    tl.inline_asm_elementwise(
        SEND, "=r,r,l,r",
        [at + lane * 16, find_frame(pieces, t, D, lane, REVERSE), tl.where(there, 1, 0)],
        dtype=tl.int32, is_pure=False, pack=1,
    )  # fmt: skip


@jit
def meet(at):
    """Wait until all lanes have read what others will be written over."""
    tl.inline_asm_elementwise(
        "bar.warp.sync 0xffffffff; mov.u32 $0, $1;", "=r,r", [at], dtype=tl.int32, is_pure=False,
        pack=1,
    )  # fmt: skip
