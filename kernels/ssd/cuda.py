"""Launches the Triton kernels: which buffers, how many programs, which tile sizes.

A fixed size for each family of shapes, found by measuring; nothing is tried out at run time, and
nothing waits for the device, so calls can be captured in a CUDA graph.
"""

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidmamba.kernels.sizes import cdiv
from vidmamba.kernels.ssd.checks import count_videos
from vidmamba.kernels.ssd.chunked import Inputs
from vidmamba.kernels.ssd.kernel import (
    carried_kernel,
    carry_kernel,
    outputs_kernel,
    rows_kernel,
    steps_kernel,
    walk_kernel,
)
from vidmamba.kernels.ssd.kernel_backward import (
    frame_grads_kernel,
    projection_grads_kernel,
    score_grads_kernel,
    step_grads_kernel,
)
from vidmamba.kernels.ssd.plan import PROGRAMS, Plan, kept_size, plan

STEPS_BLOCK = 16
CARRY_BLOCK = 512
TUNING: dict[str, dict[str, int]] = {
    "steps": {"num_warps": 4},
    "rows": {"num_warps": 4},
    "walk": {"num_warps": 4, "num_stages": 3},
    "carry": {"num_warps": 4},
    "carried": {"num_warps": 4},
    "outputs": {"num_warps": 4, "num_stages": 2},
    "gates": {"num_warps": 4, "num_stages": 2},
    "frames": {"num_warps": 4, "num_stages": 2},
    "scores": {"num_warps": 4, "num_stages": 1},
    "projections": {"num_warps": 4, "num_stages": 3},
}


class States(NamedTuple):
    """The states that enter the chunks, or the gradients of those that leave them."""

    states: Tensor
    scales: Tensor


def launch_forward(
    given: Inputs, offsets: Tensor | None, softplus: bool, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Scan contiguous tensors: y like x, the last states, and what the backward pass wants."""
    x = given.x
    job = Job(given, offsets, softplus, reverse)
    kept = x.new_empty(kept_size(x, given.B, offsets), dtype=torch.float32)
    states = job.split(kept)
    final = job.new_states(given.initial_state)
    job.walk(x, x, given.B, given.initial_state, final, states, gradient=False)
    y = torch.empty_like(x)
    job.launch_outputs(given, None, states, y, None, None, None)
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
    job = Job(given, offsets, softplus, reverse)
    grad_x = torch.empty_like(x)
    grad_z = None if z is None else torch.empty_like(z)
    slopes = torch.empty_like(job.sums)
    seen, seen_scales = job.new_seen(grad_x)
    states, grads = job.split(kept), job.split(torch.empty_like(kept))
    job.launch_outputs(given, grad_y, states, grad_z, slopes, seen, seen_scales)
    grad_initial = job.new_states(grad_final)
    job.walk(seen, seen_scales, given.C, grad_final, grad_initial, grads, gradient=True)
    grad_B, grad_C = _projection_grads(job, given, seen, seen_scales, states, grads)
    # last, for the gradients of x take the place of what the others read
    grad_dt, parts = _frame_grads(
        job, given, seen, seen_scales, states, grads, slopes, grad_x, softplus
    )
    grad_A, grad_D, grad_bias = parts
    results = (grad_x, grad_dt, grad_A, grad_B, grad_C, grad_D, grad_z, grad_bias, grad_initial)
    return [
        None if t is None or g is None else _own(g, t) for t, g in zip(given, results, strict=True)
    ]


def _projection_grads(
    job: "Job", given: Inputs, seen: Tensor, seen_scales: Tensor, states: States, grads: States
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
    job: "Job",
    given: Inputs,
    seen: Tensor,
    seen_scales: Tensor,
    states: States,
    grads: States,
    slopes: Tensor,
    grad_x: Tensor,
    softplus: bool,
) -> tuple[Tensor, Tensor]:
    """Write the gradients of x; return that of dt, and those of A, D and the bias (3, H)."""
    heads, chunks, skip = given.x.shape[2], job.plan.chunks, given.D is not None
    new = functools.partial(given.x.new_empty, dtype=torch.float32)
    row_sums, state_sums = new(chunks, heads, 3, job.plan.L), new(chunks, heads, job.plan.BP)
    job.launch(
        frame_grads_kernel, "frames", (chunks, heads // job.heads),
        seen, seen_scales, given.x, given.D, *job.rows, job.steps, job.sums, *states, *grads,
        grad_x, row_sums, state_sums, *job.where, job.heads, HAS_SKIP=skip,
    )  # fmt: skip
    grad_dt, parts = torch.empty_like(given.dt), new(3, chunks, heads)
    job.launch(
        step_grads_kernel, "steps", (chunks, cdiv(heads, STEPS_BLOCK)),
        given.A, job.steps, job.sums, slopes, row_sums, state_sums, grad_dt, parts, *job.where,
        SOFTPLUS=softplus, BLOCK=STEPS_BLOCK,
    )  # fmt: skip
    return grad_dt, parts.sum(1)


def _own(gradient: Tensor, like: Tensor) -> Tensor:
    """In the dtype of ``like``, and sharing no memory, as an operator's outputs must."""
    if gradient.dtype == like.dtype and gradient._base is None:
        return gradient
    return torch.empty_like(like).copy_(gradient)


class Job:
    """What the kernels of one pass share."""

    def __init__(self, given: Inputs, offsets: Tensor | None, softplus: bool, reverse: bool):
        x, groups = given.x, given.B.shape[2]
        self.x, self.offsets, self.plan = x, offsets, plan(x, given.B, offsets)
        L, chunks, heads = self.plan.L, self.plan.chunks, x.shape[2]
        table = x if offsets is None else lay_out(offsets, x.shape[1], self.plan, reverse)
        self.where = (table, x.shape[1], self.plan.chunks_a_video, chunks)
        self.options = {
            "REVERSE": reverse,
            "PACKED": offsets is not None,
            # Triton's interpreter knows no PTX
            "NATIVE": x.is_cuda and torch.version.hip is None,
            "HALF": self.plan.half,
            "H": heads,
            "G": groups,
            "P": x.shape[3],
            "N": given.B.shape[3],
            "L": L,
            "BP": self.plan.BP,
            "BN": self.plan.BN,
        }
        self.heads = self.share(heads // groups, groups)  # of one program
        half = torch.float16 if self.plan.half else torch.float32
        rows = x.new_empty(2, chunks, groups, L, self.plan.BN, dtype=half)
        self.rows = (rows, x.new_empty(2, chunks, groups, L, dtype=torch.float32))
        self.launch(
            rows_kernel, "rows", (chunks, 4 * groups), given.B, given.C, *self.rows, *self.where
        )
        self.steps, self.sums = x.new_empty(2, chunks, heads, L, dtype=torch.float32)
        self.launch(
            steps_kernel, "steps", (chunks, cdiv(heads, STEPS_BLOCK)),
            given.dt, given.A, given.dt_bias, self.steps, self.sums, *self.where[:3],
            HAS_BIAS=given.dt_bias is not None, SOFTPLUS=softplus, BLOCK=STEPS_BLOCK,
            PRECISE=x.dtype == torch.float32,
        )  # fmt: skip

    def launch(self, kernel: Any, name: str, grid: tuple[int, int], *args: Any, **how: Any) -> None:
        """Run a kernel with those options that it takes; x stands in for a tensor not given."""
        tensors = [self.x if a is None else a for a in args]
        how |= {k: v for k, v in self.options.items() if k in kernel.arg_names}
        tuning = dict(TUNING[name])
        if not self.plan.half:  # float32's tiles leave no room for more
            tuning["num_stages"] = 1
            tuning["num_warps"] = 4 if self.plan.BN * self.plan.BP <= 128 * 64 else 8
        kernel[grid](*tensors, **how, **tuning)

    def launch_outputs(
        self,
        given: Inputs,
        grad_y: Tensor | None,
        states: States,
        out: Tensor | None,
        slopes: Tensor | None,
        seen: Tensor | None,
        seen_scales: Tensor | None,
    ) -> None:
        """Write y; or, from its gradient, the gate's, what passes the gate, and dy . y."""
        gradient = grad_y is not None
        self.launch(
            outputs_kernel, "gates" if gradient else "outputs",
            (self.plan.chunks, self.x.shape[2] // self.heads),
            given.x, given.z, grad_y, given.D, *self.rows, self.steps, self.sums, *states, out,
            slopes, seen, seen_scales, *self.where, self.heads,
            GRADIENT=gradient, HAS_Z=given.z is not None, HAS_SKIP=given.D is not None,
        )  # fmt: skip

    def share(self, heads: int, groups: int) -> int:
        """How many of a group's heads one program takes: few rounds of programs, few programs."""
        chunks = self.plan.chunks * groups

        def time(n: int) -> int:
            # what heads share takes about as long as one of them
            return cdiv(chunks * heads // n, PROGRAMS) * (n + 1)

        return min((n for n in range(heads, 0, -1) if heads % n == 0), key=time)

    def split(self, kept: Tensor) -> States:
        """The parts of a buffer of `kept_size` numbers."""
        states, scales = kept.split(list(self.plan.buffers(self.x.shape[2]).values()))
        return States(states.view(torch.float16) if self.plan.half else states, scales)

    def new_seen(self, grad_x: Tensor) -> tuple[Tensor, Tensor]:
        """Room for the gradients before the gate: where those of x will be, if they fit there."""
        scales = grad_x.new_empty(self.plan.chunks, grad_x.shape[2], 2, dtype=torch.float32)
        if self.plan.half:
            return grad_x.view(torch.float16), scales
        fits = grad_x.dtype == torch.float32
        return (grad_x if fits else torch.empty_like(grad_x, dtype=torch.float32)), scales

    def new_states(self, given: Tensor | None) -> Tensor:
        """Room for the last states (videos, H, P, N); an empty video's passes through."""
        x, videos = self.x, int(count_videos(self.x, self.offsets))
        shape = (videos, x.shape[2], x.shape[3], int(self.options["N"]))
        if self.offsets is None:
            return x.new_empty(shape, dtype=torch.float32)
        if given is None:
            return x.new_zeros(shape, dtype=torch.float32)
        return given.to(torch.float32, copy=True)

    def walk(
        self,
        frames: Tensor,
        seen_scales: Tensor,
        rows: Tensor,
        given: Tensor | None,
        last: Tensor,
        states: States,
        *,
        gradient: bool,
    ) -> None:
        """Fill in the chunks' states and the last states."""
        heads, p = self.x.shape[2], self.plan
        size = p.BP * p.BN
        ends, entered = self.x.new_empty(2, p.segments * heads * size, dtype=torch.float32)
        end_lefts = self.x.new_empty(p.segments * heads, dtype=torch.float32)
        lefts = self.x.new_empty(p.chunks * heads, dtype=torch.float32)
        self.launch(
            walk_kernel, "walk", (p.segments * heads, 1),
            frames, seen_scales, rows, self.steps, self.sums, given, *states, lefts, last, ends,
            end_lefts, *self.where, p.length,
            GRADIENT=gradient, HAS_GIVEN=given is not None,
        )  # fmt: skip
        block = min(size, CARRY_BLOCK)
        self.launch(
            carry_kernel, "carry", (size // block, heads), ends, end_lefts, entered, p.segments,
            SIZE=size, GRADIENT=gradient, BLOCK=block,
        )  # fmt: skip
        self.launch(
            carried_kernel, "carried", (p.chunks * heads, 1), self.sums, *states, lefts, entered,
            last, *self.where[:3], p.length, GRADIENT=gradient,
        )  # fmt: skip


def lay_out(offsets: Tensor, frames: int, plan: Plan, reverse: bool) -> Tensor:
    """First row, frames, video and ends of every chunk of packed videos, without waiting."""
    bounds = offsets.to(torch.int64).clamp(0, frames)
    lengths = (bounds[1:] - bounds[:-1]).clamp(min=0)
    counts = (lengths + plan.L - 1) // plan.L
    ends = counts.cumsum(0)
    chunk = torch.arange(plan.chunks, device=offsets.device)
    video = torch.searchsorted(ends, chunk, right=True).clamp(max=len(lengths) - 1)
    place = chunk - (ends - counts)[video]
    used = chunk < ends[-1]
    count = (lengths[video] - place * plan.L).clamp(0, plan.L) * used
    row = bounds[1:][video] - 1 - place * plan.L if reverse else bounds[video] + place * plan.L
    flags = ((place == 0) + 2 * (place == counts[video] - 1)) * used
    return torch.stack([row * used, count, video, flags], dim=1).to(torch.int32)
