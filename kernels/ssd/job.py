"""What the Triton kernels of one pass share: buffers, how many programs, which tile sizes.

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
from vidmamba.kernels.ssd.kernel_states import (
    carried_kernel,
    carry_kernel,
    steps_kernel,
    walk_kernel,
)
from vidmamba.kernels.ssd.plan import PROGRAMS, Plan, plan

STEPS_BLOCK = 8
CARRY_BLOCK = 512
CARRY_AHEAD = 8
TUNING: dict[str, dict[str, int]] = {
    "steps": {"num_warps": 4},
    "walk": {"num_warps": 4, "num_stages": 2},
    "carry": {"num_warps": 4, "maxnreg": 96},
    "carried": {"num_warps": 8},
    "outputs": {"num_warps": 4, "num_stages": 2},
    "kept": {"num_warps": 4, "num_stages": 1},
    "gates": {"num_warps": 8},
    "frames": {"num_warps": 4, "num_stages": 2},
    "scores": {"num_warps": 4, "num_stages": 1},
    "projections": {"num_warps": 4, "num_stages": 3},
}


class States(NamedTuple):
    """The states that enter the chunks, or the gradients of those that leave them."""

    states: Tensor
    scales: Tensor


class Entered(NamedTuple):
    """What entered the segments, and how much of it is left at their chunks, as a logarithm."""

    lefts: Tensor
    states: Tensor
    scales: Tensor


class Job:
    """What the kernels of one pass share."""

    def __init__(
        self, given: Inputs, offsets: Tensor | None, softplus: bool, reverse: bool, *, logs: bool
    ) -> None:
        x, groups = given.x, given.B.shape[2]
        self.x, self.given, self.offsets = x, given, offsets
        self.plan = plan(x, given.B, offsets)
        L, chunks, heads = self.plan.L, self.plan.chunks, x.shape[2]
        table = x if offsets is None else lay_out(offsets, x.shape[1], self.plan, reverse)
        self.where = (table, x.shape[1], self.plan.chunks_a_video, chunks)
        self.options = {
            "REVERSE": reverse,
            "PACKED": offsets is not None,
            # Triton's interpreter knows no PTX
            "NATIVE": x.is_cuda and torch.version.hip is None,
            "EARLY": begins_early(x.device),
            "PASS": begins_early(x.device),  # of the first launch, which itself begins in its turn
            # softplus is never negative; float32, and gradients of steps, which are differences of
            # sums, would see the rounding of one more logarithm
            "LOGS": logs and softplus and self.plan.half,
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
        # shared memory has no room for the next tiles where they are float32, or heads are wide
        alike = x.dtype == given.B.dtype == given.C.dtype
        self.loads_ahead = self.plan.half and alike and self.plan.BP <= 128
        half = torch.float16 if self.plan.half else torch.float32
        rows = x.new_empty(2, chunks, groups, L, self.plan.BN, dtype=half)
        self.rows = (rows, x.new_empty(2, chunks, groups, 2, dtype=torch.float32))
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
        if not self.loads_ahead:
            tuning["num_stages"] = 1
        small = self.plan.BN * self.plan.BP <= 128 * 64
        if not (small and self.plan.half and self.options["NATIVE"]):
            tuning.pop("maxnreg", None)
        if not self.plan.half:
            tuning["num_warps"] = 4 if small else 8
        if how.get("EARLY"):
            tuning["launch_pdl"] = True
        kernel[grid](*tensors, **how, **tuning)

    def share(self, heads: int, groups: int) -> int:
        """How many of a group's heads one program takes: few rounds of programs, few programs."""
        chunks = self.plan.chunks * groups

        def time(n: int) -> int:
            # what heads share takes about as long as one of them
            return cdiv(chunks * heads // n, PROGRAMS) * (n + 1)

        return min((n for n in range(heads, 0, -1) if heads % n == 0), key=time)

    def split(self, kept: Tensor, *, inner: bool) -> tuple[States, tuple[Tensor, Tensor]]:
        """The parts of a buffer of `kept_size` numbers: states, and inner outputs if there."""
        states, scales, *rest = kept.split(self.plan.buffers(self.x, inner=inner))
        part = torch.float16 if self.plan.half else torch.float32
        outputs, output_scales = rest or (scales, scales)
        return States(states.view(part), scales), (outputs.view(part), output_scales)

    def new_grads(self) -> States:
        """Room for the gradients of the states that leave the chunks."""
        sizes = self.plan.buffers(self.x, inner=False)
        return self.split(self.x.new_empty(sum(sizes), dtype=torch.float32), inner=False)[0]

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
        """Fill in the chunks' states and the last states, and beside them B and C as operands."""
        heads, p, size = self.x.shape[2], self.plan, self.plan.BP * self.plan.BN
        number, new = p.segments * heads, functools.partial(self.x.new_empty, dtype=torch.float32)
        ends, marks, ended = new(number * size), new(number * 4), new(number, dtype=torch.int32)
        entered = Entered(
            new(p.chunks * heads), new(number * size, dtype=states.states.dtype), new(number)
        )
        self.launch(
            walk_kernel, "walk", (number, 1),
            frames, seen_scales, rows, self.steps, self.sums, given, *states, entered.lefts, last,
            ends, marks, ended, *self.where, p.length,
            GRADIENT=gradient, HAS_GIVEN=given is not None,
        )  # fmt: skip
        block = min(size, CARRY_BLOCK)
        self.launch(
            carry_kernel, "carry", (self.rows[1].numel() + heads * size // block, 1),
            ends, marks, ended, *entered[1:], last, p.segments, self.given.B, self.given.C,
            *self.rows, *self.where, GRADIENT=gradient, BLOCK=block, AHEAD=CARRY_AHEAD,
        )  # fmt: skip
        self.launch(carried_kernel, "carried", (p.chunks * heads, 1), *states, *entered, p.length)


@functools.cache
def begins_early(device: torch.device) -> bool:
    """Whether a launch may begin while the one ahead ends: from Hopper on."""
    if device.type != "cuda" or torch.version.hip:
        return False
    return torch.cuda.get_device_capability(device)[0] >= 9


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
