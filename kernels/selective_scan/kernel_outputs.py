"""The outputs of a chunk in Triton."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import (
    add_up,
    advance,
    are_inside,
    find_kept,
    jit,
    load_raw,
    load_row,
    load_states,
    locate,
    place,
    row_of,
    sigmoid,
    sized,
    store_states,
    wait,
)
from vidmamba.kernels.selective_scan.kernel_memory import store
from vidmamba.kernels.selective_scan.kernel_rows import (
    await_rows,
    fetch_rows,
    find_rows,
    find_tile,
    read_row,
)


@jit
def outputs_kernel(
    u, delta, a, B, C, skip, z, bias, starts, states, y, table, T, D, channels, width, frames,
    chunks_a_video, span, segments, N: tl.constexpr, blocks,
    HAS_SKIP: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr, PACKED: tl.constexpr, EVEN: tl.constexpr, WHOLE: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
    KEEP: tl.constexpr, NATIVE: tl.constexpr, PRECISE: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    """Walk each chunk from the state before it, and write the outputs.

    ``starts`` (chunks, N, width) holds the state before each chunk. If it is to KEEP those before
    segments, they are written to ``states`` (videos, segments, N, width); packed videos' segments
    are those of chunks.
    """
    wait(EARLY)
    chunk = tl.program_id(0) // blocks
    d = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    real = d < channels
    row, count = locate(chunk, table, T, chunks_a_video, frames, REVERSE, PACKED)
    if count <= 0:
        return
    i, n, lane = tl.arange(0, TILE), tl.arange(0, ROWS), tl.arange(0, BLOCK)
    p_u, p_delta, p_z, p_y = u + row * D, delta + row * D, z + row * D, y + row * D
    projection = chunk.to(tl.int64) * frames * ROWS
    p_B, p_C = B + projection, C + projection
    room = find_rows(2, TILE, ROWS, NATIVE)
    fetch_rows(room, 0, p_B, 0, True, 2, TILE, ROWS, NATIVE)
    fetch_rows(room, 1, p_C, 0, True, 2, TILE, ROWS, NATIVE)
    shift = load_row(bias, d, real, HAS_BIAS, NATIVE)
    through = load_row(skip, d, real, HAS_SKIP, NATIVE)
    rate = load_states(a, n, d, width, N, ROWS, NATIVE)
    h = load_states(starts + chunk.to(tl.int64) * N * width, n, d, width, N, ROWS, NATIVE)
    before = chunk % chunks_a_video * frames
    at = place(0, i, count, d, D, REVERSE, WHOLE)
    raw_ahead, value_ahead = (
        load_raw(p_delta, at, real, EVEN, NATIVE),
        load_raw(p_u, at, real, EVEN, NATIVE),
    )
    gate_ahead = load_raw(p_z, at, real, EVEN, NATIVE) if HAS_Z else value_ahead
    for start in range(0, count + before % span, span):
        start -= before % span
        if KEEP and start >= 0:
            p_state, columns = find_kept(
                states, chunk // chunks_a_video, (before + start) // span, segments, d, width, N,
                REVERSE,
            )  # fmt: skip
            store_states(p_state, h, n, columns, width, N, NATIVE)
        for tile in range(tl.maximum(start, 0), tl.minimum(start + span, count), TILE):
            raw, value = raw_ahead.to(tl.float32), value_ahead.to(tl.float32)
            gate = gate_ahead.to(tl.float32)
            ahead = place(tile + TILE, i, count, d, D, REVERSE, WHOLE)
            raw_ahead = load_raw(p_delta, ahead, real, EVEN, NATIVE)
            value_ahead = load_raw(p_u, ahead, real, EVEN, NATIVE)
            gate_ahead = load_raw(p_z, ahead, real, EVEN, NATIVE) if HAS_Z else value_ahead
            at = place(tile, i, count, d, D, REVERSE, WHOLE)
            await_rows(room, NATIVE)
            more = tile + TILE < count
            fetch_rows(room, 0, p_B, tile + TILE, more, 2, TILE, ROWS, NATIVE)
            fetch_rows(room, 1, p_C, tile + TILE, more, 2, TILE, ROWS, NATIVE)
            at_B = find_tile(room, 0, p_B, tile, 2, TILE, ROWS, NATIVE)
            at_C = find_tile(room, 1, p_C, tile, 2, TILE, ROWS, NATIVE)
            there = are_inside(tile, i, count, WHOLE)
            step = sized(raw, shift, there, SOFTPLUS, NATIVE, PRECISE)
            x = value * step
            out = value * through[None, :]
            for r in tl.static_range(TILE):
                gain = read_row(at_B, r, n, lane, ROWS, NATIVE)
                look = read_row(at_C, r, n, lane, ROWS, NATIVE)
                h = advance(h, rate, row_of(step, i, r), row_of(x, i, r), gain, NATIVE, PRECISE)
                out = tl.where((i == r)[:, None], add_up(h * look, row_of(out, i, r)), out)
            if HAS_Z:
                out *= gate * sigmoid(gate, NATIVE)
            store(p_y, at, out, there & real[None, :], NATIVE)
