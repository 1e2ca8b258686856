"""The backward selective scan in Triton: chunk gradients, combine, gradients, sums.

The gradient of the state runs against time: g[t] = C[t] dy[t] + exp(delta[t+1] A) g[t+1]. Its
chunks are cut, summed and combined like the forward pass's. Then every chunk is walked again,
tile by tile from its last: forwards for the states, backwards for their gradients. Nothing is
added by atomics: what several programs owe to one number is written apart and summed in order.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import (
    LN2,
    advance,
    exp2,
    exp2m1,
    jit,
    load,
    load_row,
    load_states,
    locate,
    place,
    row_of,
    sigmoid,
    sized,
    store_states,
)

TILE = tl.constexpr(4)  # frames that a program walks at a time, all their states in registers
_SUMS = 16
SUMS = tl.constexpr(_SUMS)  # rows that are summed together: what the exchanges are written for


def _write_sums_exactly() -> str:
    """PTX: of 32 values in each of 32 lanes, lane l gets all lanes' sum of value l.

    Each round halves the values: a lane keeps one half, gives the other to its partner and adds
    what it gets. That is 31 exchanges for 32 values, where summing each on its own takes 160.
    """
    lines = [
        "{ .reg .pred p; .reg .b32 lane, bit; .reg .f32 k<32>, s;",
        "mov.u32 lane, %laneid;",
        *(f"mov.f32 k{i}, ${_SUMS + i};" for i in range(32)),
    ]
    for half in (16, 8, 4, 2, 1):
        lines += _write_halving(half, lanes=half)
    return _return_first(lines)


def _write_sums_by_products() -> str:
    """PTX: of 32 values in each of 32 lanes, lane l gets all lanes' sum of the value it is told.

    Small matrix products add up lanes four by four, four values at a time, with inputs cut to
    TF32's 10 bits, which is more than bfloat16 keeps of the sum. Product i puts its values into
    columns 2 i and 2 i + 1 of the result; the first eight of the last operands are one where
    operand i belongs to the lane's column. Exchanges of eight values between eight lanes remain.
    """
    lines = [
        "{ .reg .pred p; .reg .b32 lane, bit, v<32>, e<8>; .reg .f32 k<8>, s;",
        "mov.u32 lane, %laneid;",
        *(f"mov.b32 v{i}, ${_SUMS + i};" for i in range(32)),
        *(f"mov.b32 e{i}, ${_SUMS + 32 + i};" for i in range(8)),
        *(f"mov.f32 k{i}, 0f00000000;" for i in range(8)),
    ]
    for tile, i in ((tile, i) for i in range(4) for tile in range(2)):
        values = ", ".join(f"v{_SUMS * tile + 4 * i + k}" for k in range(4))
        sums = ", ".join(f"k{4 * tile + k}" for k in (0, 2, 1, 3))
        lines.append(
            "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
            f"{{{sums}}}, {{{values}}}, {{e{2 * i}, e{2 * i + 1}}}, {{{sums}}};"
        )
    for half in (4, 2, 1):
        lines += _write_halving(half, lanes=4 * half)
    return _return_first(lines)


def _write_halving(half: int, *, lanes: int) -> list[str]:
    """Keep the half of the values that the lane's bit says, and add its partner's."""
    lines = [f"and.b32 bit, lane, {lanes}; setp.ne.u32 p, bit, 0;"]
    for i in range(half):
        lines.append(f"selp.f32 s, k{i}, k{i + half}, p;")
        lines.append(f"selp.f32 k{i}, k{i + half}, k{i}, p;")
        lines.append(f"shfl.sync.bfly.b32 s, s, {lanes}, 0x1f, 0xffffffff;")
        lines.append(f"add.f32 k{i}, k{i}, s;")
    return lines


def _return_first(lines: list[str]) -> str:
    return "\n".join([*lines, *(f"mov.f32 ${i}, k0;" for i in range(_SUMS))]) + "\n}"


EXACTLY = tl.constexpr(_write_sums_exactly())
EXACTLY_OPERANDS = tl.constexpr(",".join(["=f"] * _SUMS + ["f"] * 2 * _SUMS))
BY_PRODUCTS = tl.constexpr(_write_sums_by_products())
BY_PRODUCTS_OPERANDS = tl.constexpr(",".join(["=f"] * _SUMS + ["f"] * 3 * _SUMS))


@jit
def sum_over_lanes(first, second, columns, EXACT: tl.constexpr):
    """In every row of 16, lane l: all lanes' sum of the row of two tiles that `owned_by` names.

    A program must be one warp, and a block 32 channels.
    """
    if EXACT:
        return tl.inline_asm_elementwise(
            EXACTLY, EXACTLY_OPERANDS, [first, second], dtype=tl.float32, is_pure=False, pack=16
        )
    return tl.inline_asm_elementwise(
        BY_PRODUCTS, BY_PRODUCTS_OPERANDS, [first, second, columns], dtype=tl.float32,
        is_pure=False, pack=16,
    )  # fmt: skip


@jit
def owned_by(lane, EXACT: tl.constexpr):
    """Which of twice 16 rows the lane gets the sum of."""
    if EXACT:
        return lane
    return lane // 16 * 16 + lane % 4 * 4 + lane // 8 % 2 * 2 + lane // 4 % 2


@jit
def chunk_grads_kernel(
    grad_y, delta, a, C, z, bias, ends, sums, table, T, D, width, chunks_a_video,
    N: tl.constexpr, blocks,
    HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr,
    PACKED: tl.constexpr, EVEN: tl.constexpr, FRAMES: tl.constexpr, TILE: tl.constexpr,
    BLOCK: tl.constexpr, ROWS: tl.constexpr, NATIVE: tl.constexpr,
    PRECISE: tl.constexpr,
):  # fmt: skip
    """Write what each chunk's own outputs send to the state before it, and its sum of steps."""
    chunk = tl.program_id(0) // blocks
    d = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    real = d < D
    row, count = locate(chunk, table, T, chunks_a_video, FRAMES, REVERSE, PACKED)
    if count <= 0:
        return
    i, n = tl.arange(0, TILE), tl.arange(0, ROWS)
    p_grad, p_delta, p_z = grad_y + row * D, delta + row * D, z + row * D
    p_C = C + chunk.to(tl.int64) * FRAMES * ROWS + n
    shift = load_row(bias, d, real, HAS_BIAS)
    rate = load_states(a, n, d, width, N, ROWS)
    g = rate * 0.0
    total = d * 0.0
    last_tile = (count - 1) // TILE
    for back in range(last_tile + 1):
        # rows run against time; those past the last frame change nothing, for C is zero there
        first = (last_tile - back) * TILE
        t = first + (TILE - 1) - i
        at = place(t, count, d, D, REVERSE)
        raw = load(p_delta, at, real, EVEN)
        grad = load(p_grad, at, real, EVEN)
        gate = load(p_z, at, real, EVEN) if HAS_Z else grad
        step = sized(raw, shift, t, count, SOFTPLUS, NATIVE, PRECISE)
        if HAS_Z:
            grad *= gate * sigmoid(gate, NATIVE)
        total += tl.sum(step, axis=0)
        for r in tl.static_range(TILE):
            look = tl.load(p_C + (first + (TILE - 1) - r) * ROWS)
            g += row_of(grad, i, r)[None, :] * look[:, None]
            exponent = row_of(step, i, r)[None, :] * rate
            if PRECISE:
                g += exp2m1(exponent, NATIVE) * g
            else:
                g *= exp2(exponent, NATIVE)
    store_states(ends + chunk.to(tl.int64) * (N + 2) * width, g, n, d, width, N, ROWS)
    tl.store(sums + chunk.to(tl.int64) * width + d, total)


@jit
def gradients_kernel(
    grad_y, u, delta, a, B, C, skip, z, bias, states, state_grads, scratch,
    grad_u, grad_delta, grad_z, parts, table,
    T, D, width, chunks_a_video, chunks, N: tl.constexpr, groups, slot_width,
    HAS_SKIP: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr, PACKED: tl.constexpr, EVEN: tl.constexpr, FRAMES: tl.constexpr,
    BLOCK: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr, NATIVE: tl.constexpr,
    PRECISE: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Write the gradients of u, delta and z, and the parts of the others.

    ``state_grads`` (chunks, N + 2, width) holds the gradient of the state after each chunk; in the
    end, the chunk's parts of the gradients of A, D and the bias. ``parts`` (groups, 2, chunks,
    FRAMES, ROWS) gets those of B and C.
    """
    half = chunks.to(tl.int64) * FRAMES * ROWS
    for item in range(tl.program_id(0), chunks * groups, tl.num_programs(0)):
        chunk, group = item // groups, item % groups
        row, count = locate(chunk, table, T, chunks_a_video, FRAMES, REVERSE, PACKED)
        projection = chunk.to(tl.int64) * FRAMES * ROWS
        p_parts = parts + group.to(tl.int64) * 2 * half + projection
        for member in range(GROUP):
            block = group * GROUP + member
            if (count > 0) & (block * BLOCK < D):
                slot = scratch + tl.program_id(0).to(tl.int64) * (FRAMES // TILE) * N * slot_width
                d = block * BLOCK + tl.arange(0, BLOCK)
                p_grads = state_grads + chunk.to(tl.int64) * (N + 2) * width
                at, real = row * D, d < D
                shift = load_row(bias, d, real, HAS_BIAS)
                through = load_row(skip, d, real, HAS_SKIP)
                rate = load_states(a, tl.arange(0, ROWS), d, width, N, ROWS)
                find_states(
                    u + at, delta + at, rate, B + projection, shift,
                    states + chunk.to(tl.int64) * N * width, slot, slot_width, width, D, d, real,
                    count, N, ROWS, SOFTPLUS, REVERSE, EVEN, BLOCK, NATIVE, PRECISE,
                )  # fmt: skip
                walk_back(
                    grad_y + at, u + at, delta + at, rate, B + projection, C + projection, through,
                    z + at, shift, p_grads, slot, slot_width, grad_u + at, grad_delta + at,
                    grad_z + at, p_parts, half, member, width, D, d, real, count, N, ROWS,
                    HAS_Z, SOFTPLUS, REVERSE, EVEN, BLOCK, NATIVE, PRECISE, EXACT,
                )  # fmt: skip


@jit
def find_states(
    p_u, p_delta, rate, p_B, shift, p_state, slot, slot_width, width, D, d, real, count,
    N: tl.constexpr, ROWS: tl.constexpr, SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr,
    EVEN: tl.constexpr, BLOCK: tl.constexpr, NATIVE: tl.constexpr, PRECISE: tl.constexpr,
):  # fmt: skip
    """Walk a chunk forwards and leave the state before each tile in ``slot`` (tiles, N, BLOCK)."""
    i, n, lane = tl.arange(0, TILE), tl.arange(0, ROWS), tl.arange(0, BLOCK)
    h = load_states(p_state, n, d, width, N, ROWS)
    store_states(slot, h, n, lane, slot_width, N, ROWS)
    for tile in range((count - 1) // TILE):
        t = tile * TILE + i
        at = place(t, count, d, D, REVERSE)
        raw = load(p_delta, at, real, EVEN)
        value = load(p_u, at, real, EVEN)
        step = sized(raw, shift, t, count, SOFTPLUS, NATIVE, PRECISE)
        x = value * step
        for r in tl.static_range(TILE):
            gain = tl.load(p_B + (tile * TILE + r) * ROWS + n)
            h = advance(h, rate, row_of(step, i, r), row_of(x, i, r), gain, NATIVE, PRECISE)
        slot += N * slot_width
        store_states(slot, h, n, lane, slot_width, N, ROWS)


@jit
def walk_back(
    p_grad, p_u, p_delta, rate, p_B, p_C, through, p_z, shift, p_grads, slot, slot_width,
    p_grad_u, p_grad_delta, p_grad_z, p_parts, half, member, width, D, d, real, count,
    N: tl.constexpr, ROWS: tl.constexpr, HAS_Z: tl.constexpr, SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr, EVEN: tl.constexpr, BLOCK: tl.constexpr, NATIVE: tl.constexpr,
    PRECISE: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Walk a chunk's tiles from the last to the first and write all of its gradients."""
    i, n, lane = tl.arange(0, TILE), tl.arange(0, ROWS), tl.arange(0, BLOCK)
    columns = tl.where((lane // 4)[None, :] == (n % SUMS)[:, None], 1.0, 0.0)
    skip_sum, bias_sum = lane * 0.0, lane * 0.0
    g = load_states(p_grads, n, d, width, N, ROWS)
    a_sum = g * 0.0
    last_tile = (count - 1) // TILE
    for back in range(last_tile + 1):
        tile = last_tile - back
        t = tile * TILE + i
        there = (t < count)[:, None]
        at = place(t, count, d, D, REVERSE)
        raw = load(p_delta, at, real, EVEN)
        value = load(p_u, at, real, EVEN)
        grad = load(p_grad, at, real, EVEN)
        gate = load(p_z, at, real, EVEN) if HAS_Z else grad
        step = sized(raw, shift, t, count, SOFTPLUS, NATIVE, PRECISE)
        open_ = sigmoid(gate, NATIVE) if HAS_Z else step
        seen = tl.where(there, grad, 0.0)
        if HAS_Z:
            seen *= gate * open_
        x = value * step
        skip_sum += tl.sum(seen * value, axis=0)
        p_b, p_c = p_B + tile * TILE * ROWS + n, p_C + tile * TILE * ROWS + n
        h0 = load_states(slot + tile * N * slot_width, n, lane, slot_width, N, ROWS)
        h1 = step_on(h0, rate, step, x, p_b, i, 0, ROWS, NATIVE, PRECISE)
        h2 = step_on(h1, rate, step, x, p_b, i, 1, ROWS, NATIVE, PRECISE)
        h3 = step_on(h2, rate, step, x, p_b, i, 2, ROWS, NATIVE, PRECISE)
        h4 = step_on(h3, rate, step, x, p_b, i, 3, ROWS, NATIVE, PRECISE)
        out, x_grad, step_grad = value * through[None, :], step * 0.0, step * 0.0
        g, a_sum, out, x_grad, step_grad = step_back(
            g, a_sum, out, x_grad, step_grad, h3, h4, rate, step, x, seen, p_b, p_c, p_parts, half,
            member, columns, tile, i, 3, n, lane, ROWS, HAS_Z, NATIVE, PRECISE, EXACT,
        )  # fmt: skip
        g, a_sum, out, x_grad, step_grad = step_back(
            g, a_sum, out, x_grad, step_grad, h2, h3, rate, step, x, seen, p_b, p_c, p_parts, half,
            member, columns, tile, i, 2, n, lane, ROWS, HAS_Z, NATIVE, PRECISE, EXACT,
        )  # fmt: skip
        g, a_sum, out, x_grad, step_grad = step_back(
            g, a_sum, out, x_grad, step_grad, h1, h2, rate, step, x, seen, p_b, p_c, p_parts, half,
            member, columns, tile, i, 1, n, lane, ROWS, HAS_Z, NATIVE, PRECISE, EXACT,
        )  # fmt: skip
        g, a_sum, out, x_grad, step_grad = step_back(
            g, a_sum, out, x_grad, step_grad, h0, h1, rate, step, x, seen, p_b, p_c, p_parts, half,
            member, columns, tile, i, 0, n, lane, ROWS, HAS_Z, NATIVE, PRECISE, EXACT,
        )  # fmt: skip
        # the rates hold log2(e) A
        step_grad = step_grad * LN2 + x_grad * value
        if SOFTPLUS:
            step_grad *= sigmoid(raw + shift[None, :], NATIVE)
        step_grad = tl.where(there, step_grad, 0.0)
        bias_sum += tl.sum(step_grad, axis=0)
        here = there & real[None, :]
        tl.store(p_grad_delta + at, step_grad.to(p_grad_delta.dtype.element_ty), mask=here)
        value_grad = x_grad * step + seen * through[None, :]
        tl.store(p_grad_u + at, value_grad.to(p_grad_u.dtype.element_ty), mask=here)
        if HAS_Z:
            gate_grad = grad * out * open_ * (1.0 + gate * (1.0 - open_))
            tl.store(p_grad_z + at, gate_grad.to(p_grad_z.dtype.element_ty), mask=here)
    store_states(p_grads, a_sum, n, d, width, N, ROWS)
    tl.store(p_grads + N * width + d, skip_sum)
    tl.store(p_grads + (N + 1) * width + d, bias_sum)


@jit
def step_on(
    h, rate, step, x, p_b, i, r: tl.constexpr, ROWS: tl.constexpr, NATIVE: tl.constexpr,
    PRECISE: tl.constexpr,
):  # fmt: skip
    """The states after row r of a tile."""
    gain = tl.load(p_b + r * ROWS)
    return advance(h, rate, row_of(step, i, r), row_of(x, i, r), gain, NATIVE, PRECISE)


@jit
def step_back(
    g, a_sum, out, x_grad, step_grad, before, h, rate, step, x, seen, p_b, p_c, p_parts, half,
    member, columns, tile, i, r: tl.constexpr, n, lane, ROWS: tl.constexpr, HAS_Z: tl.constexpr,
    NATIVE: tl.constexpr, PRECISE: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Row r of a tile: what its output adds to the gradients, which then pass its decay."""
    gain, look = tl.load(p_b + r * ROWS), tl.load(p_c + r * ROWS)
    grad_r, step_r, x_r = row_of(seen, i, r), row_of(step, i, r), row_of(x, i, r)
    here = (i == r)[:, None]
    if HAS_Z:
        y = tl.sum(h * look[:, None], axis=0)
        out += tl.where(here, y[None, :], -0.0)
    g += grad_r[None, :] * look[:, None]
    add_to_parts(
        p_parts + (tile * TILE + r) * ROWS, half, g * x_r[None, :], grad_r[None, :] * h, columns,
        member, n, lane, ROWS, NATIVE, EXACT,
    )  # fmt: skip
    x_part = tl.sum(g * gain[:, None], axis=0)
    x_grad += tl.where(here, x_part[None, :], -0.0)
    exponent = step_r[None, :] * rate
    if PRECISE:
        g += exp2m1(exponent, NATIVE) * g
    else:
        g *= exp2(exponent, NATIVE)
    exponent_grad = g * before
    step_part = tl.sum(exponent_grad * rate, axis=0)
    step_grad += tl.where(here, step_part[None, :], -0.0)
    a_sum += exponent_grad * step_r[None, :]
    return g, a_sum, out, x_grad, step_grad


@jit
def add_to_parts(
    p_parts, half, b_terms, c_terms, columns, member, n, lane, ROWS: tl.constexpr,
    NATIVE: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Sum a frame over its channels and add it to what the blocks before it left."""
    if NATIVE:
        sums = sum_over_lanes(b_terms, c_terms, columns, EXACT)
        owned = owned_by(lane, EXACT)
        p_sums = p_parts + owned % SUMS + owned // SUMS * half
        for k in tl.static_range(0, ROWS, SUMS):
            total = row_of(sums, n, k)
            if member > 0:
                total += tl.load(p_sums + k)
            tl.store(p_sums + k, total)
    else:
        b_sum, c_sum = tl.sum(b_terms, axis=1), tl.sum(c_terms, axis=1)
        if member > 0:
            b_sum += tl.load(p_parts + n)
            c_sum += tl.load(p_parts + half + n)
        tl.store(p_parts + n, b_sum)
        tl.store(p_parts + half + n, c_sum)


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
    half = chunks.to(tl.int64) * FRAMES * ROWS
    p = parts + chunk.to(tl.int64) * FRAMES * ROWS + t[:, None] * ROWS + n[None, :]
    b = tl.load(p, mask=here, other=0.0)
    c = tl.load(p + half, mask=here, other=0.0)
    for group in range(1, groups):
        b += tl.load(p + 2 * group * half, mask=here, other=0.0)
        c += tl.load(p + (2 * group + 1) * half, mask=here, other=0.0)
    at = row * N + (-t if REVERSE else t)[:, None] * N + n[None, :]
    tl.store(grad_B + at, b.to(grad_B.dtype.element_ty), mask=here)
    tl.store(grad_C + at, c.to(grad_C.dtype.element_ty), mask=here)
