"""What `ssd` refuses."""

from typing import Any

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
MAX_STATES = 256


def count_videos(x: Tensor, offsets: Tensor | None) -> Any:
    """One video a row, or with offsets one an interval: an int, symbolic in a trace."""
    return x.shape[0] if offsets is None else offsets.shape[0] - 1


def check_arguments(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
) -> None:
    """Raise ValueError, with the values, unless all arguments fit; past here lie raw pointers."""
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"x must have a shape (B, T, H, P) without zeros, got {[*x.shape]}")
    batch, frames, heads, width = x.shape
    if B.ndim != 4 or not 1 <= B.shape[3] <= MAX_STATES or B.shape[2] < 1 or heads % B.shape[2]:
        expected = f"(B, T, G, N), G dividing H = {heads} and N from 1 to {MAX_STATES}"
        raise ValueError(f"B must have shape {expected}, got {[*B.shape]}")
    if offsets is not None:
        _check_offsets(offsets, batch)
    groups, num_states = B.shape[2:]
    named = {
        "dt": (dt, (batch, frames, heads)),
        "A": (A, (heads,)),
        "B": (B, (batch, frames, groups, num_states)),
        "C": (C, (batch, frames, groups, num_states)),
        "D": (D, (heads,)),
        "z": (z, (batch, frames, heads, width)),
        "dt_bias": (dt_bias, (heads,)),
        "initial_state": (initial_state, (count_videos(x, offsets), heads, width, num_states)),
    }
    for name, (tensor, shape) in named.items():
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"{name} must have shape {[*shape]}, got {[*tensor.shape]}")
    for name, tensor in {"x": x, **{name: t for name, (t, _) in named.items()}}.items():
        if tensor is None:
            continue
        if tensor.dtype not in DTYPES:
            raise ValueError(f"{name} must be one of {DTYPES}, got {tensor.dtype}")
        if (tensor.dtype == torch.float64) != (x.dtype == torch.float64):
            raise ValueError(f"x is {x.dtype} but {name} is {tensor.dtype}: cast one of them")
        if tensor.device != x.device:
            raise ValueError(f"x is on {x.device} but {name} is on {tensor.device}")
    if offsets is not None and offsets.device != x.device:
        raise ValueError(f"x is on {x.device} but offsets are on {offsets.device}")


def _check_offsets(offsets: Tensor, batch: int) -> None:
    if batch != 1:
        raise ValueError(f"with offsets, the videos are packed into B = 1, got B = {batch}")
    if offsets.ndim != 1 or offsets.shape[0] < 2:
        raise ValueError(f"offsets must have shape (videos + 1,), got {[*offsets.shape]}")
    if offsets.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"offsets must be int32 or int64, got {offsets.dtype}")
