"""Launches the Triton kernels of the backward scan: which buffers, how many programs."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidmamba.kernels.selective_scan.checks import BLOCK, as_gradient, count_videos, cut
from vidmamba.kernels.selective_scan.cuda import launch_forward
from vidmamba.kernels.selective_scan.kernel_backward import sums_kernel
from vidmamba.kernels.selective_scan.kernel_ends import chunk_ends_kernel
from vidmamba.kernels.selective_scan.kernel_gradients import gradients_kernel
from vidmamba.kernels.selective_scan.kernel_room import ROOM_ROWS, count_places
from vidmamba.kernels.selective_scan.kernel_together import COUNTER
from vidmamba.kernels.selective_scan.plan import SLOTS, WARP, Plan, plan_backward
from vidmamba.kernels.selective_scan.setting import (
    PROJECTION_BLOCK,
    PROJECTION_TILE,
    Setting,
    combine,
    copied,
    early,
    given,
    one_pass,
    set_up,
    states_in,
)
from vidmamba.kernels.sizes import cdiv

TOTALS_TILE = 32


class _Tensors(NamedTuple):
    """What a scan is given, or its gradients."""

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    bias: Tensor | None


class _Room(NamedTuple):
    """Memory of the programs."""

    rows: Tensor  # (chunks, rows + 2, width): gradients of states, then of A, D and bias
    sums: Tensor  # (chunks, width)
    parts: Tensor  # (chunks, slots, blocks, segments, 2 rows): of the gradients of B and C
    scratch: Tensor


def launch_backward(
    grad_y: Tensor | None,
    grad_final: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    states: Tensor,
    delta_softplus: bool,
    reverse: bool,
    spend: bool = False,
    over: bool = False,
) -> list[Tensor]:
    """Return the gradients of u, delta, ..., initial_state; an empty tensor for one not given.

    Spend the states, if they fit it, to have u's gradient in their place; it is not returned then.
    With ``over``, delta's is written over delta, and z's over ``grad_y``: a program reads a tile of
    both before it writes there, and nobody else asks for what was there.
    """
    if not len(states):
        forward = (u, delta, A, B, C, D, None, delta_bias, initial_state, offsets)
        states = launch_forward(*forward, delta_softplus, reverse, True)[2]
    plan = plan_backward(cut(u, offsets, "cuda"), u, offsets)
    counters = u.new_empty(plan.abreast, COUNTER.value, dtype=torch.int32)
    sizes = (delta_bias, delta_softplus, reverse, plan.chunks, counters)
    setting = set_up(u, A, B, C, offsets, *sizes)
    tensors = _Tensors(u, delta, A, B, C, D, z, delta_bias)
    grad_y = torch.zeros_like(u) if grad_y is None else grad_y
    places = {"delta": delta, "z": grad_y} if over else {}
    if spend:
        places["u"] = as_gradient(states, u, reverse)
    made: list[Any] = [
        None if t is None else places[name] if name in places else torch.empty_like(t)
        for name, t in tensors._asdict().items()
    ]
    grads = _Tensors(*made)
    grad_initial = u.new_empty(count_videos(u, offsets), *A.shape, dtype=torch.float32)
    room = _make_room(setting, plan, u)
    last = states_in(grad_final, plan.chunks.width)
    _find_gradients_of_ends(setting, room, grad_y, last, tensors, grad_initial)
    _walk(setting, plan, room, counters, grad_y, tensors, states, grads, len(grad_initial))
    _sum(setting, plan, room, u, grads)
    found = [None if spend else grads.u, *grads[1:]]
    found.append(None if initial_state is None else grad_initial.to(initial_state))
    return [u.new_empty(0) if t is None else t for t in found]


def _make_room(setting: Setting, plan: Plan, u: Tensor) -> _Room:
    frames, total, width, span, _ = plan.chunks
    blocks = cdiv(u.shape[2], BLOCK)
    programs = plan.abreast * blocks
    held, slots = (plan.abreast, plan.slots) if plan.together else (total, cdiv(frames, span))
    turn, places = plan.per * span, count_places(span, _count_slots(setting))
    # packed videos may leave chunks unused, whose parts must be zero
    new_rows = torch.zeros if setting.options["PACKED"] else torch.empty
    return _Room(
        rows=new_rows(total, setting.rows + 2, width, dtype=torch.float32, device=u.device),
        sums=u.new_empty(total, width, dtype=torch.float32),
        parts=u.new_empty(held, slots, blocks, turn, 2 * setting.rows, dtype=torch.float32),
        scratch=u.new_empty(programs, places * setting.rows * BLOCK, dtype=torch.float32),
    )


def _count_slots(setting: Setting) -> int:
    """Slots for states in shared memory, or none: they wait in memory."""
    has_room = setting.options["NATIVE"] and setting.rows <= ROOM_ROWS.value
    return SLOTS if has_room else 0


def _find_gradients_of_ends(
    setting: Setting,
    room: _Room,
    grad_y: Tensor,
    last: Tensor | None,
    tensors: _Tensors,
    grad_initial: Tensor,
) -> None:
    """Write the gradient of the state after each chunk, and of that before each video."""
    (u, delta, _, _, _, _, z, bias), num_states = tensors, len(setting.rates)
    frames, total, width, *_ = setting.chunks
    channels, blocks = u.shape[2], width // BLOCK
    chunk_ends_kernel[(total * blocks,)](
        grad_y, delta, setting.rates, setting.projections[1], given(z, u), given(bias, u),
        room.rows, room.sums, setting.table, u.shape[1], channels, channels, width, frames,
        setting.chunks_a_video, num_states, blocks, room.rows.stride(0), HAS_Z=z is not None,
        BACKWARD=True, **one_pass(setting, grad_y, delta, given(z, delta)),
    )  # fmt: skip
    combine(setting, room.rows, room.sums, last, grad_initial, channels, True)


def _walk(
    setting: Setting,
    plan: Plan,
    room: _Room,
    counters: Tensor,
    grad_y: Tensor,
    tensors: _Tensors,
    states: Tensor,
    grads: _Tensors,
    videos: int,
) -> None:
    """Write the gradients of what has frames, and the parts of those of parameters."""
    (frames, total, width, span, kept), channels = plan.chunks, tensors.u.shape[2]
    u, delta, _, _, _, skip, z, bias = tensors
    segments = kept // (total if setting.options["PACKED"] else videos)
    _, slots, blocks, _, _ = room.parts.shape
    even = channels % BLOCK == 0
    wide = copied(grad_y, u, delta, given(z, u), grads.u, grads.delta, given(grads.z, u))
    gradients_kernel[(len(room.scratch),)](
        grad_y, u, delta, setting.rates, setting.projections[0], setting.projections[1],
        given(skip, u), given(z, u), given(bias, u), states, room.rows, room.scratch, grads.u,
        grads.delta, given(grads.z, u), room.parts, counters, grads.B, grads.C, setting.table,
        u.shape[1], channels, channels, width, frames, setting.chunks_a_video, segments, total,
        len(setting.rates), span, plan.per, blocks, slots, room.scratch.shape[1], states.shape[2],
        **setting.options, HAS_SKIP=skip is not None, HAS_Z=z is not None,
        EVEN=even, BLOCK=BLOCK, ROWS=setting.rows, TOGETHER=plan.together,
        ROOM=_count_slots(setting), EXACT=u.dtype != torch.bfloat16,
        COPIED=even and wide and u.itemsize == 2 and _count_slots(setting) > 0, **WARP,
    )  # fmt: skip


def _sum(setting: Setting, plan: Plan, room: _Room, u: Tensor, grads: _Tensors) -> None:
    """Sum the parts of the gradients of A, D and the bias; if nobody has yet, of B and C."""
    (frames, total, width, span, _), (_, T, D) = setting.chunks, u.shape
    num_states = len(setting.rates)
    total_programs = cdiv(D, BLOCK) * (num_states + 2)
    tiles = cdiv(frames, PROJECTION_TILE) * (setting.rows // PROJECTION_BLOCK)
    sums_kernel[(total_programs + (0 if plan.together else total * tiles),)](
        room.parts, grads.B, grads.C, room.rows, grads.A, given(grads.D, grads.A),
        given(grads.bias, grads.A), setting.table, T, D, D, width, frames,
        setting.chunks_a_video, total, span, room.parts.shape[2], total_programs, num_states,
        HAS_SKIP=grads.D is not None, HAS_BIAS=grads.bias is not None,
        REVERSE=setting.options["REVERSE"], PACKED=setting.options["PACKED"], ROWS=setting.rows,
        BLOCK_T=PROJECTION_TILE, BLOCK_N=PROJECTION_BLOCK, TILE=TOTALS_TILE, BLOCK=BLOCK,
        **early(u.device),
    )  # fmt: skip
