"""What a chunk adds to the state after it, or its gradients to the state before it, in Triton."""

# Triton's tuples grow, which mypy's do not
# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"
# mypy: disable-error-code="assignment,misc,var-annotated"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import (
    are_inside,
    exp2,
    jit,
    load_raw,
    load_row,
    locate,
    place,
    row_of,
    sigmoid,
    sized,
    store_states,
    wait,
)
from vidmamba.kernels.selective_scan.kernel_memory import load, store
from vidmamba.kernels.selective_scan.kernel_rows import (
    await_rows,
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
    PACKED: tl.constexpr, EVEN: tl.constexpr, WHOLE: tl.constexpr, BACKWARD: tl.constexpr,
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
    d = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    real = d < channels
    row, count = locate(chunk, table, T, chunks_a_video, frames, REVERSE, PACKED)
    if count <= 0:
        return
    n, lane = tl.arange(0, SLICE), tl.arange(0, BLOCK)
    # the order of the walk
    i = tl.arange(0, TILE) if BACKWARD else TILE - 1 - tl.arange(0, TILE)
    p_values, p_delta, p_z = values + row * D, delta + row * D, z + row * D
    p_rows = rows + chunk.to(tl.int64) * frames * ROWS
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
    total = d * 0.0
    last_tile = (count - 1) // TILE
    room = find_rows(1, TILE, ROWS, NATIVE)
    begin = 0 if BACKWARD else last_tile * TILE
    fetch_rows(room, 0, p_rows, begin, True, 1, TILE, ROWS, NATIVE)
    at = place(begin, i, count, d, D, REVERSE, WHOLE)
    raw_ahead, value_ahead = (
        load_raw(p_delta, at, real, EVEN, NATIVE),
        load_raw(p_values, at, real, EVEN, NATIVE),
    )
    gate_ahead = load_raw(p_z, at, real, EVEN, NATIVE) if HAS_Z else value_ahead
    walked, nearest = 0, 0.0
    while walked <= last_tile and (not SOFTPLUS or nearest * slowest_of_all > reach):
        tile = walked if BACKWARD else last_tile - walked
        t = tile * TILE
        raw, x = raw_ahead.to(tl.float32), value_ahead.to(tl.float32)
        gate = gate_ahead.to(tl.float32)
        at = place(t + (TILE if BACKWARD else -TILE), i, count, d, D, REVERSE, WHOLE)
        raw_ahead = load_raw(p_delta, at, real, EVEN, NATIVE)
        value_ahead = load_raw(p_values, at, real, EVEN, NATIVE)
        gate_ahead = load_raw(p_z, at, real, EVEN, NATIVE) if HAS_Z else value_ahead
        there = are_inside(t, i, count, WHOLE)
        step = sized(raw, shift, there, SOFTPLUS, NATIVE, PRECISE)
        if HAS_Z:
            x *= gate * sigmoid(gate, NATIVE)
        if not BACKWARD:
            x *= step
        spans = ()
        for r in tl.static_range(TILE):
            after = total + row_of(step, i, r if BACKWARD else TILE - 1 - r)
            spans = spans + (after if BACKWARD else total,)  # noqa: RUF005
            total = after
        await_rows(room, NATIVE)
        following = tl.maximum(tile + (1 if BACKWARD else -1), 0) * TILE
        fetch_rows(room, 0, p_rows, following, walked < last_tile, 1, TILE, ROWS, NATIVE)
        at_rows = find_tile(room, 0, p_rows, tile * TILE, 1, TILE, ROWS, NATIVE)
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
        found = walked_on
        nearest, walked = tl.min(total, axis=0), walked + 1
    await_rows(room, NATIVE)
    for k in tl.static_range(ROWS // SLICE):
        p_end = ends + chunk.to(tl.int64) * end_plane
        store_states(p_end, found[k], n + k * SLICE, d, width, N, NATIVE)
    store(sums + chunk.to(tl.int64) * width, d, total, d >= 0, NATIVE)
