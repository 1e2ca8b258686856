"""The Triton kernels, in Triton's interpreter where there is no GPU, and the PTX they contain."""

import re
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from vidmamba.kernels.selective_scan import selective_scan_reference
from vidmamba.kernels.selective_scan.cuda import launch_backward, launch_forward
from vidmamba.kernels.selective_scan.kernel_backward import _write_sum_over_lanes

NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state")


def check(batch: int, frames: int, width: int, bounds: list[int] | None, reverse: bool) -> None:
    states, device = 2, "cuda" if torch.cuda.is_available() else "cpu"
    videos = batch if bounds is None else len(bounds) - 1
    wide, narrow = (batch, frames, width), (batch, frames, states)
    shapes = (wide, wide, (width, states), narrow, narrow, (width,), wide, (width,))
    exact: list[Any] = [torch.randn(shape).double() for shape in (*shapes, (videos, width, states))]
    exact[2] = -exact[2].abs()
    given = [t.float().to(device) for t in exact]
    exact = [t.float().double().requires_grad_() for t in exact]
    offsets = None if bounds is None else torch.tensor(bounds)

    named: dict[str, Any] = dict(zip(NAMES, exact, strict=True))
    y64, final64 = selective_scan_reference(
        **named, delta_softplus=True, offsets=offsets, reverse=reverse
    )
    weights = torch.randn(y64.shape), torch.randn(final64.shape)
    expected = torch.autograd.grad([y64, final64], exact, [w.double() for w in weights])

    place = None if offsets is None else offsets.to(device)
    forward: Any = launch_forward
    backward: Any = launch_backward
    y, final, kept = forward(*given, place, True, reverse, True)
    grads = (w.to(device) for w in weights)
    actual = backward(*grads, *given, place, kept, True, reverse)
    pairs = [(y, y64), (final, final64), *zip(actual, expected, strict=True)]
    for name, (ours, exactly) in zip(("y", "final", *NAMES), pairs, strict=True):
        error = (ours.double().cpu() - exactly).norm() / exactly.norm()
        assert error < 16 * torch.finfo(torch.float32).eps, f"{name}: {error}"


def test_kernels_match_the_reference_over_two_tiles() -> None:
    check(1, 10, 3, None, reverse=False)


@pytest.mark.slow  # the interpreter takes minutes
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize(
    ("batch", "frames", "width", "bounds"),
    [(1, 1, 1, None), (2, 37, 5, None), (1, 33, 34, None), (1, 45, 2, [0, 1, 1, 36, 45])],
)
def test_kernels_match_the_reference_on_awkward_shapes(
    batch: int, frames: int, width: int, bounds: list[int] | None, reverse: bool
) -> None:
    check(batch, frames, width, bounds, reverse)


@pytest.mark.parametrize("tile", [8, 16])
def test_the_exchanges_between_lanes_sum_each_value_over_all_lanes(tile: int) -> None:
    # run the PTX here, every register an array of one number a lane
    values = np.random.default_rng(0).integers(-99, 99, (2 * tile, 32)).astype(float)
    lane = np.arange(32)
    registers: dict[str, Any] = {"%laneid": lane, "0": 0}
    registers |= {f"${tile + i}": values[i] for i in range(2 * tile)}
    for line in re.split(r"[;\n]+", _write_sum_over_lanes(tile)):
        operation, _, rest = line.strip().partition(" ")
        names = [name.strip() for name in rest.split(",")]
        if operation in ("mov.u32", "mov.f32"):
            registers[names[0]] = registers[names[1]]
        elif operation == "and.b32":
            registers[names[0]] = registers[names[1]] & int(names[2])
        elif operation == "setp.ne.u32":
            registers[names[0]] = registers[names[1]] != 0
        elif operation == "selp.f32":
            yes, no, which = (registers[name] for name in names[1:])
            registers[names[0]] = np.where(which, yes, no)
        elif operation == "shfl.sync.bfly.b32":
            registers[names[0]] = registers[names[1]][lane ^ int(names[2])]
        elif operation == "add.f32":
            registers[names[0]] = registers[names[1]] + registers[names[2]]
        else:
            assert operation in ("{", "}", "", ".reg"), operation
    np.testing.assert_array_equal(registers["$0"], values.sum(1)[lane % (2 * tile)])
