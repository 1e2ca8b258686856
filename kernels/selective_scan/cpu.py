"""Lays PyTorch's tensors out for the numba kernels and shares their tasks among threads."""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidmamba.kernels.selective_scan.checks import CPU_CHUNK, CPU_LANES, cut
from vidmamba.kernels.selective_scan.cpu_kernel import scan_backward, scan_forward, scratch_size
from vidmamba.kernels.threads import run_tasks

LOG2_E = 1.4426950408889634
# vectors of channels to a task: more share the cache lines and the sums over channels better,
# fewer keep more threads busy; by shape alone, so that sums do not depend on the machine
MAX_BLOCKS = 4
ENOUGH_TASKS = 16


class _Layout(NamedTuple):
    """Where videos lie in the rows of the flattened tensors, and how tasks share the width."""

    starts: Any  # int64 (videos,): first row
    lengths: Any  # int64 (videos,)
    first_chunks: Any  # int64 (videos,)
    sizes: tuple[int, int, int, int, int]  # width, N, tasks a video, vectors a task, chunk

    @property
    def tasks(self) -> int:
        return len(self.starts) * self.sizes[2]


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
    layout = _lay_out(u, A, offsets)
    width, num_states, *_ = layout.sizes
    y = torch.empty(*u.shape[:2], width)
    final = torch.empty(len(layout.starts), num_states, width)
    chunks = cut(u, offsets, "cpu").total if keep_states else 0
    states = torch.empty(chunks, num_states, width)
    if offsets is not None:
        states[len(states) - len(layout.starts) :] = 0  # room that packed videos may leave unused
    arrays = [*_inputs(u, delta, A, B, C, D, z, delta_bias), _states(initial_state, final)]
    flat = [_flat(t) for t in (*arrays, y, final, states)]
    flags = (z is not None, delta_softplus, reverse, keep_states)

    def work(first: int, last: int) -> None:
        scan_forward(first, last, _scratch(layout), *flat, *layout, flags)

    run_tasks(work, layout.tasks)
    return _cut(y, u), _states_out(final, A), states


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
    layout = _lay_out(u, A, offsets)
    width, num_states, groups, *_ = layout.sizes
    videos, rows = len(layout.starts), u.shape[0] * u.shape[1]
    final = torch.empty(videos, num_states, width)
    arrays = [
        *_inputs(u, delta, A, B, C, D, z, delta_bias),
        torch.zeros(rows, width) if grad_y is None else _pad(grad_y, width),
        _states(grad_final, final),
        states,
    ]
    grad_u = torch.empty(*u.shape[:2], width)
    grad_delta = torch.empty_like(grad_u)
    grad_z = torch.empty(0 if z is None else (*u.shape[:2], width))
    # sums over frames in float64: a hundred thousand float32 roundings would show
    grad_A = torch.zeros(videos, num_states, width, dtype=torch.float64)
    grad_B, grad_C = torch.empty(2, groups, rows, num_states)
    grad_D, grad_bias = torch.zeros(2, videos, width, dtype=torch.float64)
    grad_initial = torch.empty_like(final)
    gradients = (
        grad_u, grad_delta, grad_z, grad_A, grad_B, grad_C, grad_D, grad_bias, grad_initial,
    )  # fmt: skip
    flat = [_flat(t) for t in (*arrays, *gradients)]
    flags = (z is not None, delta_softplus, reverse, rows)

    def work(first: int, last: int) -> None:
        scan_backward(first, last, _scratch(layout), *flat, *layout, flags)

    run_tasks(work, layout.tasks)
    real = A.shape[0]
    results = [
        (u, grad_u),
        (delta, grad_delta),
        (A, _in_order(grad_A)[:, :real].T),
        (B, _in_order(grad_B).view(B.shape)),
        (C, _in_order(grad_C).view(C.shape)),
        (D, _in_order(grad_D)[:real]),
        (z, grad_z),
        (delta_bias, _in_order(grad_bias)[:real]),
        (initial_state, grad_initial.transpose(1, 2)[:, :real]),
    ]
    return [u.new_empty(0) if t is None else _cut(gradient, t) for t, gradient in results]


def _lay_out(u: Tensor, A: Tensor, offsets: Tensor | None) -> _Layout:
    batch, frames, _ = u.shape
    bounds = np.arange(batch + 1) * frames
    if offsets is not None:
        bounds = offsets.to(torch.int64).numpy()
        if bounds[0] != 0 or bounds[-1] != frames or (np.diff(bounds) < 0).any():
            raise ValueError(f"offsets must rise from 0 to T = {frames}, got {bounds.tolist()}")
    lengths = np.diff(bounds)
    chunks = np.cumsum(-(-lengths // CPU_CHUNK)) if len(lengths) else lengths
    width = cut(u, None, "cpu").width
    vectors = width // CPU_LANES
    blocks = min(max(len(lengths) * vectors // ENOUGH_TASKS, 1), MAX_BLOCKS)
    sizes = (width, A.shape[1], -(-vectors // blocks), blocks, CPU_CHUNK)
    return _Layout(bounds[:-1].copy(), lengths, chunks - -(-lengths // CPU_CHUNK), sizes)


def _inputs(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
) -> list[Tensor]:
    width = cut(u, None, "cpu").width
    zeros = torch.zeros(width)
    value = _pad(u, width)
    return [
        value,
        _pad(delta, width),
        _pad((A.float() * LOG2_E).T, width),
        B.float(),
        C.float(),
        zeros if D is None else _pad(D, width),
        value if z is None else _pad(z, width),
        zeros if delta_bias is None else _pad(delta_bias, width),
    ]


def _pad(tensor: Tensor, width: int) -> Tensor:
    """As contiguous float32, with zeros up to whole vectors of channels."""
    if tensor.shape[-1] == width:
        return tensor.float().contiguous()
    return F.pad(tensor.float(), (0, width - tensor.shape[-1]))


def _states(given: Tensor | None, like: Tensor) -> Tensor:
    """States (videos, D, N) as the kernels lay them out, (videos, N, padded D)."""
    return torch.zeros_like(like) if given is None else _pad(given.transpose(1, 2), like.shape[2])


def _states_out(states: Tensor, A: Tensor) -> Tensor:
    return states.transpose(1, 2)[:, : A.shape[0]].contiguous()


def _cut(padded: Tensor, like: Tensor) -> Tensor:
    """Without the padding, in the dtype of ``like``."""
    return padded[..., : like.shape[-1]].to(like.dtype).contiguous()


def _in_order(parts: Tensor) -> Tensor:
    """The sum over the first dimension, front to back on any number of threads."""
    # NumPy's, on this thread: PyTorch's workers spin on when done, beside our own threads
    values = parts.numpy()
    result = values[0].copy()
    for part in values[1:]:
        result += part
    return torch.from_numpy(result)


def _scratch(layout: _Layout) -> Any:
    # PyTorch's memory begins at a cache line, NumPy's need not, and each vector is one line
    _, num_states, _, blocks, frames = layout.sizes
    return torch.empty(scratch_size(num_states, blocks, frames)).numpy()


def _flat(tensor: Tensor) -> Any:
    return tensor.detach().reshape(-1).numpy()
