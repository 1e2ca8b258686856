"""The gradients of a chunk in Triton, segment by segment from its last.

Every segment is walked forwards for the states before each tile of four frames, and backwards tile
by tile: a slice of four states after the other, so that all of a slice's states in a tile, and the
decays between them, fit into registers.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import (
    advance,
    are_inside,
    by_lanes,
    find_kept,
    jit,
    load_raw,
    load_row,
    load_states,
    locate,
    place,
    row_of,
    sized,
    store_states,
)
from vidmamba.kernels.selective_scan.kernel_lanes import TILE, warm
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
    get_projection,
    place_after,
    put,
    set_aside,
)
from vidmamba.kernels.selective_scan.kernel_together import (
    COUNTER,
    add_up_parts,
    await_readers,
    leave_parts,
)
from vidmamba.kernels.selective_scan.kernel_walk import walk_back


@jit
def gradients_kernel(
    grad_y, u, delta, a, B, C, skip, z, bias, states, state_grads, scratch,
    grad_u, grad_delta, grad_z, parts, counters, grad_B, grad_C, table,
    T, D, channels, width, frames, chunks_a_video, segments_a_video, chunks, N: tl.constexpr,
    span, per, blocks, slots, scratch_size, state_width,
    HAS_SKIP: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr, PACKED: tl.constexpr, EVEN: tl.constexpr, WHOLE: tl.constexpr,
    BLOCK: tl.constexpr, ROWS: tl.constexpr, ROOM: tl.constexpr, TOGETHER: tl.constexpr,
    NATIVE: tl.constexpr, PRECISE: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Write the gradients of u, delta and z, and the parts of the others.

    A program walks a block of channels through every so manyth chunk. ``states`` (videos,
    segments_a_video, N, state_width) holds the state before each segment of ``span`` frames, where
    ``grad_u`` may be written. ``state_grads`` (chunks, ROWS + 2, width) holds the gradient of the
    state after each chunk in its first N rows; in the end, the chunk's parts of the gradients of A,
    D and the bias. ``parts`` (chunks, slots, blocks, per span / 4, ROWS / 4, 4, 2, 4) gets those of
    B and C, in a slot those of ``per`` segments; if the programs of a chunk add them up TOGETHER,
    it has room for as many chunks as are walked at a time.
    """
    i, lane = tl.arange(0, TILE), tl.arange(0, BLOCK)
    seat, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    abreast = tl.num_programs(0) // blocks
    aside = scratch + tl.program_id(0).to(tl.int64) * scratch_size
    room = find_room(aside, ROOM)
    exchange = find_exchange(room, ROOM, NATIVE)
    size = span * (ROWS * 2)
    counter = counters + seat * COUNTER
    d = block * BLOCK + lane
    shift = load_row(bias, d, d < channels, HAS_BIAS, NATIVE)
    through = load_row(skip, d, d < channels, HAS_SKIP, NATIVE)
    turn, chunk_before, first_before = 0, 0, 0
    for others in range(0, chunks - seat, abreast):
        chunk = seat + others
        row, count = locate(chunk, table, T, chunks_a_video, frames, REVERSE, PACKED)
        p_grads = state_grads + chunk.to(tl.int64) * (ROWS + 2) * width
        video = chunk // chunks_a_video
        before = chunk % chunks_a_video * tl.cdiv(frames, span)
        projection = chunk.to(tl.int64) * frames * ROWS
        last_segment = (count + span - 1) // span - 1
        skip_sum, bias_sum = lane * 0.0, lane * 0.0
        every = by_lanes(count, NATIVE)
        at = place(last_segment * span, i, every, d, D, REVERSE, WHOLE)
        at += tl.where(count > 0, row, 0) * D  # a chunk that is not used may begin past all frames
        raw = load_raw(delta, at, d < channels, EVEN, NATIVE)
        value = load_raw(u, at, d < channels, EVEN, NATIVE)
        # once entered, the rows of gradients of states wait for what is left in the end
        start = p_grads + block * BLOCK
        enter(a, p_grads, room, width, d, lane, N, ROWS, ROOM, NATIVE)
        for back in range(last_segment + 1):
            segment = last_segment - back
            if NATIVE and EVEN:
                after = tl.maximum(before + segment - 1, 0)
                p_state, _ = find_kept(
                    states, video, after, segments_a_video, d, state_width, N, REVERSE
                )
                warm_segment(
                    u, delta, grad_y, z, p_state, row, (segment - 1) * span, span, block * BLOCK,
                    D, state_width, count, lane, N, HAS_Z, REVERSE,
                )  # fmt: skip
            p_state, columns = find_kept(
                states, video, before + segment, segments_a_video, d, state_width, N, REVERSE
            )
            within, slot = segment % per, chunk * slots + segment
            if TOGETHER:
                slot = seat * slots + turn % slots
            p_part = parts + ((slot.to(tl.int64) * blocks + block) * per + within) * size
            p_B = B + projection + segment * span * ROWS
            p_C = C + projection + segment * span * ROWS
            rows_from = find_rows_from(p_B, p_C, lane, ROOM)
            last = tl.cdiv(tl.minimum(count - segment * span, span), TILE) - 1
            first = segment * span
            at = place(first + last * TILE, i, every, d, D, REVERSE, WHOLE) + row * D
            grad = load_raw(grad_y, at, d < channels, EVEN, NATIVE)
            gate = load_raw(z, at, d < channels, EVEN, NATIVE) if HAS_Z else grad
            raw, value = find_states(
                raw, value, p_state, columns, state_width, u + row * D, delta + row * D, p_B,
                shift, room, aside, start, width, rows_from, D, d, lane, channels, first, every,
                last, N, ROWS, ROOM, SOFTPLUS, REVERSE, EVEN, WHOLE, NATIVE, PRECISE,
            )  # fmt: skip
            if TOGETHER and turn > 0 and (back == 0 or within == per - 1):
                add_up_parts(
                    parts, counter, grad_B, grad_C, table, T, chunks_a_video, frames,
                    chunk_before, first_before, turn, seat, slots, block, blocks, per * size,
                    lane, N, REVERSE, PACKED, ROWS, NATIVE,
                )  # fmt: skip
                if slots == 1:
                    await_readers(counter, turn, blocks)
            await_tiles(room, 0, ROOM)
            skip_sum, bias_sum, raw, value = walk_back(
                skip_sum, bias_sum, raw, value, grad, gate, grad_y + row * D, u + row * D,
                delta + row * D, p_B, p_C, through, z + row * D, shift, room, exchange, aside,
                start, width, rows_from, grad_u + row * D, grad_delta + row * D, grad_z + row * D,
                p_part, D, d, lane, channels, first, first - span, every, last, ROWS, ROOM, HAS_Z,
                SOFTPLUS, REVERSE, EVEN, WHOLE, NATIVE, PRECISE, EXACT,
            )  # fmt: skip
            if TOGETHER and within == 0:
                leave_parts(counter)
                turn, chunk_before, first_before = turn + 1, chunk, first
        leave(p_grads, skip_sum, bias_sum, room, width, d, lane, N, ROWS, ROOM, NATIVE)
    if TOGETHER and turn > 0:
        add_up_parts(
            parts, counter, grad_B, grad_C, table, T, chunks_a_video, frames, chunk_before,
            first_before, turn, seat, slots, block, blocks, per * size, lane, N, REVERSE, PACKED,
            ROWS, NATIVE,
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
    u, delta, grad_y, z, p_state, row, first, span, channel, D, state_width, count, lane,
    N: tl.constexpr, HAS_Z: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """Ask for what the walk over a segment reads first, to be in the L2 cache by then."""
    for some in range(0, span, 32):
        t = tl.minimum(tl.maximum(first, 0) + some + lane, count - 1)
        frame = (row + (-t if REVERSE else t)) * D + channel
        warm(u + frame)
        warm(delta + frame)
        warm(grad_y + frame)
        if HAS_Z:
            warm(z + frame)
    # two lanes a row of 32 channels, whose halves lie apart
    n = tl.minimum(lane // 2, N - 1)
    warm(p_state + n * state_width + lane % 2 * (state_width // 2) + channel // 2)


@jit
def find_states(
    raw_ahead, value_ahead, p_state, columns, state_width, p_u, p_delta, p_B, shift, room, aside,
    start, width, rows_from, D, d, lane, channels, first, count, last, N: tl.constexpr,
    ROWS: tl.constexpr, ROOM: tl.constexpr, SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr,
    EVEN: tl.constexpr, WHOLE: tl.constexpr, NATIVE: tl.constexpr, PRECISE: tl.constexpr,
):  # fmt: skip
    """Walk a segment forwards and leave the state after each tile; return the last tile's inputs.

    The last lie in their slots, the others wait aside. The first tile's inputs are given.
    """
    i, n = tl.arange(0, TILE), tl.arange(0, ROWS)
    real = d < channels
    h = load_states(p_state, n, columns, state_width, N, ROWS, NATIVE)
    for tile in tl.static_range(ROOM):  # chunks are whole segments, of no fewer tiles
        copy_tile(room, tile, aside, rows_from, False, True, ROOM)
    # the last slot is theirs if the segment has few tiles; if it has as many as there are slots,
    # sums over lanes pass through that slot first
    put(room, ROOM - 1 if ROOM else place_after(START, ROOM), 0, h, n, lane, ROWS, ROOM, NATIVE)
    if ROOM:
        set_aside(start, width * 4, h, n, lane)
    rates = get(room, place_after(RATES, ROOM), 0, n, lane, ROWS, ROOM, NATIVE)
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
            set_aside(aside + tile * ROWS * 32, 128, h, n, lane)
        else:
            put(room, tile % ROOM if ROOM else tile, 0, h, n, lane, ROWS, ROOM, NATIVE)
        copy_tile(room, tile + ROOM, aside, rows_from, False, tile + ROOM <= last, ROOM)
    return raw_ahead, value_ahead
