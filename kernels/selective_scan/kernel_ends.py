"""What a chunk adds to the state after it, or its gradients to the state before it, in Triton."""

# Triton's tuples grow, which mypy's do not
# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"
# mypy: disable-error-code="assignment,misc,var-annotated"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import (
    are_inside,
    exp2,
    jit,
    load_row,
    locate,
    row_of,
    sigmoid,
    sized,
    store_states,
    wait,
)
from vidmamba.kernels.selective_scan.kernel_inputs import fetch_inputs, find_inputs, read_input
from vidmamba.kernels.selective_scan.kernel_memory import load, store
from vidmamba.kernels.selective_scan.kernel_rows import (
    await_rows,
    close_fetch,
    count_ahead,
    fetch_rows,
    find_rows,
    find_tile,
    read_row,
)

SLICE = tl.constexpr(4)  # states that are walked or left out together
# binary logarithms of the decay past which a frame is out of the chunk end's reach
REACH, REACH_OF_HALF = tl.constexpr(-40.0), tl.constexpr(-30.0)


@jit
def chunk_ends_kernel(
    values, delta, a, rows, z, bias, ends, sums, table, T, D, channels, width, frames,
    chunks_a_video, N: tl.constexpr, blocks, end_plane,
    HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr, REVERSE: tl.constexpr,
    PACKED: tl.constexpr, COPIED: tl.constexpr, WHOLE: tl.constexpr, BACKWARD: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
    NATIVE: tl.constexpr, PRECISE: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    """Write each chunk's end state if it began at zero, and the sum of its steps.

    Backward: the gradient that its outputs send to the state before it. A chunk is walked away from
    the end in question, each frame weighted by its decay to there, so that there is no chain of
    products, and states that have decayed to nothing need not be walked on.
    """
    wait(EARLY)
    chunk = tl.program_id(0) // blocks
    first = tl.program_id(0) % blocks * BLOCK
    row, count = locate(chunk, table, T, chunks_a_video, frames, REVERSE, PACKED)
    if count <= 0:
        return
    n, lane = tl.arange(0, SLICE), tl.arange(0, BLOCK)
    # the order of the walk
    i = tl.arange(0, TILE) if BACKWARD else TILE - 1 - tl.arange(0, TILE)
    d, real, last_tile = first + lane, first + lane < channels, (count - 1) // TILE
    p_values, p_delta, p_z = values + row * D, delta + row * D, z + row * D
    p_rows = rows + chunk.to(tl.int64) * frames * ROWS
    inputs, room = find_inputs(values, TILE, COPIED), find_rows(1, TILE, ROWS, NATIVE)
    AHEAD: tl.constexpr = count_ahead(ROWS)
    for number in tl.static_range(AHEAD):
        fetch_tile(
            inputs, room, p_delta, p_values, p_z, p_rows, number, last_tile, count, first, D, lane,
            TILE, ROWS, HAS_Z, BACKWARD, REVERSE, WHOLE, COPIED, NATIVE,
        )  # fmt: skip
    shift = load_row(bias, d, real, HAS_BIAS, NATIVE)
    reach: tl.constexpr = REACH if PRECISE else REACH_OF_HALF
    rates, slowest, found, slowest_of_all = (), (), (), -1e30
    for k in tl.static_range(ROWS // SLICE):
        known = (n + k * SLICE < N)[:, None] & real[None, :]
        rate = load(a, (n + k * SLICE)[:, None] * width + d[None, :], known, NATIVE)
        rate = tl.where(known, rate, -1e30)
        rates, found = rates + (rate,), found + (rate * 0.0,)  # noqa: RUF005
        slowest = slowest + (tl.max(tl.max(rate, axis=0), axis=0),)  # noqa: RUF005
        slowest_of_all = tl.maximum(slowest_of_all, slowest[k])
    total, walked, nearest = lane * 0.0, 0, 0.0
    while walked <= last_tile and (not SOFTPLUS or nearest * slowest_of_all > reach):
        t = (walked if BACKWARD else last_tile - walked) * TILE
        await_rows(room, AHEAD - 1, NATIVE)
        raw = read_input(
            inputs, 0, p_delta, t, i, count, d, D, channels, lane, TILE, REVERSE, WHOLE, COPIED,
            NATIVE,
        )  # fmt: skip
        x = read_input(
            inputs, 1, p_values, t, i, count, d, D, channels, lane, TILE, REVERSE, WHOLE, COPIED,
            NATIVE,
        )  # fmt: skip
        fetch_tile(
            inputs, room, p_delta, p_values, p_z, p_rows, walked + AHEAD, last_tile, count, first,
            D, lane, TILE, ROWS, HAS_Z, BACKWARD, REVERSE, WHOLE, COPIED, NATIVE,
        )  # fmt: skip
        step = sized(raw, shift, are_inside(t, i, count, WHOLE), SOFTPLUS, NATIVE, PRECISE)
        if HAS_Z:
            gate = read_input(
                inputs, 2, p_z, t, i, count, d, D, channels, lane, TILE, REVERSE, WHOLE, COPIED,
                NATIVE,
            )  # fmt: skip
            x *= gate * sigmoid(gate, NATIVE)
        if not BACKWARD:
            x *= step
        spans = ()
        for r in tl.static_range(TILE):
            after = total + row_of(step, i, r if BACKWARD else TILE - 1 - r)
            spans = spans + (after if BACKWARD else total,)  # noqa: RUF005
            total = after
        at_rows = find_tile(room, 0, p_rows, t, 1, TILE, ROWS, NATIVE)
        walked_on = ()
        for k in tl.static_range(ROWS // SLICE):
            end = found[k]
            if not SOFTPLUS or nearest * slowest[k] > reach:
                for r in tl.static_range(TILE):
                    q = r if BACKWARD else TILE - 1 - r
                    row_q = read_row(at_rows, q, n + k * SLICE, lane, ROWS, NATIVE)
                    decay = exp2(spans[r][None, :] * rates[k], NATIVE)
                    end += decay * (row_of(x, i, q)[None, :] * row_q)
            walked_on = walked_on + (end,)  # noqa: RUF005
        found, walked = walked_on, walked + 1
        # of numbers that are not negative, bits have the order, and one instruction the least
        nearest = tl.min(total.to(tl.int32, bitcast=True), axis=0).to(tl.float32, bitcast=True)
    await_rows(room, 0, NATIVE)
    for k in tl.static_range(ROWS // SLICE):
        p_end = ends + chunk.to(tl.int64) * end_plane
        store_states(p_end, found[k], n + k * SLICE, d, width, N, NATIVE)
    store(sums + chunk.to(tl.int64) * width, d, total, d >= 0, NATIVE)


@jit
def fetch_tile(
    inputs, room, p_delta, p_values, p_z, p_rows, number, last_tile, count, first, D, lane,
    TILE: tl.constexpr, ROWS: tl.constexpr, HAS_Z: tl.constexpr,
    BACKWARD: tl.constexpr, REVERSE: tl.constexpr, WHOLE: tl.constexpr, COPIED: tl.constexpr,
    NATIVE: tl.constexpr,
):  # fmt: skip
    """Start to copy a tile's inputs and rows, by its number in the walk, if there is one."""
    wanted = number <= last_tile
    t = tl.maximum(tl.minimum(number if BACKWARD else last_tile - number, last_tile), 0) * TILE
    fetch_inputs(
        inputs, p_delta, p_values, p_z, t, wanted, count, first, D, lane, TILE, HAS_Z, REVERSE,
        WHOLE, COPIED,
    )  # fmt: skip
    fetch_rows(room, 0, p_rows, t, wanted, 1, TILE, ROWS, NATIVE)
    close_fetch(room, NATIVE)
