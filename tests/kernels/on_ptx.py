"""The selective scan's kernels as compiled for an H100, run by `ptx` beside the definition.

A script, since Triton must not interpret: called with what `compare` takes, as JSON.
"""

import json
import sys
from types import SimpleNamespace
from typing import Any

import torch
from ptx import Block, Program
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from vidmamba.kernels import jit
from vidmamba.kernels.selective_scan import checks, plan, selective_scan_reference
from vidmamba.kernels.selective_scan.cuda import launch_forward
from vidmamba.kernels.selective_scan.cuda_backward import launch_backward

NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state")
OF_FRAMES = {"u", "delta", "B", "C", "z"}
PROGRAMS: dict[str, Program] = {}
NOTES: set[str] = set()


class OnGpu(Tensor):
    """A tensor for which PTX is written."""

    is_cuda = True


def _launch(self: Any, grid: tuple[int, ...], *args: Any, **kwargs: Any) -> None:
    compiled = JITFunction.run(self, *args, grid=grid, warmup=True, **kwargs)
    program = PROGRAMS.setdefault(compiled.hash, Program(compiled.asm["ptx"]))
    signature = compiled.src.signature
    values = dict(zip(self.arg_names, args, strict=False)) | kwargs
    given = [values[name] for name in self.arg_names if signature[name] != "constexpr"]
    # what Triton appends is memory that these kernels do not ask for
    given += [0] * (len(program.parameters) - len(given))
    numbers = [x.data_ptr() if isinstance(x, Tensor) else int(x) for x in given]
    kept = [x.untyped_storage() for x in given if isinstance(x, Tensor)]
    tensors = {(x.data_ptr(), x.nbytes()) for x in kept}
    room = (compiled.metadata.num_warps, compiled.metadata.shared, tensors)
    columns, rows = (*grid, 1)[:2]
    waiting = [Block(program, *room) for _ in range(columns * rows)]
    named = dict(zip(program.parameters, numbers, strict=True))
    running = [block.run(divmod(i, rows), columns, named) for i, block in enumerate(waiting)]
    while running:
        running = [run for run in running if next(run, "done") != "done"]
    for block in waiting:
        NOTES.update(f"{self.__name__}: {note}" for note in block.notes)


def draw(shape: tuple[int, int, int, int], videos: int, dtype: torch.dtype) -> dict[str, Tensor]:
    batch, frames, width, states = shape
    wide, narrow = (batch, frames, width), (batch, frames, states)
    shapes = (wide, wide, (width, states), narrow, narrow, (width,), wide, (width,))
    drawn = [torch.randn(size) for size in (*shapes, (videos, width, states))]
    drawn[2] = -4 * drawn[2].abs()
    return {
        name: x.to(dtype) if name in OF_FRAMES else x for name, x in zip(NAMES, drawn, strict=True)
    }


def compare(
    shape: tuple[int, int, int, int], dtype: str, bounds: list[int] | None, reverse: bool,
    choice: int | None,
) -> None:  # fmt: skip
    """Values and gradients of every input; ``choice`` is the gradients' frames of a chunk."""
    if choice:
        checks.CUDA_PROGRAMS = 1  # so that the forward pass keeps segments
        plan._choose = lambda *_: choice  # type: ignore[assignment]
    kind = getattr(torch, dtype)
    given = draw(shape, shape[0] if bounds is None else len(bounds) - 1, kind)
    exact: dict[str, Any] = {name: x.double().requires_grad_() for name, x in given.items()}
    offsets = None if bounds is None else torch.tensor(bounds)
    truth = selective_scan_reference(**exact, delta_softplus=True, offsets=offsets, reverse=reverse)
    weights = [torch.randn(truth[0].shape).to(kind), torch.randn(truth[1].shape)]
    expected = torch.autograd.grad(truth, list(exact.values()), [w.double() for w in weights])

    forward: Any = launch_forward
    backward: Any = launch_backward
    inputs: list[Any] = [x.as_subclass(OnGpu) for x in given.values()]
    y, final, states = forward(*inputs, offsets, True, reverse, True)
    found = backward(weights[0], weights[1], *inputs, offsets, states, True, reverse)
    pairs = zip((y, final, *found), (*truth, *expected), strict=True)
    for name, (ours, exactly) in zip(("y", "final", *NAMES), pairs, strict=True):
        error = float((ours.as_subclass(Tensor).double() - exactly).norm() / exactly.norm())
        rounding = torch.finfo(torch.float32 if name == "final" else kind).eps
        assert error < 16 * rounding, f"{name}: {error}"


def main() -> None:
    jit._Found.launch = _launch  # type: ignore[method-assign]
    driver.set_active(
        SimpleNamespace(
            get_current_device=lambda: 0,
            get_current_stream=lambda device: 0,
            get_current_target=lambda: GPUTarget("cuda", 90, 32),
        )
    )
    # memory that nobody has written is no number
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(0)
    compare(**json.loads(sys.argv[1]))
    assert not NOTES, NOTES


if __name__ == "__main__":
    main()
