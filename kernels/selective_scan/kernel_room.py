"""Where the backward scan leaves what registers cannot hold: shared memory, or memory instead.

A program of one warp has a room of numbered places, each of which holds one number a lane and
state: the gradients of states, sums and rates, and a ring of slots for the states after each tile,
tile t in slot t % ROOM, beside its rows of B and C. States that have to leave their slot wait aside
in memory, and come back as many tiles ahead. What a lane leaves there it alone reads; only rows are
for all lanes. Where there is no such room (many states, or no NVIDIA GPU) memory takes its place,
through the same functions. ROOM is the number of slots, or zero.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton
import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import SEGMENT, jit
from vidmamba.kernels.selective_scan.kernel_lanes import SLICE, TILE, _take
from vidmamba.kernels.selective_scan.kernel_memory import load_always, store
from vidmamba.kernels.selective_scan.kernel_rows import get_row, reserve

_ROOM_ROWS = 16
ROOM_ROWS = tl.constexpr(_ROOM_ROWS)  # states of a program with room
# places after those of the ring
GRADS, RATE_GRADS, RATES, START = (tl.constexpr(i) for i in range(4))
SLOT = tl.constexpr(2 * TILE.value * _ROOM_ROWS * 4)  # bytes of a tile's rows of B and C


def count_places(span: int, room: int) -> int:
    """Places in memory for segments of so many frames, of a program with so many slots or none."""
    if room:
        return max(span // TILE.value - room, 0)
    return SEGMENT.value // TILE.value + 4


@jit
def place_after(index: tl.constexpr, ROOM: tl.constexpr):
    """The number of a place after those of the tiles."""
    return (ROOM if ROOM else SEGMENT // TILE) + index


@jit
def find_rows_of(room, tile, ROOM: tl.constexpr):
    """The address of a tile's rows of B and C, which are after all places."""
    return room + (ROOM + 3) * (ROOM_ROWS * 128) + tile % ROOM * SLOT


@jit
def find_frames(room, which: tl.constexpr, ROOM: tl.constexpr):
    """The address of numbers of a tile's frames, which are after the rows."""
    return room + ((ROOM + 3) * (ROOM_ROWS * 128) + ROOM * SLOT + which * 512)


PUT = tl.constexpr("st.shared.v4.f32 [$8], {$4, $5, $6, $7};")
GET = tl.constexpr("ld.shared.v4.f32 {$0, $1, $2, $3}, [$4];")
SET_ASIDE = tl.constexpr(PUT.value.replace("shared", "global"))
PUT_OPERANDS = tl.constexpr(_take("=r", "fr"))
GET_OPERANDS = tl.constexpr(_take("=f", "r"))
SET_ASIDE_OPERANDS = tl.constexpr(_take("=r", "fl"))


@jit
def find_room(scratch, ROOM: tl.constexpr, COPIED: tl.constexpr):
    """The room of this program: an address of shared memory, or a pointer to memory."""
    if ROOM:
        FRAMES: tl.constexpr = 1536 if COPIED else 1024
        SIZE: tl.constexpr = (ROOM + 3) * (ROOM_ROWS * 128) + ROOM * SLOT + FRAMES
        room = reserve(SIZE)
    else:
        room = scratch
    return room


@jit
def find_exchange(room, ROOM: tl.constexpr, NATIVE: tl.constexpr):
    """Shared memory for sums over lanes: where a tile's states lie, once they have been read."""
    exchange = room
    if NATIVE and not ROOM:
        exchange = reserve(2048)
    return exchange


@jit
def put(
    room, place, q, x, n, lane, ROWS: tl.constexpr, ROOM: tl.constexpr, NATIVE: tl.constexpr
):  # fmt: skip
    """Leave in a place, from slice q on, some slices (rows, 32); n numbers the rows."""
    if ROOM:
        at = find_slices(room + (place * (ROWS // SLICE) + q) * 512, n, lane)
        tl.inline_asm_elementwise(PUT, PUT_OPERANDS, [x, at], dtype=tl.int32, is_pure=False, pack=4)
    else:
        at = (n + (place * ROWS + q * SLICE))[:, None] * 32 + lane[None, :]
        store(room, at, x, n[:, None] >= 0, NATIVE)


@jit
def get(
    room, place, q, n, lane, ROWS: tl.constexpr, ROOM: tl.constexpr, NATIVE: tl.constexpr
):  # fmt: skip
    """The slices that were left there."""
    if ROOM:
        at = find_slices(room + (place * (ROWS // SLICE) + q) * 512, n, lane)
        x = tl.inline_asm_elementwise(
            GET, GET_OPERANDS, [at], dtype=tl.float32, is_pure=False, pack=4
        )
    else:
        at = (n + (place * ROWS + q * SLICE))[:, None] * 32 + lane[None, :]
        x = load_always(room, at, NATIVE)
    return x


@jit
def find_slices(at, n, lane):
    """Addresses (rows, 32) of slices; of each slice's four, the first counts."""
    return (at + lane * 16)[None, :] + (n // SLICE * 512)[:, None]


@jit
def put_frames(room, which: tl.constexpr, x, i, lane, ROOM: tl.constexpr):
    """Leave a number of each of a tile's frames (4, 32), 0 or 1, until `get_frames`."""
    if ROOM:
        at = find_slices(find_frames(room, which, ROOM), i, lane)
        tl.inline_asm_elementwise(PUT, PUT_OPERANDS, [x, at], dtype=tl.int32, is_pure=False, pack=4)


@jit
def get_frames(room, which: tl.constexpr, x, i, lane, ROOM: tl.constexpr):
    """What was left there; without room, x itself."""
    if ROOM:
        at = find_slices(find_frames(room, which, ROOM), i, lane)
        x = tl.inline_asm_elementwise(
            GET, GET_OPERANDS, [at], dtype=tl.float32, is_pure=False, pack=4
        )
    return x


@jit
def set_aside(p, pitch, x, n, lane):
    """Leave some slices in memory, in so far apart rows of 128 bytes as they lie in the room."""
    at = find_start(p, pitch, lane)[None, :] + (n // SLICE)[:, None] * (4 * pitch)
    tl.inline_asm_elementwise(
        SET_ASIDE, SET_ASIDE_OPERANDS, [x, at], dtype=tl.int32, is_pure=False, pack=4
    )


@jit
def find_start(p, pitch, lane):
    """The first 16 bytes of each lane, of rows of 128 that lie so many bytes apart."""
    return p.to(tl.int64) + (lane // 8 * pitch + lane % 8 * 16)


def _write_copy() -> str:
    """PTX: start to copy a tile's states, 2048 bytes, and its rows, 512, to their slots."""
    lines = [
        "{ .reg .pred p, q; .reg .b32 lane, to; .reg .b64 from;",
        "setp.ne.u32 p, $5, 0; setp.ne.u32 q, $6, 0; mov.u32 lane, %laneid;",
        "bar.warp.sync 0xffffffff;",
        "mad.lo.u32 to, lane, 16, $1; mad.wide.u32 from, lane, 16, $2;",
        *(
            f"@p cp.async.cg.shared.global [to+{i}], [from+{i}], 16;"
            for i in range(0, _ROOM_ROWS * 128, 512)
        ),
        "mad.lo.u32 to, lane, 16, $3; @q cp.async.cg.shared.global [to], [$4], 16;",
        "mov.u32 $0, to; }",
    ]
    return "\n".join(lines)


def _write_copy_of_start() -> str:
    """PTX: start to copy rows of 128 bytes that lie so many bytes apart, four at a time."""
    lines = [
        "{ .reg .b32 lane, to; .reg .b64 from; mov.u32 lane, %laneid; mov.u64 from, $2;",
        "bar.warp.sync 0xffffffff; mad.lo.u32 to, lane, 16, $1;",
        *(
            f"cp.async.cg.shared.global [to+{i}], [from], 16; mad.wide.u32 from, $3, 4, from;"
            for i in range(0, _ROOM_ROWS * 128, 512)
        ),
        "mov.u32 $0, to; }",
    ]
    return "\n".join(lines)


@triton.constexpr_function
def write_wait(groups):
    """PTX: wait until all copies but those started last are there, for all lanes."""
    # what was set aside is read by copies that are started later
    fence = "" if groups else "fence.acq_rel.cta;"
    return f"{fence} cp.async.wait_group {groups}; bar.warp.sync 0xffffffff; mov.u32 $0, $1;"


COPY = tl.constexpr(_write_copy())
COPY_START = tl.constexpr(_write_copy_of_start())


@jit
def find_rows_from(p_B, p_C, lane, ROOM: tl.constexpr):
    """Where each lane begins to copy rows from: half of them B's, half C's."""
    if ROOM:
        p = tl.where(lane < 16, p_B.to(tl.int64), p_C.to(tl.int64)) + lane % 16 * 16
    else:
        p = lane.to(tl.int64)
    return p


@jit
def copy_tile(room, tile, aside, rows_from, states, rows, ROOM: tl.constexpr):
    """Start to copy the states after a tile, if so, and its rows, if so, to their slots."""
    if ROOM:
        slot = (tile + ROOM) % ROOM
        tl.inline_asm_elementwise(
            COPY, "=r,r,l,r,l,r,r",
            [room + slot * (ROOM_ROWS * 128), aside.to(tl.int64) + tile * (ROOM_ROWS * 128),
             find_rows_of(room, slot, ROOM), rows_from + tile * (SLOT // 2),
             tl.where(states, 1, 0), tl.where(rows, 1, 0)],
            dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip


@jit
def copy_start(room, start, pitch, lane, ROOM: tl.constexpr):
    """Start to copy the states before the first tile to the last slot, with the next tile's."""
    tl.inline_asm_elementwise(
        COPY_START, "=r,r,l,r",
        [room + (ROOM - 1) * (ROOM_ROWS * 128), find_start(start, pitch, lane), pitch],
        dtype=tl.int32, is_pure=False, pack=1,
    )  # fmt: skip


@jit
def await_tiles(room, LEFT: tl.constexpr, ROOM: tl.constexpr):
    """Wait until all copies are there, but for so many started last."""
    if ROOM:
        tl.inline_asm_elementwise(
            write_wait(LEFT), "=r,r", [room], dtype=tl.int32, is_pure=False, pack=1
        )


@jit
def get_projection(
    room, p, which: tl.constexpr, tile, r, q, n, lane, ROWS: tl.constexpr, ROOM: tl.constexpr,
    NATIVE: tl.constexpr,
):  # fmt: skip
    """Numbers of B (which 0) or C (1), from slice q on, in every column of a tile (rows, 32)."""
    if ROOM:
        at = find_rows_of(room, tile, ROOM) + which * (SLOT // 2)
        row = get_row(at + (r * ROWS + q * SLICE) * 4, n, lane)
    else:
        at = n[:, None] + (lane * 0)[None, :] + ((tile * TILE + r) * ROWS + q * SLICE)
        row = load_always(p, at, NATIVE)
    return row
