"""What `selective_scan` refuses, and the sizes that follow from its arguments."""

from typing import NamedTuple

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
MAX_STATES = 256
CPU_LANES = 16  # widths of state buffers are multiples of it
CPU_CHUNK = 32
CUDA_LANES = 64
CUDA_CHUNKS = (32, 64, 128, 192, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280, 1536, 2048)
# float32's states would lose accuracy over more steps
CUDA_LONGEST_OF_FLOAT32 = 512
CUDA_SEGMENT = 64  # frames between the states that are kept for the gradients, at most
BLOCK = 32  # channels of a program on CUDA: one a lane
# programs that a GPU of 132 multiprocessors runs at a time, sixteen on each
CUDA_PROGRAMS = 132 * 16
CUDA_PROGRAMS_BACK = 132 * 8  # of the gradients' programs, which are larger


class Chunks(NamedTuple):
    """How videos are cut into chunks of frames; known from shapes alone, so that nothing waits."""

    frames: int  # in a whole chunk
    total: int  # room for the chunks of all videos
    width: int  # of a row of states: D rounded up to whole vectors
    span: int  # frames of a segment: between the states that are kept for the gradients
    kept: int  # room for those


def cut(u: Tensor, offsets: Tensor | None, device: str) -> Chunks:
    """Choose the chunks for a device: as long as may be, and no more than run at a time."""
    batch, frames, width = u.shape
    videos = batch if offsets is None else offsets.shape[0] - 1
    lanes, span = (CPU_LANES, CPU_CHUNK) if device == "cpu" else (CUDA_LANES, CUDA_SEGMENT)
    size = CPU_CHUNK
    if device != "cpu":
        size = _choose_size(u)
        if offsets is None:
            span = _choose_span(u)
    total = batch * -(-frames // size) if offsets is None else frames // size + videos
    # packed videos' states are kept chunk by chunk, others' video by video
    span = min(size, span) if offsets is not None else span
    kept = batch * -(-frames // span) if offsets is None else total * -(-size // span)
    return Chunks(size, total, -(-width // lanes) * lanes, span, kept)


def _choose_size(u: Tensor) -> int:
    """Frames of a chunk."""
    batch, frames, width = u.shape
    size = CUDA_CHUNKS[0]
    for larger in CUDA_CHUNKS[1:]:
        programs = batch * -(-frames // size) * -(-width // BLOCK)
        short = u.dtype != torch.float32 or larger <= CUDA_LONGEST_OF_FLOAT32
        if programs > CUDA_PROGRAMS and size < frames and short:
            size = larger
    return size


def _choose_span(u: Tensor) -> int:
    """Frames of a segment, of which the gradients' chunks have whole ones."""
    batch, frames, width = u.shape
    half = CUDA_SEGMENT // 2
    # u's gradient can lie where 16 states were kept, and those of a segment all in shared memory
    fits = u.itemsize == 2 and width % CUDA_LANES == 0 and (batch == 1 or frames % half == 0)
    each = max(CUDA_PROGRAMS_BACK // -(-width // BLOCK) // batch, 1)
    return half if fits or each * 512 >= frames else CUDA_SEGMENT


def fit(states: Tensor, u: Tensor, offsets: Tensor | None) -> bool:
    """Whether the states that are kept before segments have the very bytes of u's gradient there.

    So do 16 of them in half precision before segments of 32 frames: see the kernels' `find_kept`.
    """
    (batch, frames, channels), (kept, num_states, width) = u.shape, states.shape
    whole = batch == 1 or frames % (2 * num_states) == 0
    as_long = kept == batch * -(-frames // (2 * num_states))
    return offsets is None and u.itemsize == 2 and channels == width and whole and as_long


def as_gradient(states: Tensor, u: Tensor, reverse: bool) -> Tensor:
    """Memory of states that fit, as that of u's gradient."""
    rows = states.view(u.dtype).view(-1, u.shape[2])
    # the last segment may be cut, which is the first one of a scan that runs backwards
    first = len(rows) - u.shape[0] * u.shape[1] if reverse else 0
    return rows[first : first + u.shape[0] * u.shape[1]].view(u.shape)


def count_videos(u: Tensor, offsets: Tensor | None) -> int | torch.SymInt:
    """How many videos there are: one a row, or with offsets one an interval."""
    return u.shape[0] if offsets is None else offsets.shape[0] - 1


def check_arguments(
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
) -> None:
    """Raise ValueError, with the values, unless all arguments fit; past here lie raw pointers."""
    if u.ndim != 3 or 0 in u.shape:
        raise ValueError(f"u must have a shape (B, T, D) without zeros, got {[*u.shape]}")
    batch, frames, width = u.shape
    if A.ndim != 2 or A.shape[0] != width or not 1 <= A.shape[1] <= MAX_STATES:
        raise ValueError(f"A must have shape ({width}, 1 to {MAX_STATES}), got {[*A.shape]}")
    num_states = A.shape[1]
    if offsets is not None:
        _check_offsets(offsets, batch)
    named = {
        "delta": (delta, (batch, frames, width)),
        "z": (z, (batch, frames, width)),
        "B": (B, (batch, frames, num_states)),
        "C": (C, (batch, frames, num_states)),
        "D": (D, (width,)),
        "delta_bias": (delta_bias, (width,)),
        "initial_state": (initial_state, (count_videos(u, offsets), width, num_states)),
    }
    for name, (tensor, shape) in named.items():
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"{name} must have shape {[*shape]}, got {[*tensor.shape]}")
    for name, tensor in {"u": u, "A": A, **{name: t for name, (t, _) in named.items()}}.items():
        if tensor is None:
            continue
        if tensor.dtype not in DTYPES:
            raise ValueError(f"{name} must be one of {DTYPES}, got {tensor.dtype}")
        if (tensor.dtype == torch.float64) != (u.dtype == torch.float64):
            raise ValueError(f"u is {u.dtype} but {name} is {tensor.dtype}: cast one of them")
        if tensor.device != u.device:
            raise ValueError(f"u is on {u.device} but {name} is on {tensor.device}")
    if offsets is not None and offsets.device != u.device:
        raise ValueError(f"u is on {u.device} but offsets are on {offsets.device}")


def _check_offsets(offsets: Tensor, batch: int) -> None:
    if batch != 1:
        raise ValueError(f"with offsets, the videos are packed into B = 1, got B = {batch}")
    if offsets.ndim != 1 or offsets.shape[0] < 2:
        raise ValueError(f"offsets must have shape (videos + 1,), got {[*offsets.shape]}")
    if offsets.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"offsets must be int32 or int64, got {offsets.dtype}")
