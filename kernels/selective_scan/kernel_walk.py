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
from vidmamba.kernels.selective_scan.kernel_lanes import SLICE, TILE, once_if
from vidmamba.kernels.selective_scan.kernel_memory import load_shared, store
from vidmamba.kernels.selective_scan.kernel_pieces import (
    HALF,
    copy_pieces,
    find_pieces,
    leave_channels,
    load_pieces,
    meet,
    put_pieces,
    send_pieces,
)
from vidmamba.kernels.selective_scan.kernel_room import (
    START,
    await_tiles,
    copy_start,
    copy_tile,
    find_frames,
    get_frames,
    place_after,
    put_frames,
)
from vidmamba.kernels.selective_scan.kernel_rows import close_fetch
from vidmamba.kernels.selective_scan.kernel_slice import (
    enter_slice,
    get_before,
    leave_pair,
    leave_slice,
    walk_pair,
)


@jit
def walk_back(
    skip_sum, bias_sum, raw_ahead, value_ahead, further, inputs_from, outputs_from, p_grad, p_u,
    p_delta, p_B, p_C, through, p_z, shift, room, exchange, aside, start, width, rows_from,
    p_grad_u, p_grad_delta, p_grad_z, p_part, D, d, lane, channels, first, following, count, last,
    ROWS: tl.constexpr, ROOM: tl.constexpr, HAS_Z: tl.constexpr, SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr, EVEN: tl.constexpr, WHOLE: tl.constexpr, NATIVE: tl.constexpr,
    PRECISE: tl.constexpr, EXACT: tl.constexpr, COPIED: tl.constexpr,
):  # fmt: skip
    """Walk a segment's tiles from the last to the first and write all of its gradients.

    Return also the inputs that the segment ``following`` begins with.
    """
    i, n = tl.arange(0, TILE), tl.arange(0, SLICE)
    real = d < channels
    PAIRS: tl.constexpr = ROWS // (2 * SLICE)
    if COPIED:
        grads_to = find_pieces(p_grad_delta, p_grad_u, d - lane, lane)
        gates_to = find_pieces(p_grad_z, p_grad_z, d - lane, lane)
    for back in range(last + 1):
        tile = last - back
        t = first + tile * TILE
        there = are_inside(t, i, count, WHOLE)
        at = place(t, i, count, d, D, REVERSE, WHOLE)
        following_t = tl.where(tile > 0, t - TILE, following)
        # where sums over lanes pass, and before and after them other things
        swap = exchange + tile % ROOM * (ROWS * 128) if ROOM else exchange
        raw, value, grad, gate = read_tile(
            room, swap, raw_ahead, value_ahead, further, p_delta, p_u, p_grad, p_z, i, lane, ROOM,
            COPIED,
        )  # fmt: skip
        if COPIED:
            to = find_frames(room, 2, ROOM)
            copy_pieces(to, inputs_from, following_t, count, D, lane, REVERSE, WHOLE)
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
        if COPIED:
            further = load_pieces(outputs_from, following_t, count, D, lane, REVERSE, WHOLE)
        else:
            ahead = place(following_t, i, count, d, D, REVERSE, WHOLE)
            raw_ahead = load_raw(p_delta, ahead, real, EVEN, NATIVE)
            value_ahead = load_raw(p_u, ahead, real, EVEN, NATIVE)
            grad = load_raw(p_grad, ahead, real, EVEN, NATIVE)
            further = (grad, load_raw(p_z, ahead, real, EVEN, NATIVE) if HAS_Z else grad)
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
        value_grad = x_grad * step + seen * through[None, :]
        if HAS_Z:
            gate_slope = get_frames(room, 1, gate_slope, i, lane, ROOM)
            out *= gate_slope
        if COPIED:
            send_gradients(
                swap, step_grad, value_grad, out, p_grad_delta, p_grad_u, p_grad_z, grads_to,
                gates_to, t, count, D, i, lane, HAS_Z, REVERSE,
            )  # fmt: skip
        else:
            here = there & (d < channels)[None, :]
            store(p_grad_delta, at, step_grad, here, NATIVE)
            store(p_grad_u, at, value_grad, here, NATIVE)
            if HAS_Z:
                store(p_grad_z, at, out, here, NATIVE)
        if ROOM:
            # a loop, for most tiles have neither, and ptxas would issue all that is not done
            for _ in range(once_if(tile + 1 >= ROOM)):
                if tile + 1 == ROOM:
                    copy_start(room, start, width * 4, lane, ROOM)
                else:
                    copy_tile(room, tile - ROOM, aside, rows_from, True, True, ROOM)
        close_fetch(room, ROOM > 0)
    return skip_sum, bias_sum, raw_ahead, value_ahead


@jit
def read_tile(
    room, swap, raw_ahead, value_ahead, further, p_delta, p_u, p_grad, p_z, i, lane,
    ROOM: tl.constexpr, COPIED: tl.constexpr,
):  # fmt: skip
    """What was asked for ahead of delta, u, the gradient of the outputs, and the gate."""
    if COPIED:
        await_tiles(room, 1, ROOM)
        here = find_frames(room, 2, ROOM)
        raw, value = load_shared(here, i, lane, p_delta), load_shared(here + HALF, i, lane, p_u)
        put_pieces(swap, further, lane)
        grad, gate = load_shared(swap, i, lane, p_grad), load_shared(swap + HALF, i, lane, p_z)
    else:
        await_tiles(room, ROOM - 2, ROOM)
        raw, value, grad, gate = raw_ahead, value_ahead, further[0], further[1]
    return raw.to(tl.float32), value.to(tl.float32), grad.to(tl.float32), gate.to(tl.float32)


@jit
def send_gradients(
    swap, step_grad, value_grad, gate_grad, p_grad_delta, p_grad_u, p_grad_z, grads_to, gates_to, t,
    count, D, i, lane, HAS_Z: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """Write the gradients of delta, u and z of the tile that begins at t."""
    inside = t + lane % 16 // 4 < count
    meet(swap)
    leave_channels(swap, step_grad, p_grad_delta, i, lane)
    leave_channels(swap + HALF, value_grad, p_grad_u, i, lane)
    send_pieces(swap, grads_to, t, inside, D, lane, REVERSE)
    if HAS_Z:
        leave_channels(swap + 2 * HALF, gate_grad, p_grad_z, i, lane)
        send_pieces(swap + 2 * HALF, gates_to, t, inside & (lane < 16), D, lane, REVERSE)
