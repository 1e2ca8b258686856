"""The gradients of a chunk in Triton, segment by segment from its last.

Every segment is walked forwards for the states before each tile of four frames, and backwards tile
by tile: a slice of four states after the other, so that all of a slice's states in a tile, and the
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
    load_states,
    locate,
    place,
    row_of,
    sigmoid,
    sized,
    softplus_and_slope,
    store_states,
)
from vidmamba.kernels.selective_scan.kernel_lanes import (
    SLICE,
    TILE,
    add_pair,
    sum_over_eight,
    warm,
)
from vidmamba.kernels.selective_scan.kernel_memory import load, store
from vidmamba.kernels.selective_scan.kernel_room import (
    GRADS,
    RATE_GRADS,
    RATES,
    RING,
    START,
    WAIT_BACKWARDS,
    WAIT_FOR_ALL,
    WAIT_FORWARDS,
    await_tile,
    copy_tile,
    find_exchange,
    find_room,
    find_rows_from,
    get,
    get_frames,
    get_projection,
    place_after,
    put,
    put_frames,
    set_aside,
)
from vidmamba.kernels.selective_scan.kernel_slice import walk_slice


@jit
def gradients_kernel(
    grad_y, u, delta, a, B, C, skip, z, bias, states, state_grads, scratch,
    grad_u, grad_delta, grad_z, parts, table,
    T, D, channels, width, frames, chunks_a_video, segments_a_video, chunks, N: tl.constexpr,
    groups, group_size, scratch_size, state_width, begun,
    HAS_SKIP: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr, PACKED: tl.constexpr, EVEN: tl.constexpr, WHOLE: tl.constexpr,
    BLOCK: tl.constexpr, ROWS: tl.constexpr, ROOM: tl.constexpr,
    NATIVE: tl.constexpr, PRECISE: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Write the gradients of u, delta and z, and the parts of the others.

    ``states`` (videos, segments_a_video, N, state_width) holds the state before each segment.
    ``state_grads`` (chunks, 2 N + 2, width) holds the gradient of the state after each chunk in
    its first N rows; in the end, in the others, the chunk's parts of the gradients of A, D and the
    bias. ``parts`` (groups, chunks, frames / 4, ROWS / 4, 4, 2, 4) gets those of B and C,
    added to what channels before have left there if they have ``begun``.
    """
    lane = tl.arange(0, BLOCK)
    aside = scratch + tl.program_id(0).to(tl.int64) * scratch_size
    room = find_room(aside, ROOM)
    exchange = find_exchange(room, ROOM, NATIVE)
    for item in range(tl.program_id(0), chunks * groups, tl.num_programs(0)):
        chunk, group = item // groups, item % groups
        row, count = locate(chunk, table, T, chunks_a_video, frames, REVERSE, PACKED)
        p_grads = state_grads + chunk.to(tl.int64) * (2 * N + 2) * width
        p_parts = parts + (group * chunks + chunk).to(tl.int64) * (frames * ROWS * 2)
        segments = tl.cdiv(frames, SEGMENT)
        kept = chunk // chunks_a_video * segments_a_video + chunk % chunks_a_video * segments
        projection = chunk.to(tl.int64) * frames * ROWS
        last_segment = (count + SEGMENT - 1) // SEGMENT - 1
        members = tl.minimum(group_size, tl.cdiv(channels, BLOCK) - group * group_size)
        for back in range(last_segment + 1):
            first = (last_segment - back) * SEGMENT
            before = kept + last_segment - back
            for member in range(members):
                block = group * group_size + member
                # the next block's segment, or the segment before, is wanted next
                more = member + 1 < members
                if NATIVE and EVEN:
                    warm_segment(
                        u, delta, grad_y, z, states, p_grads, row, first - (0 if more else SEGMENT),
                        before - (0 if more else 1),
                        (block + 1 if more else group * group_size) * BLOCK,
                        D, width, state_width, count, lane, N, HAS_Z, REVERSE,
                    )  # fmt: skip
                walk_segment(
                    grad_y, u, delta, a, B + projection, C + projection, skip, z, bias,
                    states + before.to(tl.int64) * N * state_width, p_grads, aside, room, exchange,
                    grad_u, grad_delta, grad_z, p_parts, row * D, block * BLOCK + lane,
                    D, channels, width, state_width, lane, first, count, by_lanes(count, NATIVE),
                    member > 0, (member > 0) | (begun > 0), back > 0, N, HAS_SKIP, HAS_Z,
                    HAS_BIAS, SOFTPLUS, REVERSE, EVEN, WHOLE, ROWS, ROOM, NATIVE, PRECISE, EXACT,
                )  # fmt: skip


@jit
def walk_segment(
    grad_y, u, delta, a, B, C, skip, z, bias, p_state, p_grads, aside, room, exchange,
    grad_u, grad_delta, grad_z, p_parts, at, d, D, channels, width, state_width, lane, first, count,
    frames, repeated, follows, resumed,
    N: tl.constexpr, HAS_SKIP: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, EVEN: tl.constexpr, WHOLE: tl.constexpr,
    ROWS: tl.constexpr, ROOM: tl.constexpr, NATIVE: tl.constexpr,
    PRECISE: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Walk a segment of one block of channels, forwards for its states, then backwards.

    ``repeated``: a block before has walked it, and left the rows of its first tiles. ``follows``: a
    block before has left its sums for B and C. ``resumed``: a segment after has left
    its sums for A, D and the bias. ``frames`` is ``count``, by lanes.
    """
    n = tl.arange(0, ROWS)
    real = d < channels
    shift, through = (
        load_row(bias, d, real, HAS_BIAS, NATIVE),
        load_row(skip, d, real, HAS_SKIP, NATIVE),
    )
    h, rates = enter(
        p_state,
        a,
        p_grads,
        aside,
        room,
        width,
        state_width,
        d,
        n,
        lane,
        resumed,
        N,
        ROWS,
        ROOM,
        NATIVE,
    )
    p_sums, always = p_grads + 2 * N * width, d >= 0
    skip_sum = load(p_sums, d, resumed & always, NATIVE)
    bias_sum = load(p_sums + width, d, resumed & always, NATIVE)
    p_B, p_C = B + first * ROWS, C + first * ROWS
    rows_from = find_rows_from(p_B, p_C, lane, ROOM)
    last = tl.cdiv(tl.minimum(count - first, SEGMENT), TILE) - 1
    for tile in tl.static_range(RING):
        copy_tile(room, tile, aside, rows_from, False, not repeated, ROOM)
    raw, value = find_states(
        h, u + at, delta + at, rates, p_B, shift, room, aside, rows_from, D, d, lane, real, first,
        frames, last, ROWS, ROOM, SOFTPLUS, REVERSE, EVEN, WHOLE, NATIVE, PRECISE,
    )  # fmt: skip
    await_tile(room, WAIT_FOR_ALL, ROOM)
    skip_sum, bias_sum = walk_back(
        skip_sum, bias_sum, raw, value, grad_y + at, u + at, delta + at, p_B, p_C, through, z + at,
        shift, room, exchange, aside, rows_from, grad_u + at, grad_delta + at, grad_z + at,
        p_parts + first * (ROWS * 2), follows, D, d, lane, real, first, frames, last, ROWS, ROOM,
        HAS_Z, SOFTPLUS, REVERSE, EVEN, WHOLE, NATIVE, PRECISE, EXACT,
    )  # fmt: skip
    leave(p_grads, room, width, d, n, lane, N, ROWS, ROOM, NATIVE)
    store(p_sums, d, skip_sum, always, NATIVE)
    store(p_sums + width, d, bias_sum, always, NATIVE)


@jit
def enter(
    p_state, a, p_grads, aside, room, width, state_width, d, n, lane, resumed, N: tl.constexpr,
    ROWS: tl.constexpr, ROOM: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    """Fill the room with what a segment begins with; return the states before it and the rates."""
    rates = load_states(a, n, d, width, N, ROWS, NATIVE)
    put(room, place_after(RATES, ROOM), 0, rates, n, lane, ROWS, ROOM, NATIVE)
    x = load_states(p_grads, n, d, width, N, ROWS, NATIVE)
    put(room, place_after(GRADS, ROOM), 0, x, n, lane, ROWS, ROOM, NATIVE)
    x = load_states(p_grads + N * width, n, d, width, N, ROWS, NATIVE)
    x = tl.where(resumed, x, 0.0)
    put(room, place_after(RATE_GRADS, ROOM), 0, x, n, lane, ROWS, ROOM, NATIVE)
    h = load_states(p_state, n, d, state_width, N, ROWS, NATIVE)
    # the last slot is theirs if the segment has few tiles
    put(room, RING - 1 if ROOM else place_after(START, ROOM), 0, h, n, lane, ROWS, ROOM, NATIVE)
    if ROOM:
        set_aside(aside, h, n, lane)
    return h, rates


@jit
def leave(
    p_grads, room, width, d, n, lane, N: tl.constexpr, ROWS: tl.constexpr, ROOM: tl.constexpr,
    NATIVE: tl.constexpr,
):  # fmt: skip
    """Write the gradients of the states before a segment, and the sums for A."""
    x = get(room, place_after(GRADS, ROOM), 0, n, lane, ROWS, ROOM, NATIVE)
    store_states(p_grads, x, n, d, width, N, NATIVE)
    x = get(room, place_after(RATE_GRADS, ROOM), 0, n, lane, ROWS, ROOM, NATIVE)
    store_states(p_grads + N * width, x, n, d, width, N, NATIVE)


@jit
def warm_segment(
    u, delta, grad_y, z, states, p_grads, row, first, kept, channel, D, width, state_width,
    count, lane, N: tl.constexpr, HAS_Z: tl.constexpr, REVERSE: tl.constexpr,
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
    n, some = tl.minimum(lane // 2, N - 1), lane % 2 * 16 + channel
    warm(states + (tl.maximum(kept, 0).to(tl.int64) * N + n) * state_width + some)
    warm(p_grads + n * width + some)


@jit
def find_states(
    h, p_u, p_delta, rates, p_B, shift, room, aside, rows_from, D, d, lane, real, first, count,
    last, ROWS: tl.constexpr, ROOM: tl.constexpr, SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr,
    EVEN: tl.constexpr, WHOLE: tl.constexpr, NATIVE: tl.constexpr, PRECISE: tl.constexpr,
):  # fmt: skip
    """Walk a segment forwards and leave the state after each tile; return the last tile's inputs.

    The last three lie in their slots, the others wait aside.
    """
    i, n = tl.arange(0, TILE), tl.arange(0, ROWS)
    at = place(first, i, count, d, D, REVERSE, WHOLE)
    raw_ahead = load_raw(p_delta, at, real, EVEN, NATIVE)
    value_ahead = load_raw(p_u, at, real, EVEN, NATIVE)
    for tile in range(last):
        raw, value = raw_ahead.to(tl.float32), value_ahead.to(tl.float32)
        t = first + tile * TILE
        at = place(t + TILE, i, count, d, D, REVERSE, WHOLE)
        raw_ahead = load_raw(p_delta, at, real, EVEN, NATIVE)
        value_ahead = load_raw(p_u, at, real, EVEN, NATIVE)
        there = are_inside(t, i, count, WHOLE)
        step = sized(raw, shift, there, SOFTPLUS, NATIVE, PRECISE)
        x = value * step
        await_tile(room, WAIT_FORWARDS, ROOM)
        for r in tl.static_range(TILE):
            gain = get_projection(room, p_B, 0, tile, r, 0, n, lane, ROWS, ROOM, NATIVE)
            h = advance(h, rates, row_of(step, i, r), row_of(x, i, r), gain, NATIVE, PRECISE)
        if ROOM and tile + RING <= last:
            set_aside(aside + (tile + 1) * ROWS * 32, h, n, lane)
        else:
            put(room, tile % RING if ROOM else tile, 0, h, n, lane, ROWS, ROOM, NATIVE)
        copy_tile(room, tile + RING, aside, rows_from, False, tile + RING <= last, ROOM)
    return raw_ahead, value_ahead


@jit
def walk_back(
    skip_sum, bias_sum, raw_ahead, value_ahead, p_grad, p_u, p_delta, p_B, p_C, through, p_z,
    shift, room, exchange, aside, rows_from, p_grad_u, p_grad_delta, p_grad_z, p_parts, follows, D,
    d, lane, real, first, count, last,
    ROWS: tl.constexpr, ROOM: tl.constexpr, HAS_Z: tl.constexpr, SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr, EVEN: tl.constexpr, WHOLE: tl.constexpr, NATIVE: tl.constexpr,
    PRECISE: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Walk a segment's tiles from the last to the first and write all of its gradients."""
    i, n = tl.arange(0, TILE), tl.arange(0, SLICE)
    at = place(first + last * TILE, i, count, d, D, REVERSE, WHOLE)
    grad_ahead = load_raw(p_grad, at, real, EVEN, NATIVE)
    gate_ahead = load_raw(p_z, at, real, EVEN, NATIVE) if HAS_Z else grad_ahead
    p_pairs = p_parts + lane * 2
    for back in range(last + 1):
        tile = last - back
        t = first + tile * TILE
        there = are_inside(t, i, count, WHOLE)
        at = place(t, i, count, d, D, REVERSE, WHOLE)
        raw, value = raw_ahead.to(tl.float32), value_ahead.to(tl.float32)
        grad, gate = grad_ahead.to(tl.float32), gate_ahead.to(tl.float32)
        ahead = place(t - TILE, i, count, d, D, REVERSE, WHOLE)
        raw_ahead = load_raw(p_delta, ahead, real, EVEN, NATIVE)
        value_ahead = load_raw(p_u, ahead, real, EVEN, NATIVE)
        grad_ahead = load_raw(p_grad, ahead, real, EVEN, NATIVE)
        gate_ahead = load_raw(p_z, ahead, real, EVEN, NATIVE) if HAS_Z else grad_ahead
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
        await_tile(room, WAIT_BACKWARDS, ROOM)
        if ROOM:
            place_ = (tile + RING - 1) % RING
        else:
            place_ = tl.where(tile > 0, tile - 1, place_after(START, ROOM))
        put_frames(room, 0, slope, i, lane, ROOM)
        if HAS_Z:
            put_frames(room, 1, gate_slope, i, lane, ROOM)
        x = value * step
        skip_sum += tl.sum(seen * value, axis=0)
        out = value * through[None, :]
        x_grad, step_grad = tl.zeros_like(out), tl.zeros_like(out)
        for pair in tl.range(0, ROWS // (2 * SLICE), loop_unroll_factor=2):
            sums = ()
            for k in tl.static_range(2):
                q = 2 * pair + k
                # the second case never comes: it keeps ptxas from spilling, which it would to have
                # the loads of all slices at once
                if tile >= 0:
                    h = get(room, place_, q, n, lane, ROWS, ROOM, NATIVE)
                else:
                    h = get(room, place_after(GRADS, ROOM), q, n, lane, ROWS, ROOM, NATIVE)
                out, x_grad, step_grad, two = walk_slice(
                    q, h, out, x_grad, step_grad, step, x, seen, room, p_B, p_C, tile,
                    p_parts + (tile * ROWS + q * SLICE) * (TILE * 2), follows, lane,
                    ROWS, ROOM, HAS_Z, NATIVE, PRECISE, EXACT,
                )  # fmt: skip
                sums = sums + two
            if NATIVE:
                swap = exchange + tile % RING * (ROWS * 128) if ROOM else exchange
                one, two = sum_over_eight(sums[0], sums[1], sums[2], sums[3], swap, n, lane)
                p_pair = p_pairs + (tile * ROWS + pair * (2 * SLICE)) * (TILE * 2)
                add_pair(p_pair, one, two, follows)
        # the rates hold log2(e) A
        step_grad = step_grad * LN2 + x_grad * value
        if SOFTPLUS:
            step_grad *= get_frames(room, 0, slope, i, lane, ROOM)
        step_grad = tl.where(there, step_grad, 0.0)
        bias_sum += tl.sum(step_grad, axis=0)
        here = there & real[None, :]
        store(p_grad_delta, at, step_grad, here, NATIVE)
        value_grad = x_grad * step + seen * through[None, :]
        store(p_grad_u, at, value_grad, here, NATIVE)
        if HAS_Z:
            gate_slope = get_frames(room, 1, gate_slope, i, lane, ROOM)
            store(p_grad_z, at, out * gate_slope, here, NATIVE)
        copy_tile(room, tile - RING, aside, rows_from, tile + 1 >= RING, tile >= RING, ROOM)
    return skip_sum, bias_sum
