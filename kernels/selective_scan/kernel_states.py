"""A segment walked forwards in Triton, for the states from which it is walked back."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import (
    advance,
    are_inside,
    jit,
    load_raw,
    load_states,
    place,
    row_of,
    sized,
)
from vidmamba.kernels.selective_scan.kernel_lanes import TILE, warm
from vidmamba.kernels.selective_scan.kernel_memory import load_shared
from vidmamba.kernels.selective_scan.kernel_pieces import HALF, copy_pieces
from vidmamba.kernels.selective_scan.kernel_room import (
    RATES,
    START,
    await_tiles,
    copy_tile,
    find_frames,
    get,
    get_projection,
    place_after,
    put,
    set_aside,
)
from vidmamba.kernels.selective_scan.kernel_rows import close_fetch
from vidmamba.kernels.selective_scan.kernel_together import leave_parts


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
    raw_ahead, value_ahead, inputs_from, counter, told, p_state, columns, state_width, p_u, p_delta,
    p_B, shift, room, aside, start, width, rows_from, D, d, lane, channels, first, count, last,
    N: tl.constexpr,
    ROWS: tl.constexpr, ROOM: tl.constexpr, SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr,
    EVEN: tl.constexpr, WHOLE: tl.constexpr, NATIVE: tl.constexpr, PRECISE: tl.constexpr,
    COPIED: tl.constexpr,
):  # fmt: skip
    """Walk a segment forwards and leave the state after each tile; return the last tile's inputs.

    The last lie in their slots, the others wait aside. The first tile's inputs are given.
    """
    i, n = tl.arange(0, TILE), tl.arange(0, ROWS)
    real = d < channels
    h = load_states(p_state, n, columns, state_width, N, ROWS, NATIVE)
    for tile in tl.static_range(ROOM):  # chunks are whole segments, of no fewer tiles
        copy_tile(room, tile, aside, rows_from, False, True, ROOM)
        close_fetch(room, ROOM > 0)
    if told:
        leave_parts(counter)
    # the last slot is theirs if the segment has few tiles; if it has as many as there are slots,
    # sums over lanes pass through that slot first
    put(room, ROOM - 1 if ROOM else place_after(START, ROOM), 0, h, n, lane, ROWS, ROOM, NATIVE)
    if ROOM:
        set_aside(start, width * 4, h, n, lane)
    rates = get(room, place_after(RATES, ROOM), 0, n, lane, ROWS, ROOM, NATIVE)
    for tile in range(last):
        t = first + tile * TILE
        if COPIED:
            await_tiles(room, 1, ROOM)
            here = find_frames(room, 2, ROOM)
            raw = load_shared(here, i, lane, p_delta).to(tl.float32)
            value = load_shared(here + HALF, i, lane, p_u).to(tl.float32)
            copy_pieces(here, inputs_from, t + TILE, count, D, lane, REVERSE, WHOLE)
        else:
            raw, value = raw_ahead.to(tl.float32), value_ahead.to(tl.float32)
            at = place(t + TILE, i, count, d, D, REVERSE, WHOLE)
            raw_ahead = load_raw(p_delta, at, real, EVEN, NATIVE)
            value_ahead = load_raw(p_u, at, real, EVEN, NATIVE)
            await_tiles(room, ROOM - 1, ROOM)
        there = are_inside(t, i, count, WHOLE)
        step = sized(raw, shift, there, SOFTPLUS, NATIVE, PRECISE)
        x = value * step
        for r in tl.static_range(TILE):
            gain = get_projection(room, p_B, 0, tile, r, 0, n, lane, ROWS, ROOM, NATIVE)
            h = advance(h, rates, row_of(step, i, r), row_of(x, i, r), gain, NATIVE, PRECISE)
        if ROOM and tile + ROOM <= last:
            set_aside(aside + tile * ROWS * 32, 128, h, n, lane)
            copy_tile(room, tile + ROOM, aside, rows_from, False, True, ROOM)
        else:
            put(room, tile % ROOM if ROOM else tile, 0, h, n, lane, ROWS, ROOM, NATIVE)
        close_fetch(room, ROOM > 0)
    return raw_ahead, value_ahead
