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

from vidmamba.kernels.selective_scan import checks, plan, selective_scan_reference
from vidmamba.kernels.selective_scan.cuda import launch_forward
from vidmamba.kernels.selective_scan.cuda_backward import launch_backward
from vidmamba.kernels.selective_scan.kernel_lanes import (
    _SLICE,
    _write_sums_of_eight,
    _write_sums_of_four_by_products,
    _write_sums_of_four_exactly,
)
from vidmamba.kernels.selective_scan.setting import _lay_out

NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state")


def check(
    batch: int,
    frames: int,
    width: int,
    bounds: list[int] | None,
    reverse: bool,
    over: bool = False,
) -> None:
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
    grads = [w.to(device) for w in weights]
    actual = backward(*grads, *given, place, kept, True, reverse)
    pairs = [(y, y64), (final, final64), *zip(actual, expected, strict=True)]
    for name, (ours, exactly) in zip(("y", "final", *NAMES), pairs, strict=True):
        error = (ours.double().cpu() - exactly).norm() / exactly.norm()
        assert error < 16 * torch.finfo(torch.float32).eps, f"{name}: {error}"
    if over:
        again = backward(*grads, *given, place, kept, True, reverse, False, True)
        for name, ours, others in zip(NAMES, again, actual, strict=True):
            assert torch.equal(ours, others), name
        assert again[1] is given[1]
        assert again[6] is grads[0]


@pytest.mark.parametrize("frames", [10, 16])
def test_kernels_match_the_reference_over_two_tiles_cut_or_whole(frames: int) -> None:
    check(1, frames, 3, None, reverse=frames == 16, over=True)


@pytest.mark.slow  # the interpreter takes minutes
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize(
    ("batch", "frames", "width", "bounds"),
    [(1, 1, 1, None), (2, 37, 5, None), (1, 33, 34, None), (1, 45, 2, [0, 1, 1, 36, 45])],
)
def test_kernels_match_the_reference_on_awkward_shapes(
    batch: int, frames: int, width: int, bounds: list[int] | None, reverse: bool
) -> None:
    check(batch, frames, width, bounds, reverse, over=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("frames", "width", "programs", "span", "size"),
    # blocks of channels; segments of one chunk; the forward pass's chunks cut segments
    [(10, 100, 9, 32, 32), (200, 3, 0, 64, 192), (100, 3, 9, 56, 112)],
)
def test_kernels_match_the_reference_however_long_the_chunks(
    frames: int,
    width: int,
    programs: int,
    span: int,
    size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "CUDA_PROGRAMS", programs)
    monkeypatch.setattr(checks, "_choose_span", lambda *_: span)
    monkeypatch.setattr(plan, "_choose", lambda *_: size)
    check(1, frames, width, None, False, over=True)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_a_gradient_is_written_over_states_that_are_not_read_again(reverse: bool) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    wide, narrow = (1, 40, 64), (1, 40, 16)
    shapes = (wide, wide, (64, 16), narrow, narrow, (64,), wide, (64,))
    given: list[Any] = [torch.randn(shape, device=device) for shape in shapes]
    given[2] = -given[2].abs()
    given = [t.bfloat16() if t.ndim == 3 else t for t in given] + [None, None]
    forward: Any = launch_forward
    backward: Any = launch_backward
    weight = torch.randn(wide, device=device).bfloat16()
    states = forward(*given, True, reverse, True)[2]
    assert checks.fit(states, given[0], None)
    expected = backward(weight, None, *given, states, True, reverse)
    spent = backward(weight, None, *given, states, True, reverse, True)
    spent[0] = checks.as_gradient(states, given[0], reverse)
    for ours, other in zip(spent, expected, strict=True):
        assert torch.equal(ours, other)


@pytest.mark.parametrize("bounds", [[0, 100, 0, 100], [100, 0, 100], [-9, 200, 50, 100]])
def test_offsets_that_fall_claim_no_more_chunks_than_there_is_room_for(bounds: list[int]) -> None:
    u, offsets = torch.empty(1, 100, 3), torch.tensor(bounds)
    chunks = checks.cut(u, offsets, "cuda")
    table, firsts = _lay_out(u, offsets, chunks, False)
    rows = [row + t for row, count in table.tolist() for t in range(count)]
    assert firsts[-1] <= chunks.total
    assert sorted(set(rows)) == sorted(rows)
    assert set(rows) <= set(range(100))


@pytest.mark.parametrize("by_products", [False, True])
def test_the_exchanges_between_lanes_sum_each_value_over_all_lanes(by_products: bool) -> None:
    lane = np.arange(32)
    values = np.random.default_rng(0).integers(-99, 99, (4, 16, 32)).astype(float)
    columns = [(lane // 4 == i).astype(float) for i in range(8)]
    of_four = _write_sums_of_four_by_products() if by_products else _write_sums_of_four_exactly()
    sums = [sum_ for four in values for sum_ in run_ptx(of_four, [*four, *columns])]
    pair = run_ptx(_write_sums_of_eight(), [*sums, np.full(32, 1024)])
    for k in range(2):
        np.testing.assert_array_equal(pair[k], values.sum(2)[lane // 8, lane % 8 * 2 + k])


OPERATIONS: dict[str, Any] = {
    "mov": lambda a: a,
    "and": lambda a, b: a & b,
    "xor": lambda a, b: a ^ b,
    "shr": lambda a, b: a >> b,
    "add": lambda a, b: a + b,
    "mad": lambda a, b, c: a * b + c,
    "setp": lambda a, b: a != b,
    "selp": lambda a, b, p: np.where(p, a, b),
    "shfl": lambda a, lanes, *_: a[np.arange(32) ^ lanes],
}


def run_ptx(ptx: str, given: list[Any]) -> list[Any]:
    """Run PTX of four outputs here, every register an array of one number a lane."""
    room = np.full(2**12, np.nan)
    registers: dict[str, Any] = {"%laneid": np.arange(32)}
    registers |= {f"${_SLICE + i}": register for i, register in enumerate(given)}

    def read(name: str) -> Any:
        if name in registers:
            return registers[name]
        return np.zeros(32) if name.startswith("0f") else int(name, 0)

    for line in re.split(r"[;\n]+", ptx):
        operation, _, rest = line.strip().partition(" ")
        names = re.findall(r"[$%\w]+", rest)
        kind = operation.partition(".")[0]
        if kind in OPERATIONS:
            registers[names[0]] = OPERATIONS[kind](*map(read, names[1:]))
        elif kind == "mma":
            multiply(registers, names)
        elif kind in ("ld", "st"):
            assert ".shared" in operation
            at = re.search(r"\[([$\w]+)(?:\+(\d+))?\]", rest)
            assert at
            values = [name for name in names if name not in at.groups()]
            for k, name in enumerate(values):
                place = read(at[1]) // 4 + int(at[2] or 0) // 4 + k
                if kind == "ld":
                    registers[name] = room[place]
                else:
                    room[place] = read(name)
        else:
            assert kind in ("{", "}", "", "bar") or operation.startswith("."), operation
    return [registers.get(f"${i}") for i in range(_SLICE)]


COMPILE = """
import sys
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from vidmamba.kernels.selective_scan.kernel import LOOSE
from vidmamba.kernels.selective_scan.kernel_ends import chunk_ends_kernel
from vidmamba.kernels.selective_scan.kernel_gradients import gradients_kernel
from vidmamba.kernels.selective_scan.kernel_outputs import outputs_kernel

states, precise = int(sys.argv[1]), bool(int(sys.argv[2]))
constants = dict(
    N=states, HAS_SKIP=True, HAS_Z=True, HAS_BIAS=True, SOFTPLUS=True, REVERSE=False, PACKED=False,
    EVEN=True, WHOLE=False, BLOCK=32, ROWS=max(states, 16), ROOM=4 if states <= 16 else 0,
    TOGETHER=True, NATIVE=True, PRECISE=precise, EXACT=precise, TILE=8, BACKWARD=True, KEEP=False,
    EARLY=True, COPIED=states <= 16,
)
of_frames = {"values", "u", "delta", "z", "y", "grad_y", "grad_u", "grad_delta", "grad_z"}
for kernel in (gradients_kernel, chunk_ends_kernel, outputs_kernel):
    constants["COPIED"] &= not (precise and kernel is gradients_kernel)
    types = {name: "i32" if name in LOOSE else "*fp32" for name in kernel.arg_names}
    types |= {name: "*fp32" if precise else "*bf16" for name in of_frames & types.keys()}
    types |= {name: "constexpr" for name in constants if name in kernel.arg_names}
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(kernel.arg_names)
        if types[name].startswith("*")
    }
    values = {
        (kernel.arg_names.index(name),): value
        for name, value in constants.items()
        if name in kernel.arg_names
    }
    compiled = compile(
        ASTSource(kernel, types, values, aligned),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": 1},
    )
    print(compiled.asm["ttgir"])
    print("end of kernel")
"""


@pytest.mark.parametrize(("states", "precise"), [(16, False), (5, True), (32, True)])
def test_a_lane_holds_all_states_of_one_channel(states: int, precise: bool) -> None:
    # what the exchanges between lanes take for granted, and Triton chooses
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    arguments = [sys.executable, "-c", COMPILE, str(states), str(int(precise))]
    run = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    for text in run.stdout.split("end of kernel")[:-1]:
        layouts = dict(re.findall(r"(#blocked\d*) = (#ttg.blocked<.*>)", text))
        operands = re.findall(
            r"elementwise_inline_asm.*?packed_element = 4.*?: .*?tensor<\d+x32xf32, "
            r"(#blocked\d*)>",
            text,
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
