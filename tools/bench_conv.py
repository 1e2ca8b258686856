"""Time the causal convolution, forward and backward, against every rival that is importable.

python tools/bench_conv.py                            # the shapes of kernels/README.md
python tools/bench_conv.py --frames 4096 --width 512 --device cpu --dtype float32

On CUDA the calls are replayed from a graph, the L2 cache flushed before each, so that neither the
host nor the cache counts; on the CPU they are called. Medians. `GB/s` counts the bytes that must
move at least: the frames read once and the results written once.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vidmamba.kernels.causal_conv1d import causal_conv1d, causal_conv1d_reference

Op = Callable[[Tensor, Tensor, Tensor], Tensor]
FLUSH_BYTES = 256 * 2**20
ERROR_FRAMES = 512  # enough to see an error, and the reference is a loop over frames


class Row(NamedTuple):
    """One measurement."""

    op: str
    batch: int
    frames: int
    width: int
    taps: int
    dtype: str
    forward_ms: float
    both_ms: float  # forward + backward
    forward_gbps: float
    both_gbps: float
    extra_mib: float  # peak memory of forward + backward above the inputs, on CUDA
    error: float  # relative to float64


def rivals() -> Iterator[tuple[str, Op]]:
    """Name and yield everything that convolves channels-last frames and can be imported."""
    yield "vidmamba", lambda x, weight, bias: causal_conv1d(x, weight, bias, activation="silu")
    yield "torch conv1d", _torch_conv
    try:
        from causal_conv1d import causal_conv1d_fn
    except ImportError:
        return
    yield (
        "causal_conv1d",
        lambda x, weight, bias: causal_conv1d_fn(x.mT, weight, bias, activation="silu").mT,
    )


def _torch_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    taps = weight.shape[1]
    y = F.conv1d(x.mT, weight[:, None], bias, padding=taps - 1, groups=x.shape[2])
    return F.silu(y[..., : x.shape[1]]).mT


def measure(name: str, op: Op, shape: tuple[int, int, int, int], options: Any) -> Row:
    """Time one op on one shape (B, T, D, K)."""
    batch, frames, width, taps = shape
    dtype, device = getattr(torch, options.dtype), torch.device(options.device)
    x = torch.randn(batch, frames, width, device=device, dtype=dtype, requires_grad=True)
    weight = (torch.randn(width, taps, device=device) / taps).to(dtype).requires_grad_()
    bias = torch.randn(width, device=device, dtype=dtype, requires_grad=True)
    grad = torch.randn_like(x)

    def forward() -> None:
        with torch.no_grad():
            op(x, weight, bias)

    def both() -> None:
        torch.autograd.grad(op(x, weight, bias), (x, weight, bias), grad)

    clock = _time_on_cuda if device.type == "cuda" else _time_on_cpu
    forward_ms, both_ms = clock(forward, options.repeat), clock(both, options.repeat)
    extra = 0.0
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        both()
        extra = (torch.cuda.max_memory_allocated() - before) / 2**20
    part = x[:1, :ERROR_FRAMES].detach()
    exact, _ = causal_conv1d_reference(
        *(t.detach().double().cpu() for t in (part, weight, bias)), activation="silu"
    )
    error = (op(part, weight, bias).detach().double().cpu() - exact).norm() / exact.norm()
    once = x.nbytes / 1e6
    return Row(
        name, batch, frames, width, taps, options.dtype, forward_ms, both_ms,
        2 * once / forward_ms, 5 * once / both_ms, extra, float(error),
    )  # fmt: skip


def _time_on_cpu(call: Callable[[], None], repeat: int) -> float:
    call()
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


def _time_on_cuda(call: Callable[[], None], repeat: int) -> float:
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeat)]
    for begin, end in marks:
        flush.zero_()
        begin.record()
        graph.replay()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in marks)


def main() -> None:
    """Print one row per op and shape."""
    parser = argparse.ArgumentParser(description="Time the causal convolution.")
    parser.add_argument("--frames", type=int, nargs="+", default=[16384, 65536, 262144])
    parser.add_argument("--width", type=int, nargs="+", default=[512, 1536])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--taps", type=int, nargs="+", default=[4])
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeat", type=int, default=30)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    where = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    if not options.json:
        threads = torch.get_num_threads()
        print(f"{where}, torch {torch.__version__}, {threads} threads, {options.dtype}")
        print("op                 B      T     D K   fwd ms  GB/s    f+b ms  GB/s    MiB    error")
    for frames in options.frames:
        for width in options.width:
            for taps in options.taps:
                for name, op in rivals():
                    shape = (options.batch, frames, width, taps)
                    row = measure(name, op, shape, options)
                    if options.json:
                        print(json.dumps(row._asdict() | {"device": where}), flush=True)
                        continue
                    print(
                        f"{name:14s} {options.batch:5d} {frames:6d} {width:5d} {taps:1d} "
                        f"{row.forward_ms:8.3f} {row.forward_gbps:5.0f} {row.both_ms:9.3f} "
                        f"{row.both_gbps:5.0f} {row.extra_mib:6.0f} {row.error:8.1e}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
