"""Launches the Triton kernels: which buffers, how many programs, which tile sizes.

A fixed size for each family of shapes, found by measuring; nothing is tried out at run time, and
nothing waits for the device, so calls can be captured in a CUDA graph.
"""

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidmamba.kernels.selective_scan.checks import CUDA_LANES, Chunks, count_videos, cut
from vidmamba.kernels.selective_scan.kernel import (
    combine_kernel,
    projections_kernel,
    rates_kernel,
)
from vidmamba.kernels.selective_scan.kernel_backward import (
    projection_grads_kernel,
    totals_kernel,
)
from vidmamba.kernels.selective_scan.kernel_ends import chunk_ends_kernel
from vidmamba.kernels.selective_scan.kernel_gradients import gradients_kernel
from vidmamba.kernels.selective_scan.kernel_outputs import outputs_kernel
from vidmamba.kernels.selective_scan.kernel_room import (
    PLACES_ASIDE,
    PLACES_WITHOUT_ROOM,
    ROOM_ROWS,
)
from vidmamba.kernels.sizes import cdiv, power_of_two

TILE = 8  # frames that a program loads at a time
BLOCK = 32  # channels of a program: one a lane, with all its states in registers
PROJECTION_BLOCK = 16  # states of which B and C are moved together
COMBINE_TILE = 16
TOTALS_TILE = 32
MAX_GROUP = 16  # blocks whose gradients of B and C one program adds up
# one warp a program, its registers cut so that a multiprocessor holds sixteen: waiting is what
# these kernels do most, and more warps hide it better than longer tiles
WARP: dict[str, Any] = {"num_warps": 1, "maxnreg": 128, "enable_fp_fusion": True}
# all registers that a lane can have, without which states would be spilled to memory; eight warps
# of a multiprocessor have them, and as many have room in its shared memory
GRADIENTS_WARP: dict[str, Any] = {"num_warps": 1, "enable_fp_fusion": True}
GRADIENTS_WARPS = 8
COMBINE_WARP: dict[str, Any] = {"num_warps": 1, "enable_fp_fusion": True}


class _Setting(NamedTuple):
    """What forward and backward share: the chunks, the rates and projections as kernels read."""

    chunks: Chunks
    chunks_a_video: int
    table: Tensor  # (chunks, 2): first row and number of frames, for packed videos
    first_chunks: Tensor  # (videos + 1,), for packed videos
    rates: Tensor  # (N, width)
    projections: Tensor  # (2, chunks, frames, rows): B and C, zero from N to rows
    rows: int  # N rounded up to a power of two, 16 at least
    options: dict[str, Any]  # of every kernel that reads frames


def launch_forward(
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
    delta_softplus: bool,
    reverse: bool,
    keep_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Scan contiguous tensors; see `selective_scan` and its operator for what goes in and out."""
    setting = _set_up(u, A, B, C, offsets, delta_bias, delta_softplus, reverse)
    (_, total, width, _), num_states, frames = setting.chunks, A.shape[1], u.shape[1]
    videos = int(count_videos(u, offsets))
    kept = setting.chunks.segments if keep_states else 1
    states = u.new_empty(total * kept, num_states, width, dtype=torch.float32)
    ends = u.new_empty(total, num_states, width, dtype=torch.float32)
    sums = u.new_empty(total, width, dtype=torch.float32)
    sizes = (setting.table, frames, u.shape[2], width, setting.chunks_a_video)
    blocks = width // BLOCK
    grid = (total * blocks,)
    bias = _given(delta_bias, u)
    chunk_ends_kernel[grid](
        u, delta, setting.rates, setting.projections[0], u, bias, ends, sums, *sizes, num_states,
        blocks, ends.stride(0), HAS_Z=False, BACKWARD=False, **setting.options,
        **_blocks(setting, u), **_warp(setting),
    )  # fmt: skip
    final = _combine(
        setting,
        ends,
        sums,
        _states_in(initial_state, width),
        states,
        kept,
        videos,
        u.shape[2],
        False,
    )
    y = torch.empty_like(u)
    outputs_kernel[grid](
        u, delta, setting.rates, setting.projections[0], setting.projections[1], _given(D, u),
        _given(z, u), bias, states, y, *sizes, num_states, blocks,
        **setting.options, **_blocks(setting, u),
        HAS_SKIP=D is not None, HAS_Z=z is not None, KEPT=kept, **_warp(setting),
    )  # fmt: skip
    return y, final, states if keep_states else states[:0].clone()


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
    setting = _set_up(u, A, B, C, offsets, delta_bias, delta_softplus, reverse)
    (frames, total, width, _), num_states = setting.chunks, A.shape[1]
    channels = u.shape[2]
    grad_y = torch.zeros_like(u) if grad_y is None else grad_y
    # rows: a state's gradient each, then the parts of the gradients of A, D and the bias. Packed
    # videos may leave chunks unused, whose parts must be zero
    rows = (torch.empty if offsets is None else torch.zeros)(
        total, 2 * num_states + 2, width, dtype=torch.float32, device=u.device
    )
    sums = u.new_empty(total, width, dtype=torch.float32)
    bias, gate = _given(delta_bias, u), _given(z, u)
    blocks = width // BLOCK
    chunk_ends_kernel[(total * blocks,)](
        grad_y, delta, setting.rates, setting.projections[1], gate, bias, rows, sums,
        setting.table, u.shape[1], channels, width, setting.chunks_a_video,
        num_states, blocks, rows.stride(0), HAS_Z=z is not None, BACKWARD=True, **setting.options,
        **_blocks(setting, u), **_warp(setting),
    )  # fmt: skip
    last = _states_in(grad_final, width)
    grad_initial = _combine(
        setting, rows, sums, last, rows, 1, int(count_videos(u, offsets)), channels, True
    )

    group = _choose_group(total, channels, u.device)
    groups = cdiv(channels, BLOCK * group)
    programs = min(total * groups, _multiprocessors(u.device) * GRADIENTS_WARPS)
    room = setting.options["NATIVE"] and setting.rows <= ROOM_ROWS
    scratch_size = (PLACES_ASIDE if room else PLACES_WITHOUT_ROOM) * setting.rows * BLOCK
    scratch = u.new_empty(programs, scratch_size, dtype=torch.float32)
    parts = u.new_empty(groups, total, frames, 2 * setting.rows, dtype=torch.float32)
    grad_u, grad_delta = torch.empty_like(u), torch.empty_like(delta)
    grad_z = u.new_empty(0) if z is None else torch.empty_like(z)
    gradients_kernel[(programs,)](
        grad_y, u, delta, setting.rates, setting.projections[0], setting.projections[1],
        _given(D, u), gate, bias, states, rows, scratch, grad_u, grad_delta, grad_z, parts,
        setting.table, u.shape[1], channels, width, setting.chunks_a_video, total, num_states,
        groups, scratch_size, group, **setting.options, HAS_SKIP=D is not None,
        HAS_Z=z is not None, EVEN=channels % BLOCK == 0, BLOCK=BLOCK, ROWS=setting.rows,
        ROOM=room, EXACT=u.dtype != torch.bfloat16, **GRADIENTS_WARP,
    )  # fmt: skip
    del scratch  # in good time: this is where memory peaks
    grad_B, grad_C = torch.empty_like(B), torch.empty_like(C)
    block_t = min(frames, 32)
    projection_grads_kernel[(total * (frames // block_t), setting.rows // PROJECTION_BLOCK)](
        parts, grad_B, grad_C, setting.table, u.shape[1], setting.chunks_a_video, total,
        num_states, groups, REVERSE=reverse, PACKED=offsets is not None, FRAMES=frames,
        ROWS=setting.rows, BLOCK_T=block_t, BLOCK_N=PROJECTION_BLOCK,
    )  # fmt: skip
    grad_A = torch.empty_like(A)
    grad_D, grad_bias = (A if t is None else torch.empty_like(t) for t in (D, delta_bias))
    totals_kernel[(width // BLOCK, num_states + 2)](
        rows, grad_A, grad_D, grad_bias, total, channels, width, num_states,
        HAS_SKIP=D is not None, HAS_BIAS=delta_bias is not None, TILE=TOTALS_TILE, BLOCK=BLOCK,
    )  # fmt: skip
    results = [
        (u, grad_u),
        (delta, grad_delta),
        (A, grad_A),
        (B, grad_B),
        (C, grad_C),
        (D, grad_D),
        (z, grad_z),
        (delta_bias, grad_bias),
        (initial_state, grad_initial),
    ]
    return [u.new_empty(0) if t is None else _own(g, t) for t, g in results]


def _own(gradient: Tensor, like: Tensor) -> Tensor:
    """In the dtype of ``like``, and sharing no memory, as an operator's outputs must."""
    if gradient.is_contiguous() and gradient.dtype == like.dtype and gradient._base is None:
        return gradient
    return torch.empty_like(like).copy_(gradient)


def _set_up(
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    offsets: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
) -> _Setting:
    chunks = cut(u, offsets, "cuda")
    num_states = A.shape[1]
    rates = u.new_empty(num_states, chunks.width, dtype=torch.float32)
    rates_kernel[(chunks.width // CUDA_LANES, num_states)](
        A, rates, A.shape[0], chunks.width, num_states, BLOCK=CUDA_LANES
    )
    table, first_chunks = (u, u) if offsets is None else _lay_out(u, offsets, chunks, reverse)
    rows = max(power_of_two(num_states), PROJECTION_BLOCK)
    options = {
        "REVERSE": reverse,
        "PACKED": offsets is not None,
        # whether tiles of frames are never cut
        "WHOLE": offsets is None and u.shape[1] % TILE == 0,
        "FRAMES": chunks.frames,
        "HAS_BIAS": delta_bias is not None,
        "SOFTPLUS": delta_softplus,
        # Triton's interpreter knows no PTX
        "NATIVE": u.is_cuda and torch.version.hip is None,
        # float32 in, float32 out: decays accurate near one, so that slow ones do not drift
        "PRECISE": u.dtype == torch.float32,
    }
    setting = _Setting(
        chunks=chunks,
        chunks_a_video=cdiv(u.shape[1], chunks.frames),
        table=table,
        first_chunks=first_chunks,
        rates=rates,
        projections=u,
        rows=rows,
        options=options,
    )
    projections = u.new_empty(2, chunks.total, chunks.frames, rows, dtype=torch.float32)
    projections_kernel[(chunks.total, rows // PROJECTION_BLOCK)](
        B, C, projections, table, u.shape[1], setting.chunks_a_video, chunks.total, num_states,
        REVERSE=reverse, PACKED=offsets is not None, FRAMES=chunks.frames,
        BLOCK_N=PROJECTION_BLOCK, ROWS=rows,
    )  # fmt: skip
    return setting._replace(projections=projections)


def _lay_out(u: Tensor, offsets: Tensor, chunks: Chunks, reverse: bool) -> tuple[Tensor, Tensor]:
    """Where each chunk of packed videos begins, worked out on the device without waiting."""
    bounds = offsets.to(torch.int64).clamp(0, u.shape[1])
    lengths = (bounds[1:] - bounds[:-1]).clamp(min=0)
    ends = ((lengths + chunks.frames - 1) // chunks.frames).cumsum(0)
    firsts = torch.cat([ends.new_zeros(1), ends])
    chunk = torch.arange(chunks.total, device=u.device)
    video = torch.searchsorted(ends, chunk, right=True).clamp(max=len(lengths) - 1)
    done = (chunk - firsts[video]) * chunks.frames
    count = (lengths[video] - done).clamp(0, chunks.frames)
    row = bounds[1:][video] - 1 - done if reverse else bounds[:-1][video] + done
    return torch.stack([row, count], dim=1).to(torch.int32), firsts.to(torch.int32)


def _combine(
    setting: _Setting,
    ends: Tensor,
    sums: Tensor,
    initial: Tensor | None,
    states: Tensor,
    kept: int,
    videos: int,
    channels: int,
    latest_first: bool,
) -> Tensor:
    num_states, width = setting.rates.shape
    final = ends.new_empty(videos, channels, num_states)
    block = BLOCK
    combine_kernel[(videos * (width // block), num_states)](
        ends, sums, setting.rates, final if initial is None else initial, states, final,
        setting.first_chunks, channels, width, setting.chunks_a_video, num_states, ends.stride(0),
        states.stride(0) * kept,
        HAS_INITIAL=initial is not None, LATEST_FIRST=latest_first,
        PACKED=setting.options["PACKED"], TILE=COMBINE_TILE, BLOCK=block,
        NATIVE=setting.options["NATIVE"], PRECISE=setting.options["PRECISE"], **COMBINE_WARP,
    )  # fmt: skip
    return final


def _blocks(setting: _Setting, u: Tensor) -> dict[str, Any]:
    return {
        "EVEN": u.shape[2] % BLOCK == 0,
        "TILE": TILE,
        "BLOCK": BLOCK,
        "ROWS": setting.rows,
    }


def _warp(setting: _Setting) -> dict[str, Any]:
    """More registers where a lane holds more than 16 states."""
    return WARP if setting.rows <= 16 else COMBINE_WARP


def _given(tensor: Tensor | None, stand_in: Tensor) -> Tensor:
    return stand_in if tensor is None else tensor


def _states_in(states: Tensor | None, width: int) -> Tensor | None:
    """(videos, D, N) as kernels read it: (videos, N, width)."""
    if states is None:
        return None
    padding = (0, width - states.shape[1])
    return torch.nn.functional.pad(states.float().transpose(1, 2), padding).contiguous()


def _choose_group(chunks: int, channels: int, device: torch.device) -> int:
    """How many blocks share one part: what fills the device best, then the fewest parts."""
    blocks, programs = cdiv(channels, BLOCK), _multiprocessors(device) * GRADIENTS_WARPS

    def rounds(group: int) -> int:
        return cdiv(chunks * cdiv(blocks, group), programs) * group

    return min(range(min(MAX_GROUP, blocks), 0, -1), key=rounds)


@cache
def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
