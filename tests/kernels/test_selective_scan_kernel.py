"""The Triton kernels, in Triton's interpreter where there is no GPU, and the PTX they contain."""

import os
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from vidmamba.kernels.selective_scan import selective_scan_reference
from vidmamba.kernels.selective_scan.cuda import launch_backward, launch_forward
from vidmamba.kernels.selective_scan.kernel_backward import (
    _SUMS,
    _write_sums_by_products,
    _write_sums_exactly,
)

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


@pytest.mark.parametrize("by_products", [False, True])
def test_the_exchanges_between_lanes_sum_each_value_over_all_lanes(by_products: bool) -> None:
    # run the PTX here, every register an array of one number a lane
    values = np.random.default_rng(0).integers(-99, 99, (2 * _SUMS, 32)).astype(float)
    lane = np.arange(32)
    registers: dict[str, Any] = {"%laneid": lane, "0": 0, "0f00000000": np.zeros(32)}
    registers |= {f"${_SUMS + i}": values[i] for i in range(2 * _SUMS)}
    registers |= {f"${3 * _SUMS + i}": (lane // 4 == i).astype(float) for i in range(8)}
    ptx = _write_sums_by_products() if by_products else _write_sums_exactly()
    for line in re.split(r"[;\n]+", ptx):
        operation, _, rest = line.strip().partition(" ")
        names = re.findall(r"[$%\w]+", rest)
        if operation in ("mov.u32", "mov.b32", "mov.f32"):
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
        elif operation.startswith("mma.sync.aligned.m16n8k8"):
            multiply(registers, names)
        else:
            assert operation in ("{", "}", "", ".reg"), operation
    by_four = lane // 16 * 16 + lane % 4 * 4 + lane // 8 % 2 * 2 + lane // 4 % 2
    owned = by_four if by_products else lane
    np.testing.assert_array_equal(registers["$0"], values.sum(1)[owned])


COMPILE = """
import sys
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from vidmamba.kernels.selective_scan.kernel import LOOSE
from vidmamba.kernels.selective_scan.kernel_backward import gradients_kernel as kernel

states, precise = int(sys.argv[1]), bool(int(sys.argv[2]))
constants = dict(
    N=states, HAS_SKIP=True, HAS_Z=True, HAS_BIAS=True, SOFTPLUS=True, REVERSE=False, PACKED=False,
    EVEN=True, FRAMES=32, BLOCK=32, GROUP=1, ROWS=max(states, 16), NATIVE=True, PRECISE=precise,
    EXACT=precise,
)
sizes = {"T", "D", "width", "chunks_a_video", "chunks", "groups", "slot_width"}
types = {name: "i32" if name in sizes else "*fp32" for name in kernel.arg_names}
types |= dict.fromkeys(constants, "constexpr")
aligned = {
    (i,): [["tt.divisibility", 16]]
    for i, name in enumerate(kernel.arg_names)
    if types[name] == "*fp32" or (name in sizes and name not in LOOSE)
}
values = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
compiled = compile(
    ASTSource(kernel, types, values, aligned),
    target=GPUTarget("cuda", 90, 32),
    options={"num_warps": 1},
)
print(compiled.asm["ttgir"])
"""


@pytest.mark.parametrize(("states", "precise"), [(16, False), (5, True), (32, True)])
def test_a_lane_holds_all_states_of_one_channel(states: int, precise: bool) -> None:
    # what the exchanges between lanes take for granted, and Triton chooses
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    arguments = [sys.executable, "-c", COMPILE, str(states), str(int(precise))]
    run = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    layouts = dict(re.findall(r"(#blocked\d*) = (#ttg.blocked<.*>)", run.stdout))
    operands = re.findall(
        rf"shfl.*?packed_element = 16.*?: .*?tensor<{max(states, 16)}x32xf32, (#blocked\d*)>",
        run.stdout,
        re.S,
    )
    assert operands
    for name in operands:
        assert "sizePerThread = [1, 1], threadsPerWarp = [1, 32]" in layouts[name]


def multiply(registers: dict[str, Any], names: list[str]) -> None:
    """D = A B + C of 16x8x8, its fragments over the lanes as the PTX manual's tables lay them."""
    group, inside = np.arange(32) // 4, np.arange(32) % 4
    d, a, b, c = names[:4], names[4:8], names[8:10], names[10:]
    left, right, sums = np.zeros((16, 8)), np.zeros((8, 8)), np.zeros((16, 8))
    for k in range(4):
        left[group + k % 2 * 8, inside + k // 2 * 4] = registers[a[k]]
        sums[group + k // 2 * 8, inside * 2 + k % 2] = registers[c[k]]
    for k in range(2):
        right[inside + k * 4, group] = registers[b[k]]
    product = left @ right + sums
    for k in range(4):
        registers[d[k]] = product[group + k // 2 * 8, inside * 2 + k % 2]
