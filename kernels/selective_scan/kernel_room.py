"""Where the backward scan leaves what registers cannot hold: shared memory, or memory instead.

A program of one warp has a room of numbered places, each of which holds one number a lane and
state: the states after each tile, their gradients, sums and rates. What a lane leaves there it
alone reads, so nothing has to wait. Rows of B and C lie there too, for all lanes. Where there is no
such room (many states, or no NVIDIA GPU) memory takes its place, through the same functions.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import SEGMENT, jit
from vidmamba.kernels.selective_scan.kernel_lanes import SLICE, TILE, _take
from vidmamba.kernels.selective_scan.kernel_rows import (
    await_copies,
    get_row,
    reserve,
    start_copy,
)

_TILES = 8
SPAN = tl.constexpr(_TILES * TILE.value)  # frames whose states have room at a time
ROOM_ROWS = 16  # states of a program with room
# places after those of the tiles
GRADS, RATE_GRADS, RATES, START = (tl.constexpr(i) for i in range(4))
_PROJECTIONS = (_TILES + 3) * ROOM_ROWS * 128  # bytes before B and C
PROJECTIONS = tl.constexpr(_PROJECTIONS)
ROW_BYTES = tl.constexpr(ROOM_ROWS * 4)
SIZE = tl.constexpr(_PROJECTIONS + 2 * SPAN.value * ROOM_ROWS * 4)
# places in memory of a program with room: the states after each tile of the first of two spans,
# then those before the first
PLACES_ASIDE = _TILES + 1
# and of one without
PLACES_WITHOUT_ROOM = SEGMENT.value // TILE.value + 4


@jit
def place_after(index: tl.constexpr, ROOM: tl.constexpr):
    """The number of a place after those of the tiles."""
    return (SPAN if ROOM else SEGMENT) // TILE + index


QUADS = tuple(", ".join(f"${first + k}" for k in range(4)) for first in (0, 4, 8, 12))
PUT = tl.constexpr(
    f"st.shared.v4.f32 [$16], {{{QUADS[2]}}}; st.shared.v4.f32 [$16+512], {{{QUADS[3]}}};"
)
GET = tl.constexpr(
    f"ld.shared.v4.f32 {{{QUADS[0]}}}, [$8]; ld.shared.v4.f32 {{{QUADS[1]}}}, [$8+512];"
)
SET_ASIDE = tl.constexpr(PUT.value.replace("shared", "global"))
FETCH_BACK = tl.constexpr(GET.value.replace("shared", "global"))
PUT_OPERANDS = tl.constexpr(_take("=r", "fr"))
GET_OPERANDS = tl.constexpr(_take("=f", "r"))
SET_ASIDE_OPERANDS = tl.constexpr(_take("=r", "fl"))
FETCH_BACK_OPERANDS = tl.constexpr(_take("=f", "l"))


@jit
def find_room(scratch, ROOM: tl.constexpr):
    """The room of this program: an address of shared memory, or a pointer to memory."""
    return reserve(SIZE) if ROOM else scratch


@jit
def find_exchange(room, ROOM: tl.constexpr, NATIVE: tl.constexpr):
    """Shared memory for sums over lanes: where a tile's states lie, once they have been read."""
    exchange = room
    if NATIVE and not ROOM:
        exchange = reserve(2048)
    return exchange


@jit
def put(room, place, q, x, n, lane, ROWS: tl.constexpr, ROOM: tl.constexpr):
    """Leave slice q (8, 32) in a place."""
    if ROOM:
        at = room + (place * (ROWS // SLICE) + q) * 1024 + lane * 16
        tl.inline_asm_elementwise(
            PUT, PUT_OPERANDS, [x, at[None, :] + (n * 0)[:, None]], dtype=tl.int32, is_pure=False,
            pack=8,
        )  # fmt: skip
    else:
        at = (n + (place * ROWS + q * SLICE))[:, None] * 32 + lane[None, :]
        tl.store(room + at, x)


@jit
def get(room, place, q, n, lane, ROWS: tl.constexpr, ROOM: tl.constexpr):
    """The slice that was left there."""
    if ROOM:
        at = room + (place * (ROWS // SLICE) + q) * 1024 + lane * 16
        x = tl.inline_asm_elementwise(
            GET, GET_OPERANDS, [at[None, :] + (n * 0)[:, None]], dtype=tl.float32, is_pure=False,
            pack=8,
        )  # fmt: skip
    else:
        x = tl.load(room + (n + (place * ROWS + q * SLICE))[:, None] * 32 + lane[None, :])
    return x


@jit
def set_aside(p, x, n, lane):
    """Leave a slice in memory, as it lies in the room."""
    at = (p.to(tl.int64) + lane * 16)[None, :] + (n * 0)[:, None]
    tl.inline_asm_elementwise(
        SET_ASIDE, SET_ASIDE_OPERANDS, [x, at], dtype=tl.int32, is_pure=False, pack=8
    )


@jit
def fetch_back(p, n, lane):
    """The slice that was left there."""
    at = (p.to(tl.int64) + lane * 16)[None, :] + (n * 0)[:, None]
    return tl.inline_asm_elementwise(
        FETCH_BACK, FETCH_BACK_OPERANDS, [at], dtype=tl.float32, is_pure=False, pack=8
    )


@jit
def copy_rows(room, p_B, p_C, ROOM: tl.constexpr):
    """Start to copy a span's rows of B and C to the room."""
    if ROOM:
        start_copy(room + PROJECTIONS, p_B, SPAN * ROW_BYTES)
        start_copy(room + PROJECTIONS + SPAN * ROW_BYTES, p_C, SPAN * ROW_BYTES)


@jit
def await_rows(room, ROOM: tl.constexpr):
    """Wait until they are there."""
    if ROOM:
        await_copies(room)


@jit
def get_projection(room, p, which: tl.constexpr, at, n, lane, ROOM: tl.constexpr):
    """Eight numbers of B (which 0) or C (1) in every column of a tile (8, 32)."""
    if ROOM:
        row = get_row(room + (PROJECTIONS + which * SPAN * ROW_BYTES) + at * 4, n, lane)
    else:
        row = tl.load(p + at + n)[:, None]
    return row
