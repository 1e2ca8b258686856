"""Compile for an H100 every Triton kernel that an operator launches, on a machine without a GPU.

Run as `python on_no_gpu.py NAME`. The operators' CUDA code runs on tensors that have a device and
no memory; where it would launch a kernel, the kernel is compiled. Prints what was compiled.
"""

import contextlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction, MockTensor

from vidmamba.kernels import jit, operators

ON_CUDA: dict[Any, Any] = {}
COMPILED: list[tuple[str, Any]] = []
SHARED = 227 * 2**10  # bytes that a program may have
CURRENT: list[Any] = []
_define = operators.define


def _define_and_remember(name: str, **how: Any) -> Any:
    with mock.patch.object(operators._LIBRARY, "impl", wraps=operators._LIBRARY.impl) as impl:
        operator = _define(name, **how)
    (ON_CUDA[operator],) = (call.args[1] for call in impl.call_args_list if call.args[2] == "CUDA")
    return operator


class RunOnCuda(TorchDispatchMode):
    """Run an operator's CUDA code where PyTorch would make up its results."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return ON_CUDA.get(func, func)(*args, **(kwargs or {}))


@contextlib.contextmanager
def _current_device(device: Any) -> Iterator[None]:
    CURRENT.append(device)
    yield
    CURRENT.pop()


def _compile(self: Any, grid: Any, *args: Any, **kwargs: Any) -> None:
    assert CURRENT, f"{self.__name__} would be launched on whichever GPU is the current one"
    assert all(size > 0 for size in grid), f"{self.__name__}: {grid}"
    for name, a in zip(self.arg_names, args, strict=False):
        assert not isinstance(a, Tensor) or a.is_contiguous(), f"{self.__name__}: {name} has gaps"
    mocks = [MockTensor(a.dtype) if isinstance(a, Tensor) else a for a in args]
    compiled = JITFunction.run(self, *mocks, grid=grid, warmup=True, **kwargs)
    COMPILED.append((self.__name__, compiled))
    used = compiled.metadata.shared
    assert used <= SHARED, f"{self.__name__} wants {used} bytes of shared memory, {kwargs}"


def _device() -> SimpleNamespace:
    return SimpleNamespace(
        get_current_device=lambda: 0,
        get_current_stream=lambda device: 0,
        get_current_target=lambda: GPUTarget("cuda", 90, 32),
    )


def _send_back(results: Tensor | tuple[Tensor, ...], outputs: int) -> None:
    """Call an operator's backward: autograd's engine would want the device to be there.

    Args:
        results: the operator's results, of which the first is what a gradient is sent into.
        outputs: how many tensors the operator returns, those included that a caller never sees.
    """
    first = results[0] if isinstance(results, tuple) else results
    node: Any = first.grad_fn
    type(node)._forward_cls.backward(node, torch.ones_like(first), *[None] * (outputs - 1))


def _leaf(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, device="cuda", dtype=dtype).requires_grad_()


def conv(dtype: torch.dtype, **how: Any) -> None:
    """Forward and backward."""
    from vidmamba.kernels.causal_conv1d import causal_conv1d

    x, weight, bias = (_leaf(*s, dtype=dtype) for s in ((1, 700, 96), (96, 4), (96,)))
    _send_back(causal_conv1d(x, weight, bias, activation="silu", **how), 2)


def scan(dtype: torch.dtype, states: int = 16, **how: Any) -> None:
    """Forward and backward."""
    from vidmamba.kernels.selective_scan import selective_scan

    u, delta, z = (_leaf(1, 700, 96, dtype=dtype) for _ in range(3))
    B, C = (_leaf(1, 700, states, dtype=dtype) for _ in range(2))
    A = _leaf(96, states, dtype=torch.float32)
    D, bias = (_leaf(96, dtype=torch.float32) for _ in range(2))
    told: dict[str, Any] = {"D": D, "z": z, "delta_bias": bias, "delta_softplus": True}
    _send_back(selective_scan(u, delta, A, B, C, **told, **how), 3)


def heads(
    dtype: torch.dtype,
    states: int = 64,
    width: int = 64,
    rows: torch.dtype | None = None,
    **how: Any,
) -> None:
    """Forward and backward; B and C may have a dtype of their own."""
    from vidmamba.kernels.ssd import ssd

    x, z = (_leaf(1, 700, 2, width, dtype=dtype) for _ in range(2))
    B, C = (_leaf(1, 700, 1, states, dtype=rows or dtype) for _ in range(2))
    dt = _leaf(1, 700, 2, dtype=dtype)
    A, D, bias = (_leaf(2, dtype=torch.float32) for _ in range(3))
    told: dict[str, Any] = {"D": D, "z": z, "dt_bias": bias, "dt_softplus": True}
    _send_back(ssd(x, dt, A, B, C, **told, **how), 3)


def wide_heads(dtype: torch.dtype, **_: Any) -> None:
    """What takes the most room: wide heads, and float32 beside bfloat16."""
    heads(torch.bfloat16, states=128, width=256 if dtype == torch.bfloat16 else 64, rows=dtype)


def norm(dtype: torch.dtype, **_: Any) -> None:
    """Forward and backward."""
    from vidmamba.kernels.rms_norm import rms_norm

    x, weight = _leaf(1, 700, 128, dtype=dtype), _leaf(128, dtype=dtype)
    _send_back(rms_norm(x, weight, groups=2), 1)


def taps(dtype: torch.dtype, offsets: Tensor | None = None, **_: Any) -> None:
    """Forward and backward."""
    from vidmamba.kernels.dilated_taps import dilated_taps

    x = _leaf(1, 700, 96, dtype=dtype)
    _send_back(dilated_taps(x, first=8, gap=4, offsets=offsets), 1)


def mixers(dtype: torch.dtype, offsets: Tensor | None = None, reverse: bool = False) -> None:
    """Steps of whole mixers, of one video and of several; the nodes of autograd, both ways."""
    from vidmamba.nn.mamba1_autograd import _Mamba1
    from vidmamba.nn.mamba2 import Mamba2Config, Mamba2Mixer
    from vidmamba.nn.mamba2_autograd import _Leave, _Mamba2
    from vidmamba.nn.mixer import CausalMixer, Mamba1Mixer, MambaConfig, MixerState

    with torch.device("cuda"):
        first, second = Mamba1Mixer(128, MambaConfig()), Mamba2Mixer(128, Mamba2Config())
    both: tuple[CausalMixer, CausalMixer] = (first, second)
    for mixer in both:
        for parameter in mixer.parameters():
            parameter.data = parameter.data.to(dtype)
    x, y = (torch.randn(1, 700, n, device="cuda", dtype=dtype) for n in (128, 256))
    how = (None, None, None if offsets is None else offsets.contiguous())
    with torch.no_grad():
        given = (x, *first.weights()[:-1], *how, reverse, False, True)
        operators.run_both_ways(_Mamba1, given)
        *inside, norm, out_proj = second._weights()
        operators.run_both_ways(_Mamba2, (x, *inside, *how, 1, reverse, False, True))
        operators.run_both_ways(_Leave, (y, norm, out_proj, 1, 1e-5))
    for mixer in both:
        with torch.no_grad():
            for videos in (1, 20):
                frame = torch.randn(videos, 128, device="cuda", dtype=dtype)
                state = mixer.empty_state(videos)
                mixer.step(frame, state)
            if offsets is not None:
                conv, scan = (t[:2].transpose(0, -1).clone().transpose(0, -1) for t in state)
                mixer._mix(x, offsets=offsets, state=MixerState(conv, scan), keep_state=True)
    for name, compiled in COMPILED:
        if name == "enter_kernel":  # it overwrites what several of its warps read
            before = compiled.asm["ptx"].partition("st.global")[0]
            assert before.rfind("bar.sync") > before.rfind("ld.global")


RUNS: dict[str, Any] = {
    "causal_conv1d": conv, "dilated_taps": taps, "rms_norm": norm, "selective_scan": scan,
    "ssd": heads, "wide_ssd": wide_heads, "mixers": mixers,
}  # fmt: skip


def main() -> None:
    """Compile the kernels of one operator in the dtypes and forms that differ."""
    operators.define = _define_and_remember
    jit._Found.launch = _compile  # type: ignore[method-assign]
    driver.set_active(_device())
    card: dict[str, Any] = {
        "get_device_properties": lambda *_: SimpleNamespace(multi_processor_count=132),
        "get_device_capability": lambda *_: (9, 0),
        "device": _current_device,
    }
    run = RUNS[sys.argv[1]]
    none_is = mock.patch.object(torch._C, "_cuda_getDevice", return_value=-1, create=True)
    with none_is, mock.patch.multiple(torch.cuda, **card), FakeTensorMode(), RunOnCuda():
        # with gaps, as no kernel must see them
        offsets = torch.empty(3, 2, dtype=torch.int32, device="cuda")[:, 0]
        run(torch.bfloat16)
        run(torch.float32, offsets=offsets, reverse=True)
    for name, compiled in COMPILED:
        print(name, len(compiled.asm["cubin"]), "bytes")


if __name__ == "__main__":
    main()
