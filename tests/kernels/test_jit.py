"""What stands between a call and a kernel's launch, where no GPU is needed to try it."""

import gc
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import triton
from torch import Tensor
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from vidmamba.kernels import jit, operators
from vidmamba.kernels.jit import _Found, compile_ahead
from vidmamba.kernels.running import RUNNING


def kernel(x: Any, y: Any, frames: Any, width: Any, taps: triton.language.constexpr) -> None:
    """Take two tensors, two integers and a constant."""


class Compiled:
    """A compiled form that only remembers what it was launched with."""

    function, packed_metadata = "function", "metadata"

    def __init__(self, launches: list[Any]) -> None:
        self.run: Callable[..., None] = lambda *given: launches.append(given)


class Triton:
    """Stands in for Triton: counts what it is asked to compile, and by how many threads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.launches: list[Any] = []
        self.compiled: list[bool] = []
        self.alive: weakref.WeakSet[Compiled] = weakref.WeakSet()
        monkeypatch.setattr(JITFunction, "run", self._run())
        monkeypatch.setattr(JITFunction, "create_binder", lambda _: None)
        monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
        monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda _: 7, raising=False)

    def _run(self) -> Callable[..., Compiled]:
        def run(function: Any, *args: Any, grid: Any, warmup: bool, **how: Any) -> Compiled:
            self.compiled.append(warmup)
            compiled = Compiled(self.launches)
            self.alive.add(compiled)
            return compiled

        return run


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Triton:
    return Triton(monkeypatch)


def test_a_form_is_compiled_once_and_launched_with_addresses(fake: Triton) -> None:
    function, x = _Found(kernel), torch.zeros(64)
    for frames in (32, 48):  # both multiples of 16
        function[(3, 2)](x, None, frames, taps=4, width=5, num_warps=1)
    assert fake.compiled == [False]
    address = x.data_ptr()
    sizes = (3, 2, 1, 7, "function", "metadata", None, None, None)
    assert fake.launches == [(*sizes, address, None, 48, 5, None)]


@pytest.mark.parametrize(
    "other",
    [
        {"x": torch.zeros(64, dtype=torch.float16)}, {"x": torch.zeros(64)[1:]}, {"frames": 33},
        {"frames": 1}, {"frames": 2**31}, {"width": 6}, {"taps": 5}, {"y": torch.zeros(64)},
    ],
    ids=lambda other: next(iter(other)),
)  # fmt: skip
def test_arguments_of_another_kind_are_compiled_anew(fake: Triton, other: dict[str, Any]) -> None:
    function = _Found(kernel)
    usual: dict[str, Any] = {"x": torch.zeros(64), "y": None, "frames": 32, "width": 5, "taps": 4}
    for given in (usual, usual | other):
        function[(1,)](
            given["x"], given["y"], given["frames"], taps=given["taps"], width=given["width"]
        )
    assert fake.compiled == [False, False]
    assert not fake.launches


def test_what_may_be_launched_again_is_not_unloaded(fake: Triton) -> None:
    function = _Found(kernel)
    function[(1,)](torch.zeros(64), None, 32, 5, 4)
    gc.collect()
    assert len(fake.alive) == 1  # nobody else holds it: Triton's caches may be emptied


def test_forms_are_found_for_nvidias_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    assert isinstance(jit.jit()(kernel), _Found)
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert type(jit.jit()(kernel)) is JITFunction


def test_what_is_compiled_ahead_is_launched_by_nobody(fake: Triton) -> None:
    function, x = _Found(kernel), torch.zeros(64)
    with compile_ahead():
        for frames in (32, 48, 33):
            function[(1,)](x, None, frames, 5, 4)
    assert fake.compiled == [True, True]
    assert not fake.launches
    assert not RUNNING.compiles_ahead


def test_all_of_triton_is_read_for_its_keys_before_threads_ask(
    fake: Triton, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, x, read = _Found(kernel), torch.zeros(64), []

    def key() -> str:
        time.sleep(0.05)
        read.append([*fake.compiled])
        return ""

    monkeypatch.setattr(jit, "triton_key", key)
    with compile_ahead():
        for taps in range(4):
            function[(1,)](x, None, 32, 5, taps)
    assert read == [[]]
    assert fake.compiled == [True] * 4


def test_the_longest_function_is_compiled_first(
    fake: Triton, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(x: Any) -> None: ...

    order: list[str] = []
    monkeypatch.setattr(jit, "WORKERS", 1)
    monkeypatch.setattr(_Found, "_load", lambda function, *_: order.append(function.__name__))
    with compile_ahead():
        _Found(short)[(1,)](torch.zeros(64))
        _Found(kernel)[(1,)](torch.zeros(64), None, 32, 5, 4)
    assert order == ["kernel", "short"]


def test_the_lines_of_functions_are_read_by_one_thread_at_a_time(
    fake: Triton, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, at_once = [], []

    def read(source: Any) -> None:
        reading.append(source)
        at_once.append(len(reading))
        time.sleep(0.01)
        reading.remove(source)

    function = _Found(kernel)
    function.create_binder()
    monkeypatch.setattr(ASTSource, "make_ir", read)
    sources = [object.__new__(function.ASTSource) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda source: source.make_ir(), sources))
    assert at_once == [1] * 4


def test_a_first_launch_compiles_what_its_call_and_the_gradients_launch(fake: Triton) -> None:
    function = _Found(kernel)

    class Node(torch.autograd.Function):
        @staticmethod
        def forward(x: Tensor) -> Tensor:
            function[(1,)](x, None, 32, 5, 4)
            return x.clone()

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            function[(1,)](grad, ctx.saved_tensors[0], 32, 5, 4)
            return grad

    operators.apply(Node, torch.zeros(64, requires_grad=True)).sum().backward()
    # ahead, forward and backward; then as they are launched for the first time
    assert fake.compiled == [True, True, False, False]
    operators.apply(Node, torch.zeros(64, requires_grad=True)).sum().backward()
    assert len(fake.compiled) == 4
    assert len(fake.launches) == 2
    assert RUNNING.call is None


def test_profilers_hooks_are_served_by_triton(
    fake: Triton, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, x = _Found(kernel), torch.zeros(64)
    monkeypatch.setattr(jit.HOOKS.launch_enter_hook, "calls", [print])
    for _ in range(2):
        function[(1,)](x, None, 32, 5, 4)
    assert fake.compiled == [False, False]
    assert not fake.launches


def test_errors_while_compiling_ahead_reach_the_caller(
    fake: Triton, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **how: Any) -> None:
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(JITFunction, "run", fail)
    function = _Found(kernel)
    with pytest.raises(RuntimeError, match="no such instruction"), compile_ahead():
        function[(1,)](torch.zeros(64), None, 32, 5, 4)
