"""Launches the Triton kernels of the Mamba-2 scan, forward and backward."""

import functools

import torch
from torch import Tensor

from vidmamba.kernels.sizes import cdiv
from vidmamba.kernels.ssd.chunked import Inputs
from vidmamba.kernels.ssd.job import Job, States
from vidmamba.kernels.ssd.kernel_frame_grads import (
    frame_grads_kernel,
    gate_grads_kernel,
    step_grads_kernel,
    totals_kernel,
)
from vidmamba.kernels.ssd.kernel_outputs import outputs_kernel
from vidmamba.kernels.ssd.kernel_projection_grads import (
    projection_grads_kernel,
    score_grads_kernel,
)
from vidmamba.kernels.ssd.plan import kept_size

TOTALS_ROWS = 64
HEADS_BLOCK = 16


def launch_forward(
    given: Inputs, offsets: Tensor | None, softplus: bool, reverse: bool, *, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Scan contiguous tensors: y like x, the last states, and what the backward pass wants."""
    x, skip = given.x, given.D is not None
    job = Job(given, offsets, softplus, reverse, logs=not keep)
    kept = x.new_empty(kept_size(x, given.B, offsets, inner=keep), dtype=torch.float32)
    states, inner = job.split(kept, inner=keep)
    final = job.new_states(given.initial_state)
    job.walk(x, x, given.B, given.initial_state, final, states, gradient=False)
    y = torch.empty_like(x)
    job.launch(
        outputs_kernel, "kept" if keep else "outputs", (job.plan.chunks, x.shape[2] // job.heads),
        x, given.z, given.D, *job.rows, job.steps, job.sums, *states, y, *inner, *job.where,
        job.heads, KEEP=keep, HAS_Z=given.z is not None, HAS_SKIP=skip,
    )  # fmt: skip
    return y, final, kept


def launch_backward(
    grad_y: Tensor | None,
    grad_final: Tensor | None,
    given: Inputs,
    offsets: Tensor | None,
    kept: Tensor,
    softplus: bool,
    reverse: bool,
) -> list[Tensor | None]:
    """Return the gradients of the `Inputs`, None for those not given."""
    x, z = given.x, given.z
    grad_y = torch.zeros_like(x) if grad_y is None else grad_y
    job = Job(given, offsets, softplus, reverse, logs=False)
    grad_x = torch.empty_like(x)
    grad_z = None if z is None else torch.empty_like(z)
    sums = job.sums.new_empty(2, *job.sums.shape)  # with y and with x
    seen, seen_scales = job.new_seen(grad_x)
    states, inner = job.split(kept, inner=True)
    job.launch(
        gate_grads_kernel, "gates", (2 * job.plan.chunks * x.shape[2], 1),
        x, z, grad_y, given.D, *inner, grad_z, *sums, seen, seen_scales, *job.where[:3],
        HAS_Z=z is not None, HAS_SKIP=given.D is not None,
    )  # fmt: skip
    del inner
    grads = job.new_grads()
    grad_initial = job.new_states(grad_final)
    job.walk(seen, seen_scales, given.C, grad_final, grad_initial, grads, gradient=True)
    grad_B, grad_C = _projection_grads(job, given, seen, seen_scales, states, grads)
    # last, for the gradients of x take the place of what the others read
    grad_dt, grad_A, grad_bias, grad_D = _frame_grads(
        job, given, seen, seen_scales, states, grads, sums, grad_x, softplus
    )
    if given.initial_state is not None:
        grad_initial = grad_initial.to(given.initial_state.dtype)
    results = (grad_x, grad_dt, grad_A, grad_B, grad_C, grad_D, grad_z, grad_bias, grad_initial)
    return [None if t is None else g for t, g in zip(given, results, strict=True)]


def _projection_grads(
    job: Job, given: Inputs, seen: Tensor, seen_scales: Tensor, states: States, grads: States
) -> tuple[Tensor, Tensor]:
    """The gradients of B and C."""
    x, half, chunks = given.x, job.plan.L // 2, job.plan.chunks
    groups = given.B.shape[2]
    splits = x.shape[2] // groups // job.heads
    scores = x.new_empty(groups * splits, chunks, 3, half, half, dtype=torch.float32)
    job.launch(
        score_grads_kernel, "scores", (chunks, groups * splits),
        seen, seen_scales, x, job.steps, job.sums, scores, *job.where, job.heads,
    )  # fmt: skip
    grad_B, grad_C = torch.empty_like(given.B), torch.empty_like(given.C)
    for of_c, frames, other, held, out in (
        (True, seen, given.B, states, grad_C),
        (False, x, given.C, grads, grad_B),
    ):
        job.launch(
            projection_grads_kernel, "projections", (chunks, 2 * groups),
            frames, seen_scales, other, job.steps, job.sums, *held, scores, out, *job.where,
            splits, OF_C=of_c,
        )  # fmt: skip
    return grad_B, grad_C


def _frame_grads(
    job: Job,
    given: Inputs,
    seen: Tensor,
    seen_scales: Tensor,
    states: States,
    grads: States,
    slopes: Tensor,
    grad_x: Tensor,
    softplus: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Write the gradients of x; return those of dt, A, the bias and D."""
    heads, chunks, skip = given.x.shape[2], job.plan.chunks, given.D is not None
    new = functools.partial(given.x.new_empty, dtype=torch.float32)
    row_sums, state_sums = new(chunks, heads, 2, job.plan.L), new(chunks, heads, job.plan.BP)
    job.launch(
        frame_grads_kernel, "frames", (chunks, heads // job.heads),
        seen, seen_scales, given.x, given.D, *job.rows, job.steps, job.sums, *states, *grads,
        grad_x, row_sums, state_sums, *job.where, job.heads, HAS_SKIP=skip,
    )  # fmt: skip
    grad_dt, parts = torch.empty_like(given.dt), new(3, chunks, heads)
    job.launch(
        step_grads_kernel, "steps", (chunks, cdiv(heads, HEADS_BLOCK)),
        given.A, job.steps, job.sums, *slopes, row_sums, state_sums, grad_dt, parts, *job.where,
        SOFTPLUS=softplus, HAS_SKIP=skip, BLOCK=HEADS_BLOCK,
    )  # fmt: skip
    grad_A = torch.empty_like(given.A)
    grad_bias, grad_D = (
        None if t is None else torch.empty_like(t) for t in (given.dt_bias, given.D)
    )
    totals_kernel[(3, cdiv(heads, HEADS_BLOCK))](
        parts, grad_A, grad_A if grad_bias is None else grad_bias,
        grad_A if grad_D is None else grad_D, chunks, heads, HAS_BIAS=grad_bias is not None,
        HAS_SKIP=skip, ROWS=TOTALS_ROWS, BLOCK=HEADS_BLOCK, num_warps=4,
    )  # fmt: skip
    return grad_dt, grad_A, grad_bias, grad_D
