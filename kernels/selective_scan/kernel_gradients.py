"""The gradients of a chunk in Triton, segment by segment from its last.

Every segment is walked forwards for the states before each tile of four frames, and backwards tile
by tile: a slice of eight states after the other, so that all of a slice's states in a tile, and the
decays between them, fit into registers.
"""

# Triton's tuples grow, which mypy's do not
# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call,assignment,misc"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import (
    LN2,
    SEGMENT,
    advance,
    are_inside,
    by_lanes,
    jit,
    load_raw,
    load_row,
    locate,
    place,
    row_of,
    sigmoid,
    sized,
    softplus_and_slope,
)
from vidmamba.kernels.selective_scan.kernel_lanes import (
    SLICE,
    TILE,
    load_pair,
    warm,
)
from vidmamba.kernels.selective_scan.kernel_room import (
    GRADS,
    RATE_GRADS,
    RATES,
    SPAN,
    START,
    await_rows,
    copy_rows,
    fetch_back,
    find_exchange,
    find_room,
    get,
    get_projection,
    place_after,
    put,
    set_aside,
)
from vidmamba.kernels.selective_scan.kernel_slice import walk_slice


@jit
def gradients_kernel(
    grad_y, u, delta, a, B, C, skip, z, bias, states, state_grads, scratch,
    grad_u, grad_delta, grad_z, parts, table,
    T, D, width, chunks_a_video, chunks, N: tl.constexpr, groups, scratch_size, GROUP,
    HAS_SKIP: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr, PACKED: tl.constexpr, EVEN: tl.constexpr, WHOLE: tl.constexpr,
    FRAMES: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, ROOM: tl.constexpr,
    NATIVE: tl.constexpr, PRECISE: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Write the gradients of u, delta and z, and the parts of the others.

    ``state_grads`` (chunks, 2 N + 2, width) holds the gradient of the state after each chunk in
    its first N rows; in the end, in the others, the chunk's parts of the gradients of A, D and the
    bias. ``parts`` (groups, chunks, FRAMES / 4, ROWS / 8, 4, 2, 8) gets those of B and C.
    """
    lane = tl.arange(0, BLOCK)
    aside = scratch + tl.program_id(0).to(tl.int64) * scratch_size
    room = find_room(aside, ROOM)
    exchange = find_exchange(room, ROOM, NATIVE)
    for item in range(tl.program_id(0), chunks * groups, tl.num_programs(0)):
        chunk, group = item // groups, item % groups
        row, count = locate(chunk, table, T, chunks_a_video, FRAMES, REVERSE, PACKED)
        p_grads = state_grads + chunk.to(tl.int64) * (2 * N + 2) * width
        p_parts = parts + (group * chunks + chunk).to(tl.int64) * (FRAMES * ROWS * 2)
        last_segment = (count + SEGMENT - 1) // SEGMENT - 1
        members = tl.minimum(GROUP, tl.cdiv(D, BLOCK) - group * GROUP)
        for back in range(last_segment + 1):
            first = (last_segment - back) * SEGMENT
            kept = chunk * tl.cdiv(FRAMES, SEGMENT) + last_segment - back
            for member in range(members):
                block = group * GROUP + member
                # the next block's segment, or the segment before, is wanted next
                more = member + 1 < members
                if NATIVE and EVEN:
                    warm_segment(
                        u, delta, grad_y, z, states, p_grads, row, first - (0 if more else SEGMENT),
                        kept - (0 if more else 1), (block + 1 if more else group * GROUP) * BLOCK,
                        D, width, count, lane, N, HAS_Z, REVERSE,
                    )  # fmt: skip
                walk_segment(
                    grad_y, u, delta, a, B, C, skip, z, bias,
                    states + kept.to(tl.int64) * N * width, p_grads, aside, room, exchange,
                    grad_u, grad_delta, grad_z, p_parts, row * D, chunk, block * BLOCK + lane,
                    D, width, lane, first, count, by_lanes(count, NATIVE), member > 0, back > 0,
                    N, HAS_SKIP, HAS_Z, HAS_BIAS, SOFTPLUS, REVERSE, EVEN, WHOLE, FRAMES, ROWS,
                    ROOM, NATIVE, PRECISE, EXACT,
                )  # fmt: skip


@jit
def walk_segment(
    grad_y, u, delta, a, B, C, skip, z, bias, p_state, p_grads, aside, room, exchange,
    grad_u, grad_delta, grad_z, p_parts, at, chunk, d, D, width, lane, first, count, frames,
    follows, resumed,
    N: tl.constexpr, HAS_SKIP: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, EVEN: tl.constexpr, WHOLE: tl.constexpr,
    FRAMES: tl.constexpr, ROWS: tl.constexpr, ROOM: tl.constexpr, NATIVE: tl.constexpr,
    PRECISE: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Walk a segment of one block of channels: its spans forwards, then the same backwards.

    ``follows``: a block before has left its sums for B and C. ``resumed``: a segment after has left
    its sums for A, D and the bias. ``frames`` is ``count``, by lanes.
    """
    SPAN_FRAMES: tl.constexpr = SPAN if ROOM else SEGMENT
    n = tl.arange(0, SLICE)
    real = d < D
    shift, through = load_row(bias, d, real, HAS_BIAS), load_row(skip, d, real, HAS_SKIP)
    h, rates = enter(p_state, a, p_grads, aside, room, width, d, n, lane, resumed, N, ROWS, ROOM)
    p_sums = p_grads + 2 * N * width + d
    skip_sum = tl.load(p_sums, mask=resumed & (d >= 0), other=0.0)
    bias_sum = tl.load(p_sums + width, mask=resumed & (d >= 0), other=0.0)
    spans = tl.cdiv(tl.minimum(count - first, SEGMENT), SPAN_FRAMES)
    for s in range(spans):
        start = first + s * SPAN_FRAMES
        projection = (chunk.to(tl.int64) * FRAMES + start) * ROWS
        if (s > 0) | (not follows):  # else they are there
            copy_rows(room, B + projection, C + projection, ROOM)
        if ROOM and s > 0:
            swap_out(room, aside, n, lane, ROWS)
        h = find_states(
            h, u + at, delta + at, rates, B + projection, shift, room, D, d, lane, real, start,
            frames, s + 1 < spans, ROWS, ROOM, SOFTPLUS, REVERSE, EVEN, WHOLE, NATIVE, PRECISE,
        )  # fmt: skip
    for again in range(spans):
        s = spans - 1 - again
        start = first + s * SPAN_FRAMES
        projection = (chunk.to(tl.int64) * FRAMES + start) * ROWS
        if ROOM and again > 0:
            copy_rows(room, B + projection, C + projection, ROOM)
            swap_in(room, aside, n, lane, ROWS)
        skip_sum, bias_sum = walk_back(
            skip_sum, bias_sum, grad_y + at, u + at, delta + at, B + projection, C + projection,
            through, z + at, shift, room, exchange, aside + (8 - s) * (ROWS * 32), grad_u + at,
            grad_delta + at, grad_z + at, p_parts + start * (ROWS * 2), follows, D, d, lane, real,
            start, frames, ROWS, ROOM, HAS_Z, SOFTPLUS, REVERSE, EVEN, WHOLE, NATIVE, PRECISE,
            EXACT,
        )  # fmt: skip
    leave(p_grads, room, width, d, n, lane, N, ROWS, ROOM)
    tl.store(p_sums, skip_sum)
    tl.store(p_sums + width, bias_sum)


@jit
def enter(
    p_state, a, p_grads, aside, room, width, d, n, lane, resumed, N: tl.constexpr,
    ROWS: tl.constexpr, ROOM: tl.constexpr,
):  # fmt: skip
    """Fill the room with what a segment begins with; return the states before it and the rates."""
    h, rates = (), ()
    for k in tl.static_range(ROWS // SLICE):
        h = h + (load_slice(p_state, k, d, width, True, N),)  # noqa: RUF005
        rate = load_slice(a, k, d, width, True, N)
        rates = rates + (rate,)  # noqa: RUF005
        put(room, place_after(RATES, ROOM), k, rate, n, lane, ROWS, ROOM)
        x = load_slice(p_grads, k, d, width, True, N)
        put(room, place_after(GRADS, ROOM), k, x, n, lane, ROWS, ROOM)
        x = load_slice(p_grads + N * width, k, d, width, resumed, N)
        put(room, place_after(RATE_GRADS, ROOM), k, x, n, lane, ROWS, ROOM)
        if ROOM:
            set_aside(aside + (8 * ROWS + k * SLICE) * 32, h[k], n, lane)
        else:
            put(room, place_after(START, ROOM), k, h[k], n, lane, ROWS, ROOM)
    return h, rates


@jit
def leave(
    p_grads, room, width, d, n, lane, N: tl.constexpr, ROWS: tl.constexpr, ROOM: tl.constexpr
):  # fmt: skip
    """Write the gradients of the states before a segment, and the sums for A."""
    for k in tl.static_range(ROWS // SLICE):
        x = get(room, place_after(GRADS, ROOM), k, n, lane, ROWS, ROOM)
        store_slice(p_grads, x, k, d, width, N)
        x = get(room, place_after(RATE_GRADS, ROOM), k, n, lane, ROWS, ROOM)
        store_slice(p_grads + N * width, x, k, d, width, N)


@jit
def warm_segment(
    u, delta, grad_y, z, states, p_grads, row, first, kept, channel, D, width, count, lane,
    N: tl.constexpr, HAS_Z: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """Ask for what the walk over a segment reads first, to be in the L2 cache by then."""
    for half in tl.static_range(SEGMENT // 32):
        t = tl.minimum(tl.maximum(first, 0) + half * 32 + lane, count - 1)
        frame = (row + (-t if REVERSE else t)) * D + channel
        warm(u + frame)
        warm(delta + frame)
        warm(grad_y + frame)
        if HAS_Z:
            warm(z + frame)
    # two lanes a row of 32 channels
    some = tl.minimum(lane // 2, N - 1) * width + lane % 2 * 16 + channel
    warm(states + tl.maximum(kept, 0).to(tl.int64) * N * width + some)
    warm(p_grads + some)


@jit
def load_slice(p, k, d, width, there, N: tl.constexpr):
    """States or rates of a slice and a block of channels as (8, BLOCK), zero from N on."""
    n = k * SLICE + tl.arange(0, SLICE)
    return tl.load(p + n[:, None] * width + d[None, :], mask=(n < N)[:, None] & there, other=0.0)


@jit
def store_slice(p, x, k, d, width, N: tl.constexpr):
    """The opposite of `load_slice`."""
    n = k * SLICE + tl.arange(0, SLICE)
    tl.store(p + n[:, None] * width + d[None, :], x, mask=(n < N)[:, None] & (d >= 0)[None, :])


@jit
def swap_out(room, aside, n, lane, ROWS: tl.constexpr):
    """Move a span's states from the room to memory."""
    for place_ in range(8):
        for k in tl.static_range(ROWS // SLICE):
            x = get(room, place_, k, n, lane, ROWS, True)
            set_aside(aside + (place_ * ROWS + k * SLICE) * 32, x, n, lane)


@jit
def swap_in(room, aside, n, lane, ROWS: tl.constexpr):
    """The opposite of `swap_out`."""
    for place_ in range(7):
        for k in tl.static_range(ROWS // SLICE):
            x = fetch_back(aside + (place_ * ROWS + k * SLICE) * 32, n, lane)
            put(room, place_, k, x, n, lane, ROWS, True)


@jit
def find_states(
    h, p_u, p_delta, rates, p_B, shift, room, D, d, lane, real, start, count, whole,
    ROWS: tl.constexpr, ROOM: tl.constexpr, SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr, EVEN: tl.constexpr, WHOLE: tl.constexpr, NATIVE: tl.constexpr,
    PRECISE: tl.constexpr,
):  # fmt: skip
    """Walk a span forwards and leave the state after each tile, of the last only if whole."""
    i, n = tl.arange(0, TILE), tl.arange(0, SLICE)
    at = place(start, i, count, d, D, REVERSE, WHOLE)
    raw_ahead, value_ahead = load_raw(p_delta, at, real, EVEN), load_raw(p_u, at, real, EVEN)
    await_rows(room, ROOM)
    walked = tl.minimum(count - start, SPAN if ROOM else SEGMENT)
    for tile in range(walked // TILE if whole else (walked - 1) // TILE):
        raw, value = raw_ahead.to(tl.float32), value_ahead.to(tl.float32)
        t = start + tile * TILE
        at = place(t + TILE, i, count, d, D, REVERSE, WHOLE)
        raw_ahead, value_ahead = load_raw(p_delta, at, real, EVEN), load_raw(p_u, at, real, EVEN)
        there = are_inside(t, i, count, WHOLE)
        step = sized(raw, shift, there, SOFTPLUS, NATIVE, PRECISE)
        x = value * step
        for r in tl.static_range(TILE):
            after = ()
            for k in tl.static_range(ROWS // SLICE):
                row = (tile * TILE + r) * ROWS + k * SLICE
                gain = get_projection(room, p_B, 0, row, n, lane, ROOM)
                one = advance(
                    h[k], rates[k], row_of(step, i, r), row_of(x, i, r), gain, NATIVE, PRECISE
                )
                after = after + (one,)  # noqa: RUF005
            h = after
        for k in tl.static_range(ROWS // SLICE):
            put(room, tile, k, h[k], n, lane, ROWS, ROOM)
    return h


@jit
def walk_back(
    skip_sum, bias_sum, p_grad, p_u, p_delta, p_B, p_C, through, p_z, shift, room, exchange,
    p_start, p_grad_u, p_grad_delta, p_grad_z, p_parts, follows, D, d, lane, real, start, count,
    ROWS: tl.constexpr, ROOM: tl.constexpr, HAS_Z: tl.constexpr, SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr, EVEN: tl.constexpr, WHOLE: tl.constexpr, NATIVE: tl.constexpr,
    PRECISE: tl.constexpr,
    EXACT: tl.constexpr,
):  # fmt: skip
    """Walk a span's tiles from the last to the first and write all of its gradients."""
    i, n = tl.arange(0, TILE), tl.arange(0, SLICE)
    last_tile = (tl.minimum(count - start, SPAN if ROOM else SEGMENT) - 1) // TILE
    at = place(start + last_tile * TILE, i, count, d, D, REVERSE, WHOLE)
    raw_ahead, value_ahead = load_raw(p_delta, at, real, EVEN), load_raw(p_u, at, real, EVEN)
    grad_ahead = load_raw(p_grad, at, real, EVEN)
    gate_ahead = load_raw(p_z, at, real, EVEN) if HAS_Z else grad_ahead
    await_rows(room, ROOM)
    p_pairs = p_parts + lane * 2
    before = load_pair(p_pairs + last_tile * (TILE * ROWS * 2), follows, NATIVE)
    for back in range(last_tile + 1):
        tile = last_tile - back
        t = start + tile * TILE
        there = are_inside(t, i, count, WHOLE)
        at = place(t, i, count, d, D, REVERSE, WHOLE)
        raw, value = raw_ahead.to(tl.float32), value_ahead.to(tl.float32)
        grad, gate = grad_ahead.to(tl.float32), gate_ahead.to(tl.float32)
        ahead = place(t - TILE, i, count, d, D, REVERSE, WHOLE)
        raw_ahead = load_raw(p_delta, ahead, real, EVEN)
        value_ahead = load_raw(p_u, ahead, real, EVEN)
        grad_ahead = load_raw(p_grad, ahead, real, EVEN)
        gate_ahead = load_raw(p_z, ahead, real, EVEN) if HAS_Z else grad_ahead
        step, slope = raw + shift[None, :], raw
        if SOFTPLUS:
            step, slope = softplus_and_slope(step, NATIVE, PRECISE)
        step = tl.where(there, step, 0.0)
        seen = tl.where(there, grad, 0.0)
        gate_slope = seen
        if HAS_Z:
            open_ = sigmoid(gate, NATIVE)
            gate_slope = grad * open_ * (1.0 + gate * (1.0 - open_))
            seen *= gate * open_
        x = value * step
        skip_sum += tl.sum(seen * value, axis=0)
        out, x_grad, step_grad = value * through[None, :], step * 0.0, step * 0.0
        for q in tl.range(0, ROWS // SLICE, loop_unroll_factor=2):
            if tile > 0:
                h = get(room, tile - 1, q, n, lane, ROWS, ROOM)
            elif ROOM:
                h = fetch_back(p_start + q * (SLICE * 32), n, lane)
            else:
                h = get(room, place_after(START, ROOM), q, n, lane, ROWS, ROOM)
            # what the blocks before left of the next slice's sums: to wait for it takes long
            more = q + 1 < ROWS // SLICE
            place_ = tl.maximum(tile - (0 if more else 1), 0) * (ROWS // SLICE)
            place_ += q + 1 if more else 0
            following = load_pair(p_pairs + place_ * (TILE * SLICE * 2), follows, NATIVE)
            out, x_grad, step_grad = walk_slice(
                q, h, before, out, x_grad, step_grad, step, x, seen, room,
                exchange + tile * (ROWS * 128) if ROOM else exchange, p_B, p_C, tile,
                p_parts + tile * (TILE * ROWS * 2) + q * (TILE * SLICE * 2), follows, lane,
                ROWS, ROOM, HAS_Z, NATIVE, PRECISE, EXACT,
            )  # fmt: skip
            before = following
        # the rates hold log2(e) A
        step_grad = step_grad * LN2 + x_grad * value
        if SOFTPLUS:
            step_grad *= slope
        step_grad = tl.where(there, step_grad, 0.0)
        bias_sum += tl.sum(step_grad, axis=0)
        here = there & real[None, :]
        tl.store(p_grad_delta + at, step_grad.to(p_grad_delta.dtype.element_ty), mask=here)
        value_grad = x_grad * step + seen * through[None, :]
        tl.store(p_grad_u + at, value_grad.to(p_grad_u.dtype.element_ty), mask=here)
        if HAS_Z:
            tl.store(p_grad_z + at, (out * gate_slope).to(p_grad_z.dtype.element_ty), mask=here)
    return skip_sum, bias_sum
