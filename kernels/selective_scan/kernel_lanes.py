"""What a warp of the backward scan does below Triton: sums over its lanes, and its own room.

All of it takes for granted that a program is one warp and a lane holds whole columns of a tile
(4, 32); a test reads the layout off the compiled code.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import jit, row_of

_SLICE = 4
SLICE = tl.constexpr(_SLICE)  # states that are worked on together
_TILE = 4
TILE = tl.constexpr(_TILE)  # frames that are worked on together, all states of a slice in registers


def _write_sums_of_four_exactly() -> str:
    """PTX: of 16 values in each of 32 lanes, lane l gets four lanes' sums of four values.

    The lanes are those with the same l // 4, the values those from 4 (l % 4). Each round halves
    the values: a lane keeps one half, gives the other to its partner and adds what it gets.
    """
    lines = [
        "{ .reg .pred p; .reg .b32 lane, bit; .reg .f32 k<16>, s;",
        "mov.u32 lane, %laneid;",
        *(f"mov.f32 k{i}, ${4 + i};" for i in range(16)),
        *_write_halving(8, lanes=2),
        *_write_halving(4, lanes=1),
    ]
    return _return(lines, 4)


def _write_sums_of_four_by_products() -> str:
    """PTX: the same sums by four small matrix products, four values each.

    Their inputs are cut to TF32's 10 bits, which is more than bfloat16 keeps of the sum. Product i
    puts its values into columns 2 i and 2 i + 1 of the result: of the last operands, operand j is
    one in the lanes whose column it is.
    """
    lines = [
        "{ .reg .b32 v<16>, e<8>; .reg .f32 k<4>;",
        *(f"mov.b32 v{i}, ${4 + i};" for i in range(16)),
        *(f"mov.b32 e{i}, ${20 + i};" for i in range(8)),
        *(f"mov.f32 k{i}, 0f00000000;" for i in range(4)),
    ]
    for i in range(4):
        values = ", ".join(f"v{4 * i + k}" for k in (0, 2, 1, 3))
        lines.append(
            "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
            f"{{k0, k1, k2, k3}}, {{{values}}}, {{e{2 * i}, e{2 * i + 1}}}, {{k0, k1, k2, k3}};"
        )
    return _return(lines, 4)


def _write_sums_of_eight() -> str:
    """PTX: of four frames' four values in each of 32 lanes, lane l gets eight lanes' sums of two.

    The lanes are those with the same l % 4, the frame is l // 8, the values 2 (l % 8) and the next
    of the 16 that four lanes hold. They pass through 2048 bytes of the room. Lanes of odd frames
    read in another order, for they would ask for the same banks.
    """
    lines = [
        "{ .reg .b32 lane, to, odd, from<2>; .reg .f32 x, y, s, t;",
        "bar.warp.sync 0xffffffff;",
        "mov.u32 lane, %laneid;",
        "mad.lo.u32 to, lane, 16, $20;",
    ]
    for tile in range(4):
        values = ", ".join(f"${4 * (1 + tile) + k}" for k in range(4))
        lines.append(f"st.shared.v4.f32 [to+{512 * tile}], {{{values}}};")
    lines += [
        "and.b32 odd, lane, 8;",
        "shr.u32 from0, lane, 3;",
        "mad.lo.u32 from0, from0, 512, $20;",
        "and.b32 lane, lane, 7;",
        "mad.lo.u32 from1, lane, 8, from0;",
        "mad.lo.u32 from0, odd, 8, from1;",
        "xor.b32 odd, odd, 8;",
        "mad.lo.u32 from1, odd, 8, from1;",
        "bar.warp.sync 0xffffffff;",
        "ld.shared.v2.f32 {x, y}, [from0];",
    ]
    for group in range(1, 8):
        lines.append(f"ld.shared.v2.f32 {{s, t}}, [from{group % 2}+{group // 2 * 128}];")
        lines.append("add.f32 x, x, s; add.f32 y, y, t;")
    return "\n".join([*lines, "mov.f32 $0, x; mov.f32 $1, y;", "}"])


def _write_halving(half: int, *, lanes: int) -> list[str]:
    """Keep the half of the values that the lane's bit says, and add its partner's."""
    lines = [f"and.b32 bit, lane, {lanes}; setp.ne.u32 p, bit, 0;"]
    for i in range(half):
        lines.append(f"selp.f32 s, k{i}, k{i + half}, p;")
        lines.append(f"selp.f32 k{i}, k{i + half}, k{i}, p;")
        lines.append(f"shfl.sync.bfly.b32 s, s, {lanes}, 0x1f, 0xffffffff;")
        lines.append(f"add.f32 k{i}, k{i}, s;")
    return lines


def _return(lines: list[str], values: int) -> str:
    return "\n".join([*lines, *(f"mov.f32 ${i}, k{i};" for i in range(values)), "}"])


def _take(outputs: str, inputs: str) -> str:
    """Constraints of tiles, whose columns a lane holds whole."""
    return ",".join([outputs] * _SLICE + [kind for kind in inputs for _ in range(_SLICE)])


EXACTLY = tl.constexpr(_write_sums_of_four_exactly())
EXACTLY_OPERANDS = tl.constexpr(_take("=f", "ffff"))
BY_PRODUCTS = tl.constexpr(_write_sums_of_four_by_products())
BY_PRODUCTS_OPERANDS = tl.constexpr(_take("=f", "ffffff"))
OF_EIGHT = tl.constexpr(_write_sums_of_eight())
OF_EIGHT_OPERANDS = tl.constexpr(_take("=f", "ffffr"))


@jit
def sum_over_four(b0, c0, b1, c1, lane, n, EXACT: tl.constexpr):
    """Of four tiles (4, 32), four lanes' sums of one tile's four values in the lane's column.

    The lanes are those with the same lane // 4, the tile is number lane % 4.
    """
    if EXACT:
        return tl.inline_asm_elementwise(
            EXACTLY, EXACTLY_OPERANDS, [b0, c0, b1, c1], dtype=tl.float32, is_pure=False, pack=4
        )
    column = (lane // 4)[None, :] - n[:, None]
    low, high = tl.where(column == 0, 1.0, 0.0), tl.where(column == 4, 1.0, 0.0)
    return tl.inline_asm_elementwise(
        BY_PRODUCTS, BY_PRODUCTS_OPERANDS, [b0, c0, b1, c1, low, high], dtype=tl.float32,
        is_pure=False, pack=4,
    )  # fmt: skip


@jit
def sum_over_eight(s0, s1, s2, s3, room, n, lane):
    """Of four such sums over four, all lanes' sums of two values, through 2048 bytes of the room.

    The sum is number lane // 8, the values, of 16, 2 (lane % 8) and the one after it.
    """
    at = (lane * 0 + room)[None, :]
    pair = tl.inline_asm_elementwise(
        OF_EIGHT, OF_EIGHT_OPERANDS, [s0, s1, s2, s3, at], dtype=tl.float32, is_pure=False, pack=4
    )
    return row_of(pair, n, 0), row_of(pair, n, 1)


@jit
def put_pair(p, x, y):
    """Write two numbers a lane to memory."""
    tl.inline_asm_elementwise(
        "st.global.v2.f32 [$1], {$2, $3}; mov.u32 $0, 0;", "=r,l,f,f", [p.to(tl.int64), x, y],
        dtype=tl.int32, is_pure=False, pack=1,
    )  # fmt: skip


@jit
def warm(p):
    """Ask for what lies at each lane's address, to be in the L2 cache when it is loaded."""
    tl.inline_asm_elementwise(
        "prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l",
        [p.to(tl.int64)], dtype=tl.int32, is_pure=False, pack=1,
    )  # fmt: skip


@jit
def once_if(wanted):
    """Once or not at all, of which the compiler knows nothing."""
    return tl.inline_asm_elementwise(
        "mov.b32 $0, $1;", "=r,r", [tl.where(wanted, 1, 0)], dtype=tl.int32, is_pure=True, pack=1
    )
