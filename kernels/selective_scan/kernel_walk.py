"""A segment's tiles walked backwards in Triton: all of its gradients."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import (
    LN2,
    are_inside,
    jit,
    load_raw,
    place,
    sigmoid,
    softplus_and_slope,
)
from vidmamba.kernels.selective_scan.kernel_lanes import SLICE, TILE
from vidmamba.kernels.selective_scan.kernel_memory import store
from vidmamba.kernels.selective_scan.kernel_room import (
    START,
    await_tiles,
    copy_start,
    copy_tile,
    get_frames,
    place_after,
    put_frames,
)
from vidmamba.kernels.selective_scan.kernel_slice import (
    enter_slice,
    get_before,
    leave_pair,
    leave_slice,
    walk_pair,
)


@jit
def walk_back(
    skip_sum, bias_sum, raw_ahead, value_ahead, grad_ahead, gate_ahead, p_grad, p_u, p_delta, p_B,
    p_C, through, p_z, shift, room, exchange, aside, start, width, rows_from, p_grad_u,
    p_grad_delta, p_grad_z, p_part, D, d, lane, channels, first, following, count, last,
    ROWS: tl.constexpr, ROOM: tl.constexpr, HAS_Z: tl.constexpr, SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr, EVEN: tl.constexpr, WHOLE: tl.constexpr, NATIVE: tl.constexpr,
    PRECISE: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Walk a segment's tiles from the last to the first and write all of its gradients.

    Return also the inputs that the segment ``following`` begins with.
    """
    i, n = tl.arange(0, TILE), tl.arange(0, SLICE)
    real = d < channels
    PAIRS: tl.constexpr = ROWS // (2 * SLICE)
    for back in range(last + 1):
        tile = last - back
        t = first + tile * TILE
        there = are_inside(t, i, count, WHOLE)
        at = place(t, i, count, d, D, REVERSE, WHOLE)
        raw, value = raw_ahead.to(tl.float32), value_ahead.to(tl.float32)
        grad, gate = grad_ahead.to(tl.float32), gate_ahead.to(tl.float32)
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
        for pair in tl.range(0, PAIRS - 1):
            out, x_grad, step_grad = walk_pair(
                pair, place_, out, x_grad, step_grad, step, x, seen, room, exchange, p_B, p_C, tile,
                p_part, lane, ROWS, ROOM, HAS_Z, NATIVE, PRECISE, EXACT,
            )  # fmt: skip
        q: tl.constexpr = 2 * PAIRS - 2
        h = get_before(room, place_, q, tile, n, lane, ROWS, ROOM, NATIVE)
        rate, states, decays = enter_slice(
            q, h, step, x, room, p_B, tile, lane, ROWS, ROOM, NATIVE, PRECISE
        )
        out, x_grad, step_grad, one = leave_slice(
            q, rate, states, decays, out, x_grad, step_grad, step, x, seen, room, p_B, p_C, tile,
            p_part + (tile * ROWS + q * SLICE) * (TILE * 2), lane, ROWS, ROOM, HAS_Z, NATIVE,
            PRECISE, EXACT,
        )  # fmt: skip
        h = get_before(room, place_, q + 1, tile, n, lane, ROWS, ROOM, NATIVE)
        rate, states, decays = enter_slice(
            q + 1, h, step, x, room, p_B, tile, lane, ROWS, ROOM, NATIVE, PRECISE
        )
        # not before: exponentials wait for what is counted with them, which ptxas lets loads be
        # the following segment is first walked forwards
        ahead = place(tl.where(tile > 0, t - TILE, following), i, count, d, D, REVERSE, WHOLE)
        raw_ahead = load_raw(p_delta, ahead, real, EVEN, NATIVE)
        value_ahead = load_raw(p_u, ahead, real, EVEN, NATIVE)
        grad_ahead = load_raw(p_grad, ahead, real, EVEN, NATIVE)
        gate_ahead = load_raw(p_z, ahead, real, EVEN, NATIVE) if HAS_Z else grad_ahead
        out, x_grad, step_grad, two = leave_slice(
            q + 1, rate, states, decays, out, x_grad, step_grad, step, x, seen, room, p_B, p_C,
            tile, p_part + (tile * ROWS + (q + 1) * SLICE) * (TILE * 2), lane, ROWS, ROOM, HAS_Z,
            NATIVE, PRECISE, EXACT,
        )  # fmt: skip
        if NATIVE:
            leave_pair(PAIRS - 1, one + two, exchange, tile, p_part, n, lane, ROWS, ROOM)
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
        if ROOM and tile + 1 == ROOM:
            copy_start(room, start, width * 4, lane, ROOM)
        copy_tile(room, tile - ROOM, aside, rows_from, tile >= ROOM, tile >= ROOM, ROOM)
    return skip_sum, bias_sum, raw_ahead, value_ahead
