"""What the selective scan's launches share, forward and backward."""

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidmamba.kernels.selective_scan.checks import BLOCK, CUDA_LANES, Chunks
from vidmamba.kernels.selective_scan.kernel import combine_kernel
from vidmamba.kernels.selective_scan.kernel_inputs import PIECE
from vidmamba.kernels.selective_scan.kernel_prepare import prepare_kernel
from vidmamba.kernels.sizes import cdiv, power_of_two

TILE = 8  # frames that a program of one pass over time loads at a time
PROJECTION_BLOCK = 16  # states of which B and C are moved together
PROJECTION_TILE = 32  # and frames
COMBINE_TILE = 16
# one warp a program, its registers cut so that a multiprocessor holds sixteen: waiting is what
# these kernels do most, and more warps hide it better than longer tiles
WARP: dict[str, Any] = {"num_warps": 1, "maxnreg": 128, "enable_fp_fusion": True}
WARP_OF_MANY_STATES: dict[str, Any] = {"num_warps": 1, "enable_fp_fusion": True}


class Setting(NamedTuple):
    """The chunks, and the rates and projections as kernels read them."""

    chunks: Chunks
    chunks_a_video: int
    table: Tensor  # (chunks, 2): first row and number of frames, for packed videos
    first_chunks: Tensor  # (videos + 1,), for packed videos
    rates: Tensor  # (N, width)
    projections: Tensor  # (2, chunks, frames, rows): B and C, zero from N to rows
    rows: int  # N rounded up to a power of two, 16 at least
    options: dict[str, Any]  # of every kernel that reads frames


def set_up(
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    offsets: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
    chunks: Chunks,
    counters: Tensor | None = None,
) -> Setting:
    """Write rates and projections for chunks of these sizes, and zeros to counters."""
    num_states = A.shape[1]
    rates = u.new_empty(num_states, chunks.width, dtype=torch.float32)
    table, first_chunks = (u, u) if offsets is None else _lay_out(u, offsets, chunks, reverse)
    rows = max(power_of_two(num_states), PROJECTION_BLOCK)
    options = {
        "REVERSE": reverse,
        "PACKED": offsets is not None,
        # whether tiles of frames are never cut
        "WHOLE": offsets is None and u.shape[1] % TILE == 0,
        "HAS_BIAS": delta_bias is not None,
        "SOFTPLUS": delta_softplus,
        # Triton's interpreter knows no PTX
        "NATIVE": u.is_cuda and torch.version.hip is None,
        # float32 in, float32 out: decays accurate near one, so that slow ones do not drift
        "PRECISE": u.dtype == torch.float32,
    }
    # packed chunks are numbered through: a chunk is a video of its own
    chunks_a_video = cdiv(u.shape[1], chunks.frames) if offsets is None else 1
    projections = u.new_empty(2, chunks.total, chunks.frames, rows, dtype=torch.float32)
    rate_programs = chunks.width // CUDA_LANES * num_states
    tiles = cdiv(chunks.frames, PROJECTION_TILE) * (rows // PROJECTION_BLOCK)
    num_counters = 0 if counters is None else counters.numel()
    prepare_kernel[(rate_programs + chunks.total * tiles,)](
        A, B, C, rates, projections, given(counters, table), table, u.shape[1], u.shape[2],
        chunks.width, chunks.frames, chunks_a_video, chunks.total, rate_programs, num_counters,
        num_states, REVERSE=reverse,
        PACKED=offsets is not None, ROWS=rows, BLOCK=CUDA_LANES, BLOCK_T=PROJECTION_TILE,
        BLOCK_N=PROJECTION_BLOCK, **early(u.device),
    )  # fmt: skip
    return Setting(chunks, chunks_a_video, table, first_chunks, rates, projections, rows, options)


def _lay_out(u: Tensor, offsets: Tensor, chunks: Chunks, reverse: bool) -> tuple[Tensor, Tensor]:
    """Where each chunk of packed videos begins, worked out on the device without waiting."""
    # offsets that fall would need a wait to be refused; without one, they must not claim more
    # chunks than there is room for
    bounds = offsets.to(torch.int64).clamp(0, u.shape[1]).cummax(0).values
    lengths = bounds[1:] - bounds[:-1]
    ends = ((lengths + chunks.frames - 1) // chunks.frames).cumsum(0)
    firsts = torch.cat([ends.new_zeros(1), ends])
    chunk = torch.arange(chunks.total, device=u.device)
    video = torch.searchsorted(ends, chunk, right=True).clamp(max=len(lengths) - 1)
    done = (chunk - firsts[video]) * chunks.frames
    count = (lengths[video] - done).clamp(0, chunks.frames)
    row = bounds[1:][video] - 1 - done if reverse else bounds[:-1][video] + done
    return torch.stack([row, count], dim=1).to(torch.int32), firsts.to(torch.int32)


def combine(
    setting: Setting,
    ends: Tensor,
    sums: Tensor,
    initial: Tensor | None,
    final: Tensor,
    channels: int,
    latest_first: bool,
) -> None:
    """Chain the chunks: what each ends with becomes the state before it."""
    num_states, width = setting.rates.shape
    combine_kernel[(final.shape[0] * (width // BLOCK), num_states)](
        ends, sums, setting.rates, final if initial is None else initial, final,
        setting.first_chunks, final.stride(0) // num_states, channels, width,
        setting.chunks_a_video, num_states, ends.stride(0),
        HAS_INITIAL=initial is not None, LATEST_FIRST=latest_first,
        PACKED=setting.options["PACKED"], TILE=COMBINE_TILE, BLOCK=BLOCK,
        NATIVE=setting.options["NATIVE"], PRECISE=setting.options["PRECISE"],
        **early(ends.device), **WARP_OF_MANY_STATES,
    )  # fmt: skip


def one_pass(setting: Setting, *inputs: Tensor) -> dict[str, Any]:
    """Options of the kernels that pass over time once, and over these inputs."""
    return {
        **setting.options,
        **early(setting.rates.device),
        "COPIED": setting.options["NATIVE"] and copied(*inputs),
        "TILE": TILE,
        "BLOCK": BLOCK,
        "ROWS": setting.rows,
        **(WARP if setting.rows <= 16 else WARP_OF_MANY_STATES),
    }


def copied(*inputs: Tensor) -> bool:
    """Whether all rows are of as many whole pieces that a lane copies, and begin with one."""
    size, piece = inputs[0].itemsize, PIECE.value
    return all(
        x.itemsize == size and x.shape[2] * size % piece == 0 and x.data_ptr() % piece == 0
        for x in inputs
    )


def given(tensor: Tensor | None, stand_in: Tensor) -> Tensor:
    """The tensor, or something to pass for it."""
    return stand_in if tensor is None else tensor


def states_in(states: Tensor | None, width: int) -> Tensor | None:
    """(videos, D, N) as kernels read it: (videos, N, width)."""
    if states is None:
        return None
    padding = (0, width - states.shape[1])
    return torch.nn.functional.pad(states.float().transpose(1, 2), padding).contiguous()


@cache
def early(device: torch.device) -> dict[str, Any]:
    """Programmatic dependent launch, from Hopper on: a launch begins while the one ahead ends.

    Not for the gradients' programs, which would crowd on the multiprocessors that are free first.
    """
    if device.type != "cuda" or torch.version.hip:
        return {"EARLY": False}
    able = torch.cuda.get_device_capability(device)[0] >= 9
    return {"EARLY": True, "launch_pdl": True} if able else {"EARLY": False}
