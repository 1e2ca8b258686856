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
    put_pair,
    sum_over_eight,
    warm,
)
from vidmamba.kernels.selective_scan.kernel_memory import store
from vidmamba.kernels.selective_scan.kernel_room import (
    GRADS,
    RATE_GRADS,
    RATES,
    START,
    await_tiles,
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
from vidmamba.kernels.selective_scan.kernel_together import (
    COUNTER,
    add_up_parts,
    leave_parts,
)


@jit
def gradients_kernel(
    grad_y, u, delta, a, B, C, skip, z, bias, states, state_grads, scratch,
    grad_u, grad_delta, grad_z, parts, counters, grad_B, grad_C, table,
    T, D, channels, width, frames, chunks_a_video, segments_a_video, chunks, N: tl.constexpr,
    span, blocks, slots, scratch_size, state_width,
    HAS_SKIP: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr, PACKED: tl.constexpr, EVEN: tl.constexpr, WHOLE: tl.constexpr,
    BLOCK: tl.constexpr, ROWS: tl.constexpr, ROOM: tl.constexpr, TOGETHER: tl.constexpr,
    NATIVE: tl.constexpr, PRECISE: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Write the gradients of u, delta and z, and the parts of the others.

    A program walks a block of channels through every so manyth chunk. ``states`` (videos,
    segments_a_video, N, state_width) holds the state before each segment of ``span`` frames.
    ``state_grads`` (chunks, N + 2, width) holds the gradient of the state after each chunk in its
    first N rows; in the end, the chunk's parts of the gradients of A, D and the bias. ``parts``
    (chunks, slots, blocks, span / 4, ROWS / 4, 4, 2, 4) gets those of B and C; if the programs of a
    chunk add them up TOGETHER, it has room for as many chunks as are walked at a time.
    """
    lane = tl.arange(0, BLOCK)
    place, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    abreast = tl.num_programs(0) // blocks
    aside = scratch + tl.program_id(0).to(tl.int64) * scratch_size
    room = find_room(aside, ROOM)
    exchange = find_exchange(room, ROOM, NATIVE)
    size = span * (ROWS * 2)
    counter = counters + place * COUNTER
    d = block * BLOCK + lane
    shift = load_row(bias, d, d < channels, HAS_BIAS, NATIVE)
    through = load_row(skip, d, d < channels, HAS_SKIP, NATIVE)
    turn, chunk_before, first_before = 0, 0, 0
    for others in range(0, chunks - place, abreast):
        chunk = place + others
        row, count = locate(chunk, table, T, chunks_a_video, frames, REVERSE, PACKED)
        p_grads = state_grads + chunk.to(tl.int64) * (N + 2) * width
        kept = chunk // chunks_a_video * segments_a_video
        kept += chunk % chunks_a_video * tl.cdiv(frames, span)
        projection = chunk.to(tl.int64) * frames * ROWS
        last_segment = (count + span - 1) // span - 1
        skip_sum, bias_sum = lane * 0.0, lane * 0.0
        enter(a, p_grads, room, width, d, lane, N, ROWS, ROOM, NATIVE)
        for back in range(last_segment + 1):
            segment = last_segment - back
            before = kept + segment
            if NATIVE and EVEN:
                warm_segment(
                    u, delta, grad_y, z, states, row, (segment - 1) * span, before - 1,
                    block * BLOCK, D, state_width, count, lane, N, HAS_Z, REVERSE,
                )  # fmt: skip
            slot = place * slots + turn % slots if TOGETHER else chunk * slots + segment
            p_part = parts + slot.to(tl.int64) * blocks * size
            p_B = B + projection + segment * span * ROWS
            p_C = C + projection + segment * span * ROWS
            rows_from = find_rows_from(p_B, p_C, lane, ROOM)
            last = tl.cdiv(tl.minimum(count - segment * span, span), TILE) - 1
            first, every = segment * span, by_lanes(count, NATIVE)
            raw, value = find_states(
                states + before.to(tl.int64) * N * state_width, state_width, u + row * D,
                delta + row * D, p_B, shift, room, aside, rows_from, D, d, lane, channels,
                first, every, last, N, ROWS, ROOM, SOFTPLUS, REVERSE, EVEN, WHOLE, NATIVE,
                PRECISE,
            )  # fmt: skip
            if TOGETHER and turn > 0:
                add_up_parts(
                    parts, counter, grad_B, grad_C, table, T, chunks_a_video, frames,
                    chunk_before, first_before, turn, place, slots, block, blocks, size, lane,
                    N, REVERSE, PACKED, ROWS, NATIVE,
                )  # fmt: skip
            await_tiles(room, 0, ROOM)
            skip_sum, bias_sum = walk_back(
                skip_sum, bias_sum, raw, value, grad_y + row * D, u + row * D, delta + row * D,
                p_B, p_C, through, z + row * D, shift, room, exchange, aside, rows_from,
                grad_u + row * D, grad_delta + row * D, grad_z + row * D, p_part + block * size,
                D, d, lane, channels, first, every, last, ROWS, ROOM,
                HAS_Z, SOFTPLUS, REVERSE, EVEN, WHOLE, NATIVE, PRECISE, EXACT,
            )  # fmt: skip
            if TOGETHER:
                leave_parts(counter)
                turn, chunk_before, first_before = turn + 1, chunk, first
        leave(p_grads, skip_sum, bias_sum, room, width, d, lane, N, ROWS, ROOM, NATIVE)
    if TOGETHER and turn > 0:
        add_up_parts(
            parts, counter, grad_B, grad_C, table, T, chunks_a_video, frames, chunk_before,
            first_before, turn, place, slots, block, blocks, size, lane, N, REVERSE, PACKED, ROWS,
            NATIVE,
        )  # fmt: skip


@jit
def enter(
    a, p_grads, room, width, d, lane, N: tl.constexpr, ROWS: tl.constexpr, ROOM: tl.constexpr,
    NATIVE: tl.constexpr,
):  # fmt: skip
    """Fill the room with what a chunk begins with."""
    n = tl.arange(0, ROWS)
    x = load_states(a, n, d, width, N, ROWS, NATIVE)
    put(room, place_after(RATES, ROOM), 0, x, n, lane, ROWS, ROOM, NATIVE)
    x = load_states(p_grads, n, d, width, N, ROWS, NATIVE)
    put(room, place_after(GRADS, ROOM), 0, x, n, lane, ROWS, ROOM, NATIVE)
    put(room, place_after(RATE_GRADS, ROOM), 0, x * 0.0, n, lane, ROWS, ROOM, NATIVE)


@jit
def leave(
    p_grads, skip_sum, bias_sum, room, width, d, lane, N: tl.constexpr, ROWS: tl.constexpr,
    ROOM: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    """Write the chunk's sums for A, D and the bias."""
    n = tl.arange(0, ROWS)
    x = get(room, place_after(RATE_GRADS, ROOM), 0, n, lane, ROWS, ROOM, NATIVE)
    store_states(p_grads, x, n, d, width, N, NATIVE)
    store(p_grads + N * width, d, skip_sum, d >= 0, NATIVE)
    store(p_grads + (N + 1) * width, d, bias_sum, d >= 0, NATIVE)


@jit
def warm_segment(
    u, delta, grad_y, z, states, row, first, kept, channel, D, state_width, count, lane,
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
    n, some = tl.minimum(lane // 2, N - 1), lane % 2 * 16 + channel
    warm(states + (tl.maximum(kept, 0).to(tl.int64) * N + n) * state_width + some)


@jit
def find_states(
    p_state, state_width, p_u, p_delta, p_B, shift, room, aside, rows_from, D, d, lane, channels,
    first, count, last, N: tl.constexpr, ROWS: tl.constexpr, ROOM: tl.constexpr,
    SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr, EVEN: tl.constexpr, WHOLE: tl.constexpr,
    NATIVE: tl.constexpr, PRECISE: tl.constexpr,
):  # fmt: skip
    """Walk a segment forwards and leave the state after each tile; return the last tile's inputs.

    The last lie in their slots, the others wait aside.
    """
    i, n = tl.arange(0, TILE), tl.arange(0, ROWS)
    real = d < channels
    for tile in tl.static_range(ROOM):
        copy_tile(room, tile, aside, rows_from, False, True, ROOM)
    h = load_states(p_state, n, d, state_width, N, ROWS, NATIVE)
    # the last slot is theirs if the segment has few tiles; if it has as many as there are slots,
    # sums over lanes pass through that slot first
    put(room, ROOM - 1 if ROOM else place_after(START, ROOM), 0, h, n, lane, ROWS, ROOM, NATIVE)
    if ROOM:
        set_aside(aside, h, n, lane)
    rates = get(room, place_after(RATES, ROOM), 0, n, lane, ROWS, ROOM, NATIVE)
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
        await_tiles(room, ROOM - 1, ROOM)
        for r in tl.static_range(TILE):
            gain = get_projection(room, p_B, 0, tile, r, 0, n, lane, ROWS, ROOM, NATIVE)
            h = advance(h, rates, row_of(step, i, r), row_of(x, i, r), gain, NATIVE, PRECISE)
        if ROOM and tile + ROOM <= last:
            set_aside(aside + (tile + 1) * ROWS * 32, h, n, lane)
        else:
            put(room, tile % ROOM if ROOM else tile, 0, h, n, lane, ROWS, ROOM, NATIVE)
        copy_tile(room, tile + ROOM, aside, rows_from, False, tile + ROOM <= last, ROOM)
    return raw_ahead, value_ahead


@jit
def walk_back(
    skip_sum, bias_sum, raw_ahead, value_ahead, p_grad, p_u, p_delta, p_B, p_C, through, p_z,
    shift, room, exchange, aside, rows_from, p_grad_u, p_grad_delta, p_grad_z, p_part, D,
    d, lane, channels, first, count, last,
    ROWS: tl.constexpr, ROOM: tl.constexpr, HAS_Z: tl.constexpr, SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr, EVEN: tl.constexpr, WHOLE: tl.constexpr, NATIVE: tl.constexpr,
    PRECISE: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Walk a segment's tiles from the last to the first and write all of its gradients."""
    i, n = tl.arange(0, TILE), tl.arange(0, SLICE)
    real = d < channels
    at = place(first + last * TILE, i, count, d, D, REVERSE, WHOLE)
    grad_ahead = load_raw(p_grad, at, real, EVEN, NATIVE)
    gate_ahead = load_raw(p_z, at, real, EVEN, NATIVE) if HAS_Z else grad_ahead
    p_pairs = p_part + lane * 2
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
        await_tiles(room, ROOM - 2, ROOM)
        if ROOM:
            place_ = (tile + ROOM - 1) % ROOM
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
                    p_part + (tile * ROWS + q * SLICE) * (TILE * 2), lane,
                    ROWS, ROOM, HAS_Z, NATIVE, PRECISE, EXACT,
                )  # fmt: skip
                sums = sums + two
            if NATIVE:
                swap = exchange + tile % ROOM * (ROWS * 128) if ROOM else exchange
                one, two = sum_over_eight(sums[0], sums[1], sums[2], sums[3], swap, n, lane)
                p_pair = p_pairs + (tile * ROWS + pair * (2 * SLICE)) * (TILE * 2)
                put_pair(p_pair, one, two)
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
        copy_tile(room, tile - ROOM, aside, rows_from, tile + 1 >= ROOM, tile >= ROOM, ROOM)
    return skip_sum, bias_sum
