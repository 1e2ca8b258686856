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
    exp2,
    exp2m1,
    jit,
    load,
    load_row,
    load_states,
    locate,
    place,
    row_of,
    scan_tile,
    sigmoid,
    sized,
    store_states,
)

TILE = 8  # frames of a tile: what the exchanges between lanes are written for


def _write_sums_exactly() -> str:
    """PTX: of 16 values in each of 32 lanes, lane l gets all lanes' sum of value l % 16.

    Each round halves the values: a lane keeps one half, gives the other to its partner and adds
    what it gets. That is 16 exchanges for 16 values, where summing each on its own takes 80.
    """
    lines = [
        "{ .reg .pred p; .reg .b32 lane, bit; .reg .f32 k<16>, s;",
        "mov.u32 lane, %laneid;",
        *(f"mov.f32 k{i}, ${TILE + i};" for i in range(16)),
    ]
    half = TILE
    while half:
        lines += _write_halving(range(2 * half), half)
        half //= 2
    lines += _write_adding("k0", 16)
    lines += [f"mov.f32 ${i}, k0;" for i in range(TILE)]
    return "\n".join(lines) + "\n}"


def _write_sums_by_products() -> str:
    """PTX: of 16 values in each of 32 lanes, lane l gets all lanes' sum of the value it is told.

    Four small matrix products add up lanes four by four, with inputs cut to TF32's 10 bits, which
    is more than bfloat16 keeps of the sum; column 2 i + j of the result gets values 4 i + 2 j and
    4 i + 2 j + 1 of product i. What remains are exchanges of four values between eight lanes. The
    last eight operands select columns: one where operand i belongs to the lane's column.
    """
    lines = [
        "{ .reg .pred p; .reg .b32 lane, bit, v<16>, e<8>; .reg .f32 k<4>, s;",
        "mov.u32 lane, %laneid;",
        *(f"mov.b32 v{i}, ${TILE + i};" for i in range(16)),
        *(f"mov.b32 e{i}, ${TILE + 16 + i};" for i in range(8)),
        *(f"mov.f32 k{i}, 0f00000000;" for i in range(4)),
    ]
    for i in range(4):
        rows = f"v{4 * i}, v{4 * i + 1}, v{4 * i + 2}, v{4 * i + 3}"
        lines.append(
            "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
            f"{{k0, k2, k1, k3}}, {{{rows}}}, {{e{2 * i}, e{2 * i + 1}}}, {{k0, k2, k1, k3}};"
        )
    lines += _write_halving(range(4), 2, lanes=16)
    lines += _write_halving(range(2), 1, lanes=8)
    lines += _write_adding("k0", 4)
    lines += [f"mov.f32 ${i}, k0;" for i in range(TILE)]
    return "\n".join(lines) + "\n}"


def _write_halving(values: range, half: int, lanes: int = 0) -> list[str]:
    """Keep the half of the values that the lane's bit says, and add its partner's."""
    lanes = lanes or half
    lines = [f"and.b32 bit, lane, {lanes}; setp.ne.u32 p, bit, 0;"]
    for i in values[:half]:
        lines.append(f"selp.f32 s, k{i}, k{i + half}, p;")
        lines.append(f"selp.f32 k{i}, k{i + half}, k{i}, p;")
        lines.append(f"shfl.sync.bfly.b32 s, s, {lanes}, 0x1f, 0xffffffff;")
        lines.append(f"add.f32 k{i}, k{i}, s;")
    return lines


def _write_adding(value: str, lanes: int) -> list[str]:
    exchange = f"shfl.sync.bfly.b32 s, {value}, {lanes}, 0x1f, 0xffffffff;"
    return [exchange, f"add.f32 {value}, {value}, s;"]


EXACTLY = tl.constexpr(_write_sums_exactly())
EXACTLY_OPERANDS = tl.constexpr(",".join(["=f"] * 8 + ["f"] * 16))
BY_PRODUCTS = tl.constexpr(_write_sums_by_products())
BY_PRODUCTS_OPERANDS = tl.constexpr(",".join(["=f"] * 8 + ["f"] * 24))


@jit
def sum_over_lanes(first, second, columns, i, EXACT: tl.constexpr):
    """Lane l: the sum over channels of one row of the first or the second tile; see `owned_by`.

    A program must be one warp, and a block 32 channels.
    """
    if EXACT:
        sums = tl.inline_asm_elementwise(
            EXACTLY, EXACTLY_OPERANDS, [first, second], dtype=tl.float32, is_pure=False, pack=8
        )
    else:
        sums = tl.inline_asm_elementwise(
            BY_PRODUCTS, BY_PRODUCTS_OPERANDS, [first, second, columns], dtype=tl.float32,
            is_pure=False, pack=8,
        )  # fmt: skip
    return row_of(sums, i, 0)


@jit
def owned_by(lane, EXACT: tl.constexpr):
    """Which of the 16 rows of two tiles the lane gets the sum of."""
    if EXACT:
        return lane % 16
    return lane % 4 * 4 + lane // 16 * 2 + lane // 8 % 2


@jit
def chunk_grads_kernel(
    grad_y, delta, a, C, z, bias, ends, sums, table, T, D2, width, chunks_a_video,
    N: tl.constexpr, blocks,
    HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr,
    PACKED: tl.constexpr, EVEN: tl.constexpr, FRAMES: tl.constexpr, TILE: tl.constexpr,
    BLOCK: tl.constexpr, UNIT: tl.constexpr, ROWS: tl.constexpr, NATIVE: tl.constexpr,
    PRECISE: tl.constexpr,
):  # fmt: skip
    """Write what each chunk's own outputs send to the state before it, and its sum of steps."""
    D = D2 * UNIT
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
    grad_y, u, delta, a, by_state, skip, z, bias, states, state_grads, scratch,
    grad_u, grad_delta, grad_z, parts, table,
    T, D, width, chunks_a_video, chunks, N: tl.constexpr, groups,
    HAS_SKIP: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr, PACKED: tl.constexpr, EVEN: tl.constexpr, FRAMES: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr,
    NATIVE: tl.constexpr, PRECISE: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Write the gradients of u, delta and z, and the parts of the others.

    ``by_state`` (2, chunks, N, FRAMES) has B and C over time.

    ``state_grads`` (chunks, N + 2, width) holds the gradient of the state after each chunk; in the
    end, the chunk's parts of the gradients of A, D and the bias. ``parts`` (groups, 2, chunks, N,
    FRAMES) gets those of B and C.
    """
    half = chunks.to(tl.int64) * N * FRAMES
    for item in range(tl.program_id(0), chunks * groups, tl.num_programs(0)):
        chunk, group = item // groups, item % groups
        row, count = locate(chunk, table, T, chunks_a_video, FRAMES, REVERSE, PACKED)
        projection = chunk.to(tl.int64) * N * FRAMES
        p_parts = parts + group.to(tl.int64) * 2 * half + projection
        for member in range(GROUP):
            block = group * GROUP + member
            if (count > 0) & (block * BLOCK < D):
                slot = scratch + tl.program_id(0).to(tl.int64) * (FRAMES // TILE + 1) * N * BLOCK
                d = block * BLOCK + tl.arange(0, BLOCK)
                p_state = states + chunk.to(tl.int64) * N * width + d
                p_grads = state_grads + chunk.to(tl.int64) * (N + 2) * width + d
                at, real = row * D, d < D
                shift = load_row(bias, d, real, HAS_BIAS)
                through = load_row(skip, d, real, HAS_SKIP)
                find_states(
                    u + at, delta + at, a, by_state + projection, shift, p_state, slot, width, D, d,
                    real, count, N, SOFTPLUS, REVERSE, EVEN, FRAMES, TILE, BLOCK, NATIVE, PRECISE,
                )  # fmt: skip
                walk_back(
                    grad_y + at, u + at, delta + at, a, by_state + projection,
                    by_state + half + projection, through, z + at, shift, p_grads, slot,
                    grad_u + at, grad_delta + at, grad_z + at, p_parts, half, member, width, D, d, real, count, N,
                    HAS_Z, SOFTPLUS, REVERSE, EVEN, FRAMES, TILE, BLOCK, NATIVE, PRECISE, EXACT,
                )  # fmt: skip


@jit
def find_states(
    p_u, p_delta, a, p_B, shift, p_state, slot, width, D, d, real, count, N: tl.constexpr,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, EVEN: tl.constexpr, FRAMES: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr, NATIVE: tl.constexpr, PRECISE: tl.constexpr,
):  # fmt: skip
    """Walk a chunk forwards and leave the state before each tile in ``slot`` (tiles, N, BLOCK)."""
    i = tl.arange(0, TILE)
    slot += tl.arange(0, BLOCK)
    for n in range(N):
        tl.store(slot + n * BLOCK, tl.load(p_state + n * width))
    for tile in range((count - 1) // TILE):
        t = tile * TILE + i
        at = place(t, count, d, D, REVERSE)
        raw = load(p_delta, at, real, EVEN)
        value = load(p_u, at, real, EVEN)
        step = sized(raw, shift, t, count, SOFTPLUS, NATIVE, PRECISE)
        x = value * step
        rate, gain, h = tl.load(a + d), tl.load(p_B + t), tl.load(slot)
        for n in tl.range(0, N, loop_unroll_factor=2):
            ahead = tl.minimum(n + 1, N - 1)
            rate_ahead, gain_ahead = (
                tl.load(a + ahead * width + d),
                tl.load(p_B + ahead * FRAMES + t),
            )
            h_ahead = tl.load(slot + ahead * BLOCK)
            h = scan_tile(h, step * rate[None, :], x * gain[:, None], i, NATIVE, PRECISE)
            tl.store(slot + (N + n) * BLOCK, row_of(h, i, TILE - 1))
            rate, gain, h = rate_ahead, gain_ahead, h_ahead
        slot += N * BLOCK


@jit
def walk_back(
    p_grad, p_u, p_delta, a, p_B, p_C, through, p_z, shift, p_grads, slot,
    p_grad_u, p_grad_delta, p_grad_z, p_parts, half, member, width, D, d, real, count,
    N: tl.constexpr, HAS_Z: tl.constexpr, SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr,
    EVEN: tl.constexpr, FRAMES: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
    NATIVE: tl.constexpr, PRECISE: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Walk a chunk's tiles from the last to the first and write all of its gradients."""
    i, lane = tl.arange(0, TILE), tl.arange(0, BLOCK)
    skip_sum, bias_sum = lane * 0.0, lane * 0.0
    columns = tl.where((lane // 4)[None, :] == i[:, None], 1.0, 0.0)
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
        if HAS_Z:
            grad *= gate * sigmoid(gate, NATIVE)
        grad = tl.where(there, grad, 0.0)
        x = value * step
        skip_sum += tl.sum(grad * value, axis=0)
        out = value * through[None, :]
        x_grad, step_grad = step * 0.0, step * 0.0
        p_slot, p_sums = slot + tile * N * BLOCK + lane, slot + FRAMES // TILE * N * BLOCK + lane
        rate, before, carried = tl.load(a + d), tl.load(p_slot), tl.load(p_grads)
        gain, look = tl.load(p_B + t), tl.load(p_C + t)
        for n in range(N):
            # what the next state needs is read before this one's work, which hides the wait
            ahead = tl.minimum(n + 1, N - 1)
            rate_ahead, before_ahead = (
                tl.load(a + ahead * width + d),
                tl.load(p_slot + ahead * BLOCK),
            )
            gain_ahead, look_ahead = (
                tl.load(p_B + ahead * FRAMES + t),
                tl.load(p_C + ahead * FRAMES + t),
            )
            carried_ahead = tl.load(p_grads + ahead * width)
            a_sum = tl.load(p_sums + n * BLOCK) if back > 0 else lane * 0.0
            exponent = step * rate[None, :]
            b = x * gain[:, None]
            h = scan_tile(before, exponent, b, i, NATIVE, PRECISE)
            if HAS_Z:
                out += h * look[:, None]
            # against time, row by row; rows are registers, so this only renames
            decay = exp2m1(exponent, NATIVE) if PRECISE else exp2(exponent, NATIVE)
            source = grad * look[:, None]
            g = source
            for r in tl.static_range(TILE - 1, -1, -1):
                now = row_of(source, i, r) + carried
                g = tl.where((i == r)[:, None], now[None, :], g)
                carried = row_of(decay, i, r) * now
                if PRECISE:
                    carried += now
            x_grad += g * gain[:, None]
            # h - b is what the decay let through
            exponent_grad = g * (h - b)
            step_grad += exponent_grad * rate[None, :]
            a_sum += tl.sum(exponent_grad * step, axis=0)
            # the first tile comes last: then the chunk's part of A's gradient takes the place
            tl.store(p_sums + n * BLOCK, a_sum)
            tl.store(p_grads + n * width, carried if tile > 0 else a_sum)
            add_to_parts(
                p_parts + n * FRAMES + tile * TILE, half, g * x, grad * h, columns, member, i,
                lane, TILE, NATIVE, EXACT,
            )  # fmt: skip
            rate, before, carried = rate_ahead, before_ahead, carried_ahead
            gain, look = gain_ahead, look_ahead
        # a holds log2(e) A
        step_grad = step_grad * LN2 + x_grad * value
        raw = load(p_delta, at, real, EVEN)
        if SOFTPLUS:
            step_grad *= sigmoid(raw + shift[None, :], NATIVE)
        step_grad = tl.where(there, step_grad, 0.0)
        bias_sum += tl.sum(step_grad, axis=0)
        here = there & real[None, :]
        tl.store(p_grad_delta + at, step_grad.to(p_grad_delta.dtype.element_ty), mask=here)
        value_grad = x_grad * step + grad * through[None, :]
        tl.store(p_grad_u + at, value_grad.to(p_grad_u.dtype.element_ty), mask=here)
        if HAS_Z:
            gate = load(p_z, at, real, EVEN)
            open_ = sigmoid(gate, NATIVE)
            slope = open_ * (1.0 + gate * (1.0 - open_))
            gate_grad = load(p_grad, at, real, EVEN) * out * slope
            tl.store(p_grad_z + at, gate_grad.to(p_grad_z.dtype.element_ty), mask=here)
    tl.store(p_grads + N * width, skip_sum)
    tl.store(p_grads + (N + 1) * width, bias_sum)


@jit
def add_to_parts(
    p_parts, half, b_terms, c_terms, columns, member, i, lane, TILE: tl.constexpr,
    NATIVE: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Sum a tile over its channels and add it to what the blocks before it left."""
    if NATIVE:
        sums = sum_over_lanes(b_terms, c_terms, columns, i, EXACT)
        owned = owned_by(lane, EXACT)
        p_sums = p_parts + owned % TILE + owned // TILE * half
        if member > 0:
            sums += tl.load(p_sums)
        tl.store(p_sums, sums)
    else:
        b_sum, c_sum = tl.sum(b_terms, axis=1), tl.sum(c_terms, axis=1)
        if member > 0:
            b_sum += tl.load(p_parts + i)
            c_sum += tl.load(p_parts + half + i)
        tl.store(p_parts + i, b_sum)
        tl.store(p_parts + half + i, c_sum)


@jit
def projection_grads_kernel(
    parts, grad_B, grad_C, table, T, chunks_a_video, chunks, N, groups,
    REVERSE: tl.constexpr, PACKED: tl.constexpr, FRAMES: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Sum the groups' parts of the gradients of B and C, front to back, into (rows, N)."""
    chunk = tl.program_id(0)
    row, count = locate(chunk, table, T, chunks_a_video, FRAMES, REVERSE, PACKED)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    t = tl.arange(0, FRAMES)
    here = (t < count)[:, None] & (n < N)[None, :]
    half = chunks.to(tl.int64) * N * FRAMES
    p = parts + ((chunk.to(tl.int64) * N + n) * FRAMES)[None, :] + t[:, None]
    b = tl.load(p, mask=here, other=0.0)
    c = tl.load(p + half, mask=here, other=0.0)
    for group in range(1, groups):
        b += tl.load(p + 2 * group * half, mask=here, other=0.0)
        c += tl.load(p + (2 * group + 1) * half, mask=here, other=0.0)
    at = row * N + (-t if REVERSE else t)[:, None] * N + n[None, :]
    tl.store(grad_B + at, b.to(grad_B.dtype.element_ty), mask=here)
    tl.store(grad_C + at, c.to(grad_C.dtype.element_ty), mask=here)
