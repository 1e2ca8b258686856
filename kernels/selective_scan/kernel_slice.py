"""Four states through a tile of four frames, in Triton: the heart of the backward scan."""

# Triton's tuples grow, which mypy's do not
# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call,assignment,misc"

import triton.language as tl

from vidmamba.kernels.selective_scan.kernel import add_up, exp2, exp2m1, jit, row_of
from vidmamba.kernels.selective_scan.kernel_lanes import (
    SLICE,
    TILE,
    put_pair,
    sum_over_eight,
    sum_over_four,
)
from vidmamba.kernels.selective_scan.kernel_room import (
    GRADS,
    RATE_GRADS,
    RATES,
    get,
    get_projection,
    place_after,
    put,
)


@jit
def enter_slice(
    q, h, step, x, room, p_B, tile, lane, ROWS: tl.constexpr, ROOM: tl.constexpr,
    NATIVE: tl.constexpr, PRECISE: tl.constexpr,
):  # fmt: skip
    """Walk four states through a tile forwards, from h on.

    Return their rates, all of them, h among them, and the decays between.
    """
    i, n = tl.arange(0, TILE), tl.arange(0, SLICE)
    rate = get(room, place_after(RATES, ROOM), q, n, lane, ROWS, ROOM, NATIVE)
    states, decays = (h,), ()
    for r in tl.static_range(TILE):
        exponent = row_of(step, i, r)[None, :] * rate
        decay = exp2m1(exponent, NATIVE) if PRECISE else exp2(exponent, NATIVE)
        source = row_of(x, i, r)[None, :] * get_projection(
            room, p_B, 0, tile, r, q, n, lane, ROWS, ROOM, NATIVE
        )
        h = h + (decay * h + source) if PRECISE else decay * h + source
        states, decays = states + (h,), decays + (decay,)  # noqa: RUF005
    return rate, states, decays


@jit
def leave_slice(
    q, rate, states, decays, out, x_grad, step_grad, step, x, seen, room, p_B, p_C, tile, p_part,
    lane, ROWS: tl.constexpr, ROOM: tl.constexpr, HAS_Z: tl.constexpr, NATIVE: tl.constexpr,
    PRECISE: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Walk them back; return also the sums over four lanes of frames 0 and 1, and of 2 and 3."""
    i, n = tl.arange(0, TILE), tl.arange(0, SLICE)
    g = get(room, place_after(GRADS, ROOM), q, n, lane, ROWS, ROOM, NATIVE)
    rate_grad = get(room, place_after(RATE_GRADS, ROOM), q, n, lane, ROWS, ROOM, NATIVE)
    later, sums = (), ()
    for r in tl.static_range(TILE - 1, -1, -1):
        gain = get_projection(room, p_B, 0, tile, r, q, n, lane, ROWS, ROOM, NATIVE)
        look = get_projection(room, p_C, 1, tile, r, q, n, lane, ROWS, ROOM, NATIVE)
        grad_r, step_r, x_r = row_of(seen, i, r), row_of(step, i, r), row_of(x, i, r)
        here = (i == r)[:, None]
        if HAS_Z:
            out = tl.where(here, add_up(states[r + 1] * look, row_of(out, i, r)), out)
        g += grad_r[None, :] * look
        b_terms, c_terms = g * x_r[None, :], grad_r[None, :] * states[r + 1]
        if not NATIVE:
            put_sums(p_part + r * (2 * SLICE) + n, b_terms, c_terms)
        elif r % 2 == 1:
            later = (b_terms, c_terms)
        else:
            pair = sum_over_four(b_terms, c_terms, later[0], later[1], lane, n, EXACT)
            sums = (pair,) + sums  # noqa: RUF005
        x_grad = tl.where(here, add_up(g * gain, row_of(x_grad, i, r)), x_grad)
        if PRECISE:
            g += decays[r] * g
        else:
            g *= decays[r]
        exponent_grad = g * states[r]
        step_grad = tl.where(here, add_up(exponent_grad * rate, row_of(step_grad, i, r)), step_grad)
        rate_grad += exponent_grad * step_r[None, :]
    put(room, place_after(GRADS, ROOM), q, g, n, lane, ROWS, ROOM, NATIVE)
    put(room, place_after(RATE_GRADS, ROOM), q, rate_grad, n, lane, ROWS, ROOM, NATIVE)
    return out, x_grad, step_grad, sums


@jit
def put_sums(p_part, b_terms, c_terms):
    """Sum a frame over its channels."""
    tl.store(p_part, tl.sum(b_terms, axis=1))
    tl.store(p_part + SLICE, tl.sum(c_terms, axis=1))


@jit
def get_before(
    room, place_, q, tile, n, lane, ROWS: tl.constexpr, ROOM: tl.constexpr, NATIVE: tl.constexpr
):  # fmt: skip
    """A slice of the states before a tile."""
    # the second case never comes: it keeps ptxas from spilling, which it would to have the loads of
    # all slices at once
    if tile >= 0:
        h = get(room, place_, q, n, lane, ROWS, ROOM, NATIVE)
    else:
        h = get(room, place_after(GRADS, ROOM), q, n, lane, ROWS, ROOM, NATIVE)
    return h


@jit
def walk_pair(
    pair, place_, out, x_grad, step_grad, step, x, seen, room, exchange, p_B, p_C, tile, p_part,
    lane, ROWS: tl.constexpr, ROOM: tl.constexpr, HAS_Z: tl.constexpr, NATIVE: tl.constexpr,
    PRECISE: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Two slices through a tile."""
    n, sums = tl.arange(0, SLICE), ()
    for k in tl.static_range(2):
        q = 2 * pair + k
        h = get_before(room, place_, q, tile, n, lane, ROWS, ROOM, NATIVE)
        rate, states, decays = enter_slice(
            q, h, step, x, room, p_B, tile, lane, ROWS, ROOM, NATIVE, PRECISE
        )
        out, x_grad, step_grad, two = leave_slice(
            q, rate, states, decays, out, x_grad, step_grad, step, x, seen, room, p_B, p_C, tile,
            p_part + (tile * ROWS + q * SLICE) * (TILE * 2), lane, ROWS, ROOM, HAS_Z, NATIVE,
            PRECISE, EXACT,
        )  # fmt: skip
        sums = sums + two
    if NATIVE:
        leave_pair(pair, sums, exchange, tile, p_part, n, lane, ROWS, ROOM)
    return out, x_grad, step_grad


@jit
def leave_pair(
    pair, sums, exchange, tile, p_part, n, lane, ROWS: tl.constexpr, ROOM: tl.constexpr
):  # fmt: skip
    """Sum two slices over all lanes and leave them."""
    swap = exchange + tile % ROOM * (ROWS * 128) if ROOM else exchange
    one, two = sum_over_eight(sums[0], sums[1], sums[2], sums[3], swap, n, lane)
    put_pair(p_part + (tile * ROWS + pair * (2 * SLICE)) * (TILE * 2) + lane * 2, one, two)
