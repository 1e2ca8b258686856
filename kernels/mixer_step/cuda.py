"""Launches the step's kernels: which buffers, how many programs, which tile sizes."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from vidmamba.kernels.mixer_step.kernel import (
    enter_kernel,
    leave_kernel,
    mamba1_scan_kernel,
    mamba2_scan_kernel,
)
from vidmamba.kernels.sizes import cdiv, power_of_two

MAX_VIDEOS = 64  # of a program that multiplies; several videos share one, on tensor cores
MANY_VIDEOS = 16  # from here on programs of the scan take more channels, being enough anyway
# rows and columns of in_proj and out_proj that a program takes at once
ENTER_ONE: dict[str, int] = {"BLOCK_R": 16, "BLOCK_D": 1024, "num_warps": 4}
ENTER_SEVERAL: dict[str, int] = {"BLOCK_R": 32, "BLOCK_D": 128, "num_warps": 4, "num_stages": 3}
LEAVE_ONE: dict[str, int] = {"BLOCK_D": 4, "num_warps": 4}
LEAVE_SEVERAL: dict[str, int] = {"BLOCK_D": 16, "BLOCK_E": 128, "num_warps": 4, "num_stages": 3}
SCAN1_MANY: dict[str, int] = {"BLOCK_E": 128, "num_warps": 4}
SCAN2_MANY: dict[str, int] = {"BLOCK_P": 32, "num_warps": 4}
SCAN1_FEW: dict[str, int] = {"BLOCK_E": 8, "num_warps": 4}
SCAN2_FEW: dict[str, int] = {"BLOCK_P": 8, "num_warps": 4}


def launch_mamba1_step(
    x: Tensor,
    conv: Tensor,
    scan: Tensor,
    in_proj: Tensor,
    taps: Tensor,
    conv_bias: Tensor,
    x_proj: Tensor,
    dt_proj: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    out_proj: Tensor,
) -> Tensor:
    """Move contiguous states on by one frame; see `mamba1_step`."""
    (videos, _), (inner, states), rank = x.shape, A_log.shape, dt_proj.shape[1]
    outputs = x_proj.shape[0]
    count = cdiv(inner, (ENTER_ONE if videos == 1 else ENTER_SEVERAL)["BLOCK_R"])
    mixed = x.new_empty(videos, 2 * inner, dtype=torch.float32)
    parts = x.new_empty(count, videos, outputs, dtype=torch.float32)
    _enter(x, in_proj, taps, conv_bias, conv, x_proj, mixed, parts, first=0)
    y = _new_outputs(x, inner)
    blocks = SCAN1_FEW if videos < MANY_VIDEOS else SCAN1_MANY
    sizes = (videos, inner, states, rank, outputs, count)
    mamba1_scan_kernel[(cdiv(inner, blocks["BLOCK_E"]), videos)](
        mixed, parts, dt_proj, dt_bias, A_log, D, scan, y, *sizes, **blocks,
        BLOCK_N=power_of_two(states), BLOCK_R=power_of_two(rank),
        BLOCK_P=min(power_of_two(count), 64), NATIVE=_native(x),
        PRECISE=x.dtype != torch.bfloat16, **_early(x),
    )  # fmt: skip
    return _leave(x, y, out_proj, None, groups=1, eps=0.0)


def launch_mamba2_step(
    x: Tensor,
    conv: Tensor,
    scan: Tensor,
    in_proj: Tensor,
    taps: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    norm: Tensor,
    out_proj: Tensor,
    groups: int,
    eps: float,
) -> Tensor:
    """Move contiguous states on by one frame; see `mamba2_step`."""
    videos, heads, width, states = scan.shape
    mixed = x.new_empty(videos, in_proj.shape[0], dtype=torch.float32)
    _enter(x, in_proj, taps, conv_bias, conv, None, mixed, None, first=heads * width)
    y = _new_outputs(x, heads * width)
    tile = SCAN2_FEW if videos < MANY_VIDEOS else SCAN2_MANY
    blocks = cdiv(width, tile["BLOCK_P"])
    squares = x.new_empty(videos, heads * blocks, dtype=torch.float32)
    sizes = (mixed.shape[1], heads, width, states, heads // groups, groups, blocks)
    mamba2_scan_kernel[(heads * blocks, videos)](
        mixed, dt_bias, A_log, D, norm, scan, y, squares, *sizes, **tile,
        BLOCK_N=power_of_two(states), NATIVE=_native(x), PRECISE=x.dtype != torch.bfloat16,
        **_early(x),
    )  # fmt: skip
    return _leave(x, y, out_proj, squares, groups=groups, eps=eps)


def _enter(
    x: Tensor,
    in_proj: Tensor,
    taps: Tensor,
    bias: Tensor,
    conv: Tensor,
    x_proj: Tensor | None,
    mixed: Tensor,
    parts: Tensor | None,
    *,
    first: int,
) -> None:
    (videos, width), rows, (channels, _, size) = x.shape, in_proj.shape[0], taps.shape
    outputs = 1 if parts is None else parts.shape[2]
    tile = ENTER_ONE if videos == 1 else ENTER_SEVERAL
    tile = tile | {"BLOCK_D": max(min(power_of_two(width), tile["BLOCK_D"]), 16)}
    given = (taps if x_proj is None else x_proj, mixed, mixed if parts is None else parts)
    enter_kernel[(cdiv(rows, tile["BLOCK_R"]), cdiv(videos, _videos(videos)))](
        x, in_proj, taps, bias, conv, *given, videos, width, rows, first, channels, outputs, **tile,
        K=size, PARTS=parts is not None, BLOCK_B=_videos(videos),
        BLOCK_Q=max(power_of_two(outputs), 16), NATIVE=_native(x), **_early(x),
    )  # fmt: skip


def _leave(
    x: Tensor, y: Tensor, out_proj: Tensor, squares: Tensor | None, *, groups: int, eps: float
) -> Tensor:
    videos, inner = y.shape
    width, size = out_proj.shape[0], power_of_two(inner // groups)
    tile = LEAVE_ONE | {"BLOCK_E": size} if videos == 1 else LEAVE_SEVERAL
    if videos > 1:
        tile = tile | {"BLOCK_E": max(min(size, tile["BLOCK_E"]), 16)}
    parts = 1 if squares is None else squares.shape[1] // groups
    out = torch.empty_like(x)
    leave_kernel[(cdiv(width, tile["BLOCK_D"]), cdiv(videos, _videos(videos)))](
        y, out_proj, y if squares is None else squares, out, videos, inner, width, parts, eps,
        **tile, GROUPS=groups, NORM=squares is not None, BLOCK_B=_videos(videos),
        BLOCK_S=power_of_two(parts), **_early(x),
    )  # fmt: skip
    return out


def _new_outputs(x: Tensor, inner: int) -> Tensor:
    """Room for the scan's outputs; tensor cores round them to x's dtype in any case."""
    return x.new_empty(x.shape[0], inner, dtype=torch.float32 if x.shape[0] == 1 else x.dtype)


def _videos(videos: int) -> int:
    """How many a program takes: one, or as many as tensor cores want."""
    return 1 if videos == 1 else min(max(power_of_two(videos), 16), MAX_VIDEOS)


def _native(x: Tensor) -> bool:
    return x.is_cuda and torch.version.hip is None


def _early(x: Tensor) -> dict[str, Any]:
    """Programmatic dependent launch: many videos' programs would only stand in each other's way."""
    if x.shape[0] >= MANY_VIDEOS or not _can_begin_early(x.device):
        return {"EARLY": False}
    return {"EARLY": True, "launch_pdl": True}


@cache
def _can_begin_early(device: torch.device) -> bool:
    """From Hopper on."""
    if device.type != "cuda" or torch.version.hip:
        return False
    return torch.cuda.get_device_capability(device)[0] >= 9
