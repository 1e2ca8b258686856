"""Launches the Triton kernels of the forward scan: which buffers, how many programs.

A fixed size for each family of shapes, found by measuring; nothing is tried out at run time, and
nothing waits for the device, so calls can be captured in a CUDA graph.
"""

import torch
from torch import Tensor

from vidmamba.kernels.selective_scan.checks import BLOCK, count_videos, cut
from vidmamba.kernels.selective_scan.kernel_ends import chunk_ends_kernel
from vidmamba.kernels.selective_scan.kernel_outputs import outputs_kernel
from vidmamba.kernels.selective_scan.setting import (
    combine,
    given,
    one_pass,
    set_up,
    states_in,
)


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
    chunks = cut(u, offsets, "cuda")
    setting = set_up(u, A, B, C, offsets, delta_bias, delta_softplus, reverse, chunks)
    (_, total, width, span, kept), num_states = chunks, A.shape[1]
    videos, packed = int(count_videos(u, offsets)), offsets is not None
    states = u.new_empty(kept if keep_states else 0, num_states, width, dtype=torch.float32)
    ends = u.new_empty(total, num_states, width, dtype=torch.float32)
    sums = u.new_empty(total, width, dtype=torch.float32)
    channels = u.shape[2]
    sizes = (
        setting.table, u.shape[1], channels, channels, width, chunks.frames,
        setting.chunks_a_video,
    )  # fmt: skip
    options = one_pass(setting, u, delta, given(z, u))
    blocks = width // BLOCK
    grid = (total * blocks,)
    bias = given(delta_bias, u)
    chunk_ends_kernel[grid](
        u, delta, setting.rates, setting.projections[0], u, bias, ends, sums, *sizes, num_states,
        blocks, ends.stride(0), HAS_Z=False, BACKWARD=False, **options,
    )  # fmt: skip
    final = u.new_empty(videos, channels, num_states, dtype=torch.float32)
    initial = states_in(initial_state, width)
    combine(setting, ends, sums, initial, final, channels, False)
    del sums
    y = torch.empty_like(u)
    outputs_kernel[grid](
        u, delta, setting.rates, setting.projections[0], setting.projections[1], given(D, u),
        given(z, u), bias, ends, states, y, *sizes, span, kept // (total if packed else videos),
        num_states, blocks,
        HAS_SKIP=D is not None, HAS_Z=z is not None, KEEP=keep_states,
        **options,
    )  # fmt: skip
    return y, final, states
