"""The outputs of a chunk in Triton."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import (
    add_up,
    advance,
    are_inside,
    find_kept,
    jit,
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
from vidmamba.kernels.selective_scan.kernel_inputs import fetch_inputs, find_inputs, read_input
from vidmamba.kernels.selective_scan.kernel_memory import store
from vidmamba.kernels.selective_scan.kernel_rows import (
    await_rows,
    close_fetch,
    count_ahead,
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
    REVERSE: tl.constexpr, PACKED: tl.constexpr, COPIED: tl.constexpr, WHOLE: tl.constexpr,
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
    first = tl.program_id(0) % blocks * BLOCK
    row, count = locate(chunk, table, T, chunks_a_video, frames, REVERSE, PACKED)
    if count <= 0:
        return
    i, n, lane = tl.arange(0, TILE), tl.arange(0, ROWS), tl.arange(0, BLOCK)
    d, p_start = first + lane, starts + chunk.to(tl.int64) * N * width
    p_u, p_delta, p_z, p_y = u + row * D, delta + row * D, z + row * D, y + row * D
    projection = chunk.to(tl.int64) * frames * ROWS
    p_B, p_C = B + projection, C + projection
    inputs, room = find_inputs(u, TILE, COPIED), find_rows(2, TILE, ROWS, NATIVE)
    AHEAD: tl.constexpr = count_ahead(ROWS)
    for number in tl.static_range(AHEAD):
        fetch_tile(
            inputs, room, p_delta, p_u, p_z, p_B, p_C, number * TILE, count, first, D, lane, TILE,
            ROWS, HAS_Z, REVERSE, WHOLE, COPIED, NATIVE,
        )  # fmt: skip
    shift = load_row(bias, d, d < channels, HAS_BIAS, NATIVE)
    through = load_row(skip, d, d < channels, HAS_SKIP, NATIVE)
    rate = load_states(a, n, d, width, N, ROWS, NATIVE)
    h = load_states(p_start, n, d, width, N, ROWS, NATIVE)
    before = chunk % chunks_a_video * frames
    for start in range(0, count + before % span, span):
        start -= before % span
        if KEEP and start >= 0:
            p_state, columns = find_kept(
                states, chunk // chunks_a_video, (before + start) // span, segments, d, width, N,
                REVERSE,
            )  # fmt: skip
            store_states(p_state, h, n, columns, width, N, NATIVE)
        for tile in range(tl.maximum(start, 0), tl.minimum(start + span, count), TILE):
            await_rows(room, AHEAD - 1, NATIVE)
            raw = read_input(
                inputs, 0, p_delta, tile, i, count, d, D, channels, lane, TILE, REVERSE, WHOLE,
                COPIED, NATIVE,
            )  # fmt: skip
            value = read_input(
                inputs, 1, p_u, tile, i, count, d, D, channels, lane, TILE, REVERSE, WHOLE, COPIED,
                NATIVE,
            )  # fmt: skip
            fetch_tile(
                inputs, room, p_delta, p_u, p_z, p_B, p_C, tile + AHEAD * TILE, count, first, D,
                lane, TILE, ROWS, HAS_Z, REVERSE, WHOLE, COPIED, NATIVE,
            )  # fmt: skip
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
                gate = read_input(
                    inputs, 2, p_z, tile, i, count, d, D, channels, lane, TILE, REVERSE, WHOLE,
                    COPIED, NATIVE,
                )  # fmt: skip
                out *= gate * sigmoid(gate, NATIVE)
            at = place(tile, i, count, d, D, REVERSE, WHOLE)
            store(p_y, at, out, there & (d < channels)[None, :], NATIVE)


@jit
def fetch_tile(
    inputs, room, p_delta, p_u, p_z, p_B, p_C, t, count, first, D, lane, TILE: tl.constexpr,
    ROWS: tl.constexpr, HAS_Z: tl.constexpr, REVERSE: tl.constexpr, WHOLE: tl.constexpr,
    COPIED: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    """Start to copy the inputs and rows of the tile that begins at a frame, if there is one."""
    wanted = t < count
    fetch_inputs(
        inputs, p_delta, p_u, p_z, t, wanted, count, first, D, lane, TILE, HAS_Z, REVERSE, WHOLE,
        COPIED,
    )  # fmt: skip
    fetch_rows(room, 0, p_B, t, wanted, 2, TILE, ROWS, NATIVE)
    fetch_rows(room, 1, p_C, t, wanted, 2, TILE, ROWS, NATIVE)
    close_fetch(room, NATIVE)
