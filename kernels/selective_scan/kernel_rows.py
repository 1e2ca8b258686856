"""Rows of B and C on their way through shared memory, in Triton.

All lanes read the same row, and the first-level cache beside much shared memory is too small to
have it when it is wanted: so rows are copied there ahead, while other rows are worked on.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton
import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import jit

PIECE = 512  # bytes that a warp copies at a time
# volatile: else a row is loaded once for two uses and held in registers in between
GET_ROW = tl.constexpr("ld.volatile.shared.v4.f32 {$0, $1, $2, $3}, [$4];")
GET_ROW_OPERANDS = tl.constexpr("=f,=f,=f,=f,r,r,r,r")


@triton.constexpr_function
def write_reserve(size):
    """PTX: static shared memory of so many bytes.

    The lane's number over 32 is zero, but the compiler does not know: addresses that it knows to
    be one for all lanes it holds apart and copies for every use.
    """
    return (
        f"{{ .shared .align 16 .b8 room[{size}]; .reg .b32 zero;"
        "mov.u32 zero, %laneid; shr.u32 zero, zero, 5; mov.u32 $0, room; add.u32 $0, $0, zero; }"
    )


@triton.constexpr_function
def write_copy(size):
    """PTX: start to copy so many bytes of memory to shared memory, if they are wanted."""
    lines = [
        "{ .reg .pred p; .reg .b32 lane, to; .reg .b64 from; setp.ne.u32 p, $3, 0;",
        "mov.u32 lane, %laneid; mad.lo.u32 to, lane, 16, $1; mad.wide.u32 from, lane, 16, $2;",
        "bar.warp.sync 0xffffffff;",
        *(f"@p cp.async.cg.shared.global [to+{i}], [from+{i}], 16;" for i in range(0, size, PIECE)),
        "mov.u32 $0, to; }",
    ]
    return "\n".join(lines)


@triton.constexpr_function
def count_ahead(rows):
    """Tiles that are on their way while one is worked on; of many states there is room for one."""
    return 2 if rows <= 16 else 1


@jit
def reserve(SIZE: tl.constexpr):
    """The address of so many bytes of the program's own shared memory."""
    return tl.inline_asm_elementwise(
        write_reserve(SIZE), "=r,r", [SIZE], dtype=tl.int32, is_pure=False, pack=1
    )


@jit
def start_copy(to, p, wanted, SIZE: tl.constexpr):
    """Start to copy so many bytes to shared memory, if they are wanted."""
    tl.inline_asm_elementwise(
        write_copy(SIZE), "=r,r,l,r", [to, p.to(tl.int64), tl.where(wanted, 1, 0)], dtype=tl.int32,
        is_pure=False, pack=1,
    )  # fmt: skip


@triton.constexpr_function
def write_wait(groups):
    """PTX: wait until all copies but those started last are there, for all lanes of the warp."""
    return f"cp.async.wait_group {groups}; bar.warp.sync 0xffffffff; mov.u32 $0, $1;"


@triton.constexpr_function
def count_slots(rows):
    """Tiles that are held of so many states: that being worked on, and those ahead."""
    return 4 if rows <= 16 else 2


@jit
def find_rows(COUNT: tl.constexpr, TILE: tl.constexpr, ROWS: tl.constexpr, NATIVE: tl.constexpr):
    """Shared memory for the rows of a tile and those ahead, of COUNT projections."""
    return reserve(count_slots(ROWS) * COUNT * TILE * ROWS * 4) if NATIVE else 0


@jit
def fetch_rows(
    room, which: tl.constexpr, p, frame, wanted, COUNT: tl.constexpr, TILE: tl.constexpr,
    ROWS: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    """Start to copy the rows of the tile that begins at a frame, if the chunk has it.

    No program may end with a copy on its way: its shared memory is the next one's by then.
    """
    if NATIVE:
        to = room + (frame // TILE % count_slots(ROWS) * COUNT + which) * (TILE * ROWS * 4)
        start_copy(to, p + frame * ROWS, wanted, TILE * ROWS * 4)


@jit
def close_fetch(room, NATIVE: tl.constexpr):
    """End what `await_rows` counts as one fetch."""
    if NATIVE:
        tl.inline_asm_elementwise(
            "cp.async.commit_group; mov.u32 $0, $1;", "=r,r", [room], dtype=tl.int32,
            is_pure=False, pack=1,
        )  # fmt: skip


@jit
def await_rows(room, LEFT: tl.constexpr, NATIVE: tl.constexpr):
    """Wait until all rows are there but those of LEFT fetches last started."""
    if NATIVE:
        tl.inline_asm_elementwise(
            write_wait(LEFT), "=r,r", [room], dtype=tl.int32, is_pure=False, pack=1
        )


@jit
def find_tile(
    room, which: tl.constexpr, p, frame, COUNT: tl.constexpr, TILE: tl.constexpr,
    ROWS: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    """Where the rows of the tile that begins at a frame are."""
    if NATIVE:
        at = room + (frame // TILE % count_slots(ROWS) * COUNT + which) * (TILE * ROWS * 4)
    else:
        at = p + frame * ROWS
    return at


@jit
def read_row(at, r: tl.constexpr, n, lane, ROWS: tl.constexpr, NATIVE: tl.constexpr):
    """The numbers n of row r of a tile there, for tiles (rows, 32)."""
    return get_row(at + r * (ROWS * 4), n, lane) if NATIVE else tl.load(at + r * ROWS + n)[:, None]


@jit
def get_row(at, n, lane):
    """The numbers n of a row at an address, in every column of a tile (rows, 32)."""
    return tl.inline_asm_elementwise(
        GET_ROW, GET_ROW_OPERANDS, [at + (n * 4)[:, None] + (lane * 0)[None, :]],
        dtype=tl.float32, is_pure=False, pack=4,
    )  # fmt: skip
