"""Tiles of what a scan is given on their way through shared memory, in Triton.

A lane that loads its own channel of every frame needs an address for each, which has to wait until
the load before has read it, and registers for what is not worked on yet. Here a lane copies 16
bytes of a row to shared memory, tiles ahead, and reads its channel when it is the tile's turn.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import jit, load_raw, place
from vidmamba.kernels.selective_scan.kernel_memory import load_shared
from vidmamba.kernels.selective_scan.kernel_rows import reserve

LANES = tl.constexpr(32)  # of a program, and its channels of a row
PIECE = tl.constexpr(16)  # bytes that a lane copies at a time
SLOTS = tl.constexpr(4)  # tiles that are held
INPUTS = tl.constexpr(3)  # that a program reads, at most

COPY = tl.constexpr(
    "{ .reg .pred p; .reg .b32 lane, to; setp.ne.u32 p, $3, 0; mov.u32 lane, %laneid;"
    "mad.lo.u32 to, lane, 16, $1; @p cp.async.cg.shared.global [to], [$2], 16; mov.u32 $0, to; }"
)


@jit
def find_inputs(p, TILE: tl.constexpr, COPIED: tl.constexpr):
    """Shared memory for some tiles of each input, if they are COPIED."""
    BYTES: tl.constexpr = p.dtype.element_ty.primitive_bitwidth // 8
    return reserve(SLOTS * INPUTS * TILE * LANES * BYTES) if COPIED else 0


@jit
def find_input(room, which: tl.constexpr, frame, BYTES: tl.constexpr, TILE: tl.constexpr):
    """Where an input's tile that begins at a frame is."""
    return room + (frame // TILE % SLOTS * INPUTS + which) * (TILE * LANES * BYTES)


@jit
def fetch_inputs(
    room, p, p_other, p_third, frame, wanted, count, first, D, lane, TILE: tl.constexpr,
    HAS_THIRD: tl.constexpr, REVERSE: tl.constexpr, WHOLE: tl.constexpr, COPIED: tl.constexpr,
):  # fmt: skip
    """Start to copy the tiles of two or three inputs that begin at a frame, if they are wanted.

    Pointers are to the chunk's first row, of which channels ``first`` and those after it are read.
    """
    if COPIED:
        BYTES: tl.constexpr = p.dtype.element_ty.primitive_bitwidth // 8
        MANY: tl.constexpr = PIECE // BYTES  # channels of a piece, and frames of a warp's pieces
        # beyond the last channel, the last ones again
        column = tl.minimum(first + lane % (LANES // MANY) * MANY, D - MANY)
        for piece in tl.static_range(TILE // MANY):
            t = frame + piece * MANY + lane // (LANES // MANY)
            if not WHOLE:
                t = tl.minimum(t, count - 1)
            at, to = (-t if REVERSE else t) * D + column, room + piece * (LANES * PIECE)
            copy_piece(find_input(to, 0, frame, BYTES, TILE), p + at, wanted)
            copy_piece(find_input(to, 1, frame, BYTES, TILE), p_other + at, wanted)
            if HAS_THIRD:
                copy_piece(find_input(to, 2, frame, BYTES, TILE), p_third + at, wanted)


@jit
def copy_piece(to, p, wanted):
    """Start to copy a lane's 16 bytes, if they are wanted."""
    tl.inline_asm_elementwise(
        COPY, "=r,r,l,r", [to, p.to(tl.int64), tl.where(wanted, 1, 0)], dtype=tl.int32,
        is_pure=False, pack=1,
    )  # fmt: skip


@jit
def read_input(
    room, which: tl.constexpr, p, frame, i, count, d, D, channels, lane, TILE: tl.constexpr,
    REVERSE: tl.constexpr, WHOLE: tl.constexpr, COPIED: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    """Frames i of an input's tile that begins at a frame, as float32."""
    if COPIED:
        BYTES: tl.constexpr = p.dtype.element_ty.primitive_bitwidth // 8
        x = load_shared(find_input(room, which, frame, BYTES, TILE), i, lane, p)
    else:
        x = load_raw(p, place(frame, i, count, d, D, REVERSE, WHOLE), d < channels, False, NATIVE)
    return x.to(tl.float32)
