"""The gradients of a chunk in Triton, segment by segment from its last.

Every segment is walked forwards for the states before each tile of four frames, and backwards tile
by tile: a slice of four states after the other, so that all of a slice's states in a tile, and the
decays between them, fit into registers.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import (
    by_lanes,
    find_kept,
    jit,
    load_raw,
    load_row,
    load_states,
    locate,
    place,
    store_states,
)
from vidmamba.kernels.selective_scan.kernel_lanes import TILE
from vidmamba.kernels.selective_scan.kernel_memory import store
from vidmamba.kernels.selective_scan.kernel_pieces import (
    copy_pieces,
    find_pieces,
    load_pieces,
)
from vidmamba.kernels.selective_scan.kernel_room import (
    GRADS,
    RATE_GRADS,
    RATES,
    await_tiles,
    find_exchange,
    find_frames,
    find_room,
    find_rows_from,
    get,
    place_after,
    put,
)
from vidmamba.kernels.selective_scan.kernel_states import find_states, warm_segment
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
    NATIVE: tl.constexpr, PRECISE: tl.constexpr, EXACT: tl.constexpr, COPIED: tl.constexpr,
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
    room = find_room(aside, ROOM, COPIED)
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
        # a chunk that is not used may begin past all frames
        inside = tl.where(count > 0, row, 0) * D
        # what one way of loading has and the other has not
        raw, value, inputs_from, outputs_from = lane, lane, lane, lane
        if COPIED:
            # a tile past the chunk before was asked for
            await_tiles(room, 0, ROOM)
            inputs_from = find_pieces(delta + inside, u + inside, block * BLOCK, lane)
            beside = z if HAS_Z else grad_y
            outputs_from = find_pieces(grad_y + inside, beside + inside, block * BLOCK, lane)
            copy_pieces(
                find_frames(room, 2, ROOM), inputs_from, last_segment * span, every, D, lane,
                REVERSE, WHOLE,
            )  # fmt: skip
        else:
            at = place(last_segment * span, i, every, d, D, REVERSE, WHOLE) + inside
            raw = load_raw(delta, at, d < channels, EVEN, NATIVE)
            value = load_raw(u, at, d < channels, EVEN, NATIVE)
        # once entered, the rows of gradients of states wait for what is left in the end
        start = p_grads + block * BLOCK
        enter(a, p_grads, room, width, d, lane, N, ROWS, ROOM, NATIVE)
        for back in range(last_segment + 1):
            segment = last_segment - back
            p_state, columns = find_kept(
                states, video, before + segment, segments_a_video, d, state_width, N, REVERSE
            )
            # a turn is one segment or two, and so many are held
            within, slot = segment & (per - 1), chunk * slots + segment
            if TOGETHER:
                slot = seat * slots + (turn & (slots - 1))
            p_part = parts + ((slot.to(tl.int64) * blocks + block) * per + within) * size
            p_B = B + projection + segment * span * ROWS
            p_C = C + projection + segment * span * ROWS
            rows_from = find_rows_from(p_B, p_C, lane, ROOM)
            last = tl.cdiv(tl.minimum(count - segment * span, span), TILE) - 1
            first = segment * span
            begin = first + last * TILE
            if COPIED:
                ahead = load_pieces(outputs_from, begin, every, D, lane, REVERSE, WHOLE)
            else:
                at = place(begin, i, every, d, D, REVERSE, WHOLE) + row * D
                grad = load_raw(grad_y, at, d < channels, EVEN, NATIVE)
                gate = load_raw(z, at, d < channels, EVEN, NATIVE) if HAS_Z else grad
                ahead = (grad, gate)
            # a turn that has ended is told of while the states are on their way
            told = TOGETHER and turn > 0 and (back == 0 or within == per - 1)
            raw, value = find_states(
                raw, value, inputs_from, counter, told, p_state, columns, state_width, u + row * D,
                delta + row * D, p_B, shift, room, aside, start, width, rows_from, D, d, lane,
                channels, first, every, last, N, ROWS, ROOM, SOFTPLUS, REVERSE, EVEN, WHOLE, NATIVE,
                PRECISE, COPIED,
            )  # fmt: skip
            if told:
                add_up_parts(
                    parts, counter, grad_B, grad_C, table, T, chunks_a_video, frames,
                    chunk_before, first_before, turn, seat, slots, block, blocks, per * size,
                    lane, N, REVERSE, PACKED, ROWS, NATIVE,
                )  # fmt: skip
                if slots == 1:
                    await_readers(counter, turn, blocks)
            if NATIVE and EVEN:
                after = tl.maximum(before + segment - 1, 0)
                p_state, _ = find_kept(
                    states, video, after, segments_a_video, d, state_width, N, REVERSE
                )
                warm_segment(
                    u, delta, grad_y, z, p_state, row, (segment - 1) * span, span, block * BLOCK,
                    D, state_width, count, lane, N, HAS_Z, REVERSE,
                )  # fmt: skip
            await_tiles(room, 0, ROOM)
            skip_sum, bias_sum, raw, value = walk_back(
                skip_sum, bias_sum, raw, value, ahead, inputs_from, outputs_from, grad_y + row * D,
                u + row * D, delta + row * D, p_B, p_C, through, z + row * D, shift, room, exchange,
                aside, start, width, rows_from, grad_u + row * D, grad_delta + row * D,
                grad_z + row * D, p_part, D, d, lane, channels, first, first - span, every, last,
                ROWS, ROOM, HAS_Z, SOFTPLUS, REVERSE, EVEN, WHOLE, NATIVE, PRECISE, EXACT, COPIED,
            )  # fmt: skip
            if TOGETHER and within == 0:
                turn, chunk_before, first_before = turn + 1, chunk, first
        leave(p_grads, skip_sum, bias_sum, room, width, d, lane, N, ROWS, ROOM, NATIVE)
    await_tiles(room, 0, ROOM)
    if TOGETHER and turn > 0:
        leave_parts(counter)
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
