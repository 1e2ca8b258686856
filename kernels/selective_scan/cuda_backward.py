"""Launches the Triton kernels of the backward scan: which buffers, how many programs."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidmamba.kernels.selective_scan.checks import CUDA_LANES, count_videos, cut
from vidmamba.kernels.selective_scan.cuda import launch_forward
from vidmamba.kernels.selective_scan.kernel_backward import sums_kernel
from vidmamba.kernels.selective_scan.kernel_ends import chunk_ends_kernel
from vidmamba.kernels.selective_scan.kernel_gradients import gradients_kernel
from vidmamba.kernels.selective_scan.kernel_room import (
    PLACES_ASIDE,
    PLACES_WITHOUT_ROOM,
    ROOM_ROWS,
)
from vidmamba.kernels.selective_scan.plan import BLOCK, Plan, plan_backward
from vidmamba.kernels.selective_scan.setting import (
    PROJECTION_BLOCK,
    PROJECTION_TILE,
    Setting,
    combine,
    early,
    given,
    one_pass,
    set_up,
    states_in,
)
from vidmamba.kernels.sizes import cdiv

TOTALS_TILE = 32
# registers cut so that a multiprocessor holds twelve warps, as its shared memory does
WARP: dict[str, Any] = {"num_warps": 1, "maxnreg": 168, "enable_fp_fusion": True}


class _Tensors(NamedTuple):
    """What a scan is given, or its gradients; channels from some on, if it is not all."""

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    bias: Tensor | None

    def from_channel(self, first: int) -> "_Tensors":
        """The same from a channel on, for kernels that know the distance between rows."""
        if first == 0:
            return self
        u, delta, A, B, C, D, z, bias = self
        z = None if z is None else z.view(-1)[first:]
        D, bias = (None if t is None else t[first:] for t in (D, bias))
        return _Tensors(u.view(-1)[first:], delta.view(-1)[first:], A[first:], B, C, D, z, bias)


class _Room(NamedTuple):
    """Memory of one pass over channels, used again by the next; its parts are added to."""

    rows: Tensor  # (chunks, 2 N + 2, width): gradients of states, parts of those of A, D and bias
    sums: Tensor  # (chunks, width)
    parts: Tensor  # (groups, chunks, frames, 2 rows): of the gradients of B and C
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
) -> list[Tensor]:
    """Return the gradients of u, delta, ..., initial_state; an empty tensor for one not given."""
    if not len(states):
        forward = (u, delta, A, B, C, D, None, delta_bias, initial_state, offsets)
        states = launch_forward(*forward, delta_softplus, reverse, True)[2]
    plan = plan_backward(cut(u, offsets, "cuda"), u, offsets)
    setting = set_up(u, A, B, C, offsets, delta_bias, delta_softplus, reverse, plan.chunks)
    tensors = _Tensors(u, delta, A, B, C, D, z, delta_bias)
    grads = _Tensors(
        *(torch.empty_like(t) for t in (u, delta, A, B, C)),
        *(None if t is None else torch.empty_like(t) for t in (D, z, delta_bias)),
    )
    grad_y = torch.zeros_like(u) if grad_y is None else grad_y
    grad_initial = u.new_empty(count_videos(u, offsets), *A.shape, dtype=torch.float32)
    room = _make_room(setting, plan, u)
    for first in range(0, u.shape[2], plan.chunks.width):
        _walk(setting, plan, room, first, grad_y, grad_final, tensors, states, grads, grad_initial)
        _sum(setting, room, first, u.shape, grads)
    grads_and_initial = (*grads, None if initial_state is None else grad_initial.to(initial_state))
    return [u.new_empty(0) if t is None else t for t in grads_and_initial]


def _make_room(setting: Setting, plan: Plan, u: Tensor) -> _Room:
    frames, total, width, _ = plan.chunks
    num_states = setting.rates.shape[1]
    places = PLACES_ASIDE if _has_room(setting) else PLACES_WITHOUT_ROOM
    groups = cdiv(min(width, u.shape[2]), BLOCK * plan.group)
    # packed videos may leave chunks unused, whose parts must be zero
    new_rows = torch.zeros if setting.options["PACKED"] else torch.empty
    return _Room(
        rows=new_rows(total, 2 * num_states + 2, width, dtype=torch.float32, device=u.device),
        sums=u.new_empty(total, width, dtype=torch.float32),
        parts=u.new_empty(groups, total, frames, 2 * setting.rows, dtype=torch.float32),
        scratch=u.new_empty(plan.programs, places * setting.rows * BLOCK, dtype=torch.float32),
    )


def _has_room(setting: Setting) -> bool:
    """Whether states wait in shared memory."""
    return bool(setting.options["NATIVE"]) and setting.rows <= ROOM_ROWS.value


def _walk(
    setting: Setting,
    plan: Plan,
    room: _Room,
    first: int,
    grad_y: Tensor,
    grad_final: Tensor | None,
    tensors: _Tensors,
    states: Tensor,
    grads: _Tensors,
    grad_initial: Tensor,
) -> None:
    """Write the gradients of a pass's channels, and its parts of those of parameters."""
    (frames, total, width, segments), (_, T, D) = plan.chunks, tensors.u.shape
    channels = min(width, D - first)
    sizes = (setting.table, T, D, channels, width, frames, setting.chunks_a_video)
    rates, num_states = setting.rates[first // width], setting.rates.shape[1]
    u, delta, _, _, _, skip, z, bias = tensors.from_channel(first)
    to = grads.from_channel(first)
    grad_y = grad_y if first == 0 else grad_y.view(-1)[first:]
    gate, bias = given(z, u), given(bias, u)
    blocks = cdiv(channels, CUDA_LANES) * (CUDA_LANES // BLOCK)
    chunk_ends_kernel[(total * blocks,)](
        grad_y, delta, rates, setting.projections[1], gate, bias, room.rows, room.sums, *sizes,
        num_states, blocks, room.rows.stride(0), HAS_Z=z is not None, BACKWARD=True,
        **one_pass(setting, channels),
    )  # fmt: skip
    last = None if grad_final is None else grad_final[:, first : first + channels]
    combine(
        setting, rates, room.rows, room.sums, states_in(last, width), room.rows, 1,
        grad_initial[:, first:], channels, True,
    )  # fmt: skip
    kept = segments if setting.options["PACKED"] else len(states) // len(grad_initial)
    groups = len(room.parts)
    gradients_kernel[(plan.programs,)](
        grad_y, u, delta, rates, setting.projections[0], setting.projections[1], given(skip, u),
        gate, bias, states.view(-1)[first:], room.rows, room.scratch, to.u, to.delta,
        given(to.z, u), room.parts, *sizes, kept, total, num_states, groups, plan.group,
        room.scratch.shape[1], states.shape[2], first, **setting.options,
        HAS_SKIP=skip is not None, HAS_Z=z is not None, EVEN=channels % BLOCK == 0, BLOCK=BLOCK,
        ROWS=setting.rows, ROOM=_has_room(setting), EXACT=u.dtype != torch.bfloat16, **WARP,
    )  # fmt: skip


def _sum(setting: Setting, room: _Room, first: int, shape: torch.Size, grads: _Tensors) -> None:
    """Sum the pass's parts of the gradients of A, D and the bias; after the last, of B and C."""
    (frames, total, width, _), (_, T, D) = setting.chunks, shape
    channels, num_states = min(width, D - first), setting.rates.shape[1]
    to = grads.from_channel(first)
    total_programs = cdiv(channels, BLOCK) * (num_states + 2)
    tiles = cdiv(frames, PROJECTION_TILE) * (setting.rows // PROJECTION_BLOCK)
    last = first + width >= D
    sums_kernel[(total_programs + (total * tiles if last else 0),)](
        room.parts, to.B, to.C, room.rows, to.A, given(to.D, to.A), given(to.bias, to.A),
        setting.table, T, D, channels, width, frames, setting.chunks_a_video, total,
        len(room.parts), total_programs, num_states, HAS_SKIP=to.D is not None,
        HAS_BIAS=to.bias is not None, REVERSE=setting.options["REVERSE"],
        PACKED=setting.options["PACKED"], ROWS=setting.rows, BLOCK_T=PROJECTION_TILE,
        BLOCK_N=PROJECTION_BLOCK, TILE=TOTALS_TILE, BLOCK=BLOCK, **early(to.A.device),
    )  # fmt: skip
