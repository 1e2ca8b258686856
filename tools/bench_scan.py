"""Time the scans against every rival that can be imported, and against the device's limits.

python tools/bench_scan.py --device cpu --shapes 1x4096x512 --dtype float32
python tools/bench_scan.py --device cuda --json scans.json

One row a shape, an implementation and a pass (forward, or forward and backward): the median time,
how many times ours it takes, the least bytes that the pass must move over its time and over the
device's copy bandwidth, exponentials a second, peak memory beyond the inputs, and the relative
error of the outputs against float64 (on the first frames). Runs alternate between implementations,
so that other work on the machine hurts all alike.
"""

import argparse
import dataclasses
import functools
import importlib.util
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidmamba.kernels.selective_scan import selective_scan, selective_scan_reference
from vidmamba.kernels.ssd import ssd, ssd_reference

ERROR_FRAMES = 512  # the float64 loop takes a millisecond a frame
FLUSH_BYTES = 256 * 2**20  # more than any cache

Shape = tuple[int, int, int]  # B, T, D


@dataclasses.dataclass
class Problem:
    """One op on one shape: its implementations, ours first, and its least work."""

    inputs: dict[str, Tensor]  # those of y's shape first
    runs: dict[str, Callable[..., Tensor]]  # each takes the inputs by name
    reference: Callable[..., Tensor]  # in float64, on the first frames
    forward_bytes: int
    both_bytes: int
    exponentials: int  # of one pass over time
    channels_first: frozenset[str] = frozenset()  # implementations given (B, D, T), untimed

    def inputs_of(self, name: str) -> dict[str, Tensor]:
        """The inputs as an implementation wants them."""
        return turn(self.inputs) if name in self.channels_first else self.inputs


def turn(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """(B, T, D) to (B, D, T)."""
    return {k: v.transpose(1, 2).contiguous() if v.ndim == 3 else v for k, v in inputs.items()}


def selective_scan_problem(shape: Shape, dtype: torch.dtype, device: torch.device) -> Problem:
    """Mamba-1 with bias, softplus, skip and gate; N = 16."""
    batch, frames, width = shape
    states, size = 16, dtype.itemsize
    wide, narrow = (batch, frames, width), (batch, frames, states)
    inputs = {
        "u": torch.randn(wide, device=device, dtype=dtype),
        "delta": (torch.randn(wide, device=device) - 4).to(dtype),
        "A": -torch.arange(1.0, states + 1, device=device).repeat(width, 1),
        "B": torch.randn(narrow, device=device, dtype=dtype),
        "C": torch.randn(narrow, device=device, dtype=dtype),
        "D": torch.randn(width, device=device),
        "z": torch.randn(wide, device=device, dtype=dtype),
        "delta_bias": 0.1 * torch.randn(width, device=device),
    }

    def ours(**given: Any) -> Tensor:
        y: Tensor = selective_scan(**given, delta_softplus=True)
        return y

    def exactly(**given: Any) -> Tensor:
        return selective_scan_reference(**given, delta_softplus=True)[0]

    element, row = batch * frames * width * size, batch * frames * states * size
    return Problem(
        inputs,
        {"vidmamba": ours, **_mamba1_rivals(device)},
        exactly,
        forward_bytes=4 * element + 2 * row,
        both_bytes=11 * element + 6 * row,
        exponentials=batch * frames * width * states,
        channels_first=frozenset({"mamba_ssm"}),
    )


def _mamba1_rivals(device: torch.device) -> dict[str, Callable[..., Tensor]]:
    rivals: dict[str, Callable[..., Tensor]] = {}
    if device.type == "cuda" and importlib.util.find_spec("mamba_ssm"):
        from mamba_ssm.ops.selective_scan_interface import (
            selective_scan_fn,
        )

        def official(**given: Tensor) -> Tensor:
            y: Tensor = selective_scan_fn(**given, delta_softplus=True)
            return y

        rivals["mamba_ssm"] = official
    if importlib.util.find_spec("mambapy"):
        from mambapy.pscan import pscan

        def blelloch(**given: Tensor) -> Tensor:
            f = {k: v.float() for k, v in given.items()}
            step = torch.nn.functional.softplus(f["delta"] + f["delta_bias"])
            decay = torch.exp(step[..., None] * f["A"])
            h = pscan(decay, (step * f["u"])[..., None] * f["B"][:, :, None])
            y = (h @ f["C"][..., None])[..., 0] + f["D"] * f["u"]
            return y * torch.nn.functional.silu(f["z"])

        rivals["mambapy pscan"] = blelloch
    return rivals


def ssd_problem(
    shape: Shape, dtype: torch.dtype, device: torch.device, states: int = 128
) -> Problem:
    """Mamba-2 with bias, softplus, skip and gate: heads of 64 channels in one group."""
    batch, frames, width = shape
    heads, size = width // 64, dtype.itemsize
    wide, narrow = (batch, frames, heads, 64), (batch, frames, 1, states)
    inputs = {
        "x": torch.randn(wide, device=device, dtype=dtype),
        "dt": (torch.randn(batch, frames, heads, device=device) - 4).to(dtype),
        "A": -torch.linspace(1, 16, heads, device=device),
        "B": (torch.randn(narrow, device=device) / states**0.5).to(dtype),
        "C": torch.randn(narrow, device=device, dtype=dtype),
        "D": torch.randn(heads, device=device),
        "z": torch.randn(wide, device=device, dtype=dtype),
        "dt_bias": 0.1 * torch.randn(heads, device=device),
    }

    def ours(**given: Any) -> Tensor:
        y: Tensor = ssd(**given, dt_softplus=True)
        return y

    def exactly(**given: Any) -> Tensor:
        return ssd_reference(**given, dt_softplus=True)[0]

    rivals: dict[str, Callable[..., Tensor]] = {}
    if device.type == "cuda" and importlib.util.find_spec("mamba_ssm"):
        from mamba_ssm.ops.triton.ssd_combined import (
            mamba_chunk_scan_combined,
        )

        def official(**given: Any) -> Tensor:
            names = ("x", "dt", "A", "B", "C")
            first = [given.pop(name) for name in names]
            y: Tensor = mamba_chunk_scan_combined(*first, 256, **given, dt_softplus=True)
            return y

        rivals["mamba_ssm"] = official
    element, row = batch * frames * width * size, batch * frames * states * size
    return Problem(
        inputs,
        {"vidmamba": ours, **rivals},
        exactly,
        forward_bytes=3 * element + 2 * row,
        both_bytes=8 * element + 6 * row,
        exponentials=batch * frames * width * states,
    )


# an op's rows are added here: a function of shape, dtype and device that returns a Problem
PROBLEMS: dict[str, Callable[[Shape, torch.dtype, torch.device], Problem]] = {
    "selective_scan": selective_scan_problem,
    "ssd": ssd_problem,
    "ssd_64": functools.partial(ssd_problem, states=64),
}


def measure(problem: Problem, backward: bool, repeats: int) -> dict[str, dict[str, float]]:
    """The median seconds and the peak bytes of every implementation, run in turn."""
    frames = next(iter(problem.inputs.values()))
    device = frames.device
    inputs = {
        name: {k: v.detach().requires_grad_(backward) for k, v in problem.inputs_of(name).items()}
        for name in problem.runs
    }
    weights = {name: torch.randn_like(next(iter(given.values()))) for name, given in inputs.items()}
    flush = torch.empty(
        FLUSH_BYTES if device.type == "cuda" else 0, dtype=torch.int8, device=device
    )

    def once(name: str) -> None:
        y = problem.runs[name](**inputs[name])
        if backward:
            torch.autograd.grad(y, list(inputs[name].values()), weights[name].to(y.dtype))

    seconds: dict[str, list[float]] = {name: [] for name in problem.runs}
    peaks = dict.fromkeys(problem.runs, float("nan"))
    with torch.set_grad_enabled(backward):
        for repeat in range(-2, repeats):  # two to compile and warm up
            for name in problem.runs:
                flush.zero_()
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(device)
                    before = torch.cuda.memory_allocated(device)
                    took = _time_on_cuda(functools.partial(once, name))
                    peaks[name] = float(torch.cuda.max_memory_allocated(device) - before)
                else:
                    start = time.perf_counter()
                    once(name)
                    took = time.perf_counter() - start
                if repeat >= 0:
                    seconds[name].append(took)
    return {
        name: {"seconds": statistics.median(times), "peak_bytes": peaks[name]}
        for name, times in seconds.items()
    }


def _time_on_cuda(run: Callable[[], Any]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(20_000_000)  # the device is busy while the host launches
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second of a large copy, read and written."""
    source = torch.empty(2**28 if device.type == "cuda" else 2**26, device=device)
    target = torch.empty_like(source)
    times = []
    for _ in range(5):
        if device.type == "cuda":
            times.append(_time_on_cuda(functools.partial(target.copy_, source)))
        else:
            start = time.perf_counter()
            target.copy_(source)
            times.append(time.perf_counter() - start)
    return 2 * source.nbytes / min(times)


def relative_error(problem: Problem, name: str) -> float:
    """Against float64, over the first frames."""
    short = {k: v[:, :ERROR_FRAMES] if v.ndim > 2 else v for k, v in problem.inputs.items()}
    short = {k: v.contiguous() for k, v in short.items()}
    exact = problem.reference(**{k: v.double() for k, v in short.items()})
    with torch.no_grad():
        turned = name in problem.channels_first
        y = problem.runs[name](**(turn(short) if turned else short))
        return float(((y.mT if turned else y).double() - exact).norm() / exact.norm())


def bench(op: str, shape: Shape, dtype: torch.dtype, device: torch.device, args: Any) -> list[Any]:
    """All rows of one shape."""
    problem = PROBLEMS[op](shape, dtype, device)
    if args.only_ours:
        problem.runs = {"vidmamba": problem.runs["vidmamba"]}
    with torch.no_grad():
        for name, run in problem.runs.items():  # autotuners choose by the first shape that they see
            run(**(turn(problem.inputs) if name in problem.channels_first else problem.inputs))
    errors = {name: relative_error(problem, name) for name in problem.runs}
    bandwidth = copy_bandwidth(device)
    rows = []
    for backward in (False,) if args.forward_only else (False, True):
        results = measure(problem, backward, args.repeats)
        ours = results["vidmamba"]["seconds"]
        least = problem.both_bytes if backward else problem.forward_bytes
        for name, result in results.items():
            seconds = result["seconds"]
            rows.append(
                {
                    "op": op, "shape": "x".join(map(str, shape)), "dtype": str(dtype)[6:],
                    "pass": "both" if backward else "forward", "run": name,
                    "ms": seconds * 1e3, "of_ours": seconds / ours,
                    "gb_per_s": least / seconds / 1e9,
                    "of_bandwidth": least / seconds / bandwidth,
                    "gigastates_per_s": problem.exponentials / seconds / 1e9,
                    "peak_mib": result["peak_bytes"] / 2**20, "error": errors[name],
                }
            )  # fmt: skip
    return rows


def main() -> None:
    """Print a table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(description="Time the scans.")
    parser.add_argument("--ops", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default=None, help="default: bfloat16 on CUDA, else float32")
    parser.add_argument("--shapes", nargs="+", default=["1x4096x512", "1x65536x512", "8x4096x512"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--forward-only", action="store_true")
    parser.add_argument("--only-ours", action="store_true")
    parser.add_argument("--json", type=Path, default=None)
    args = parser.parse_args()
    device = torch.device(args.device)
    dtype = getattr(torch, args.dtype or ("bfloat16" if device.type == "cuda" else "float32"))
    cuda = device.type == "cuda"
    name = torch.cuda.get_device_name() if cuda else f"{platform.processor()} CPU"
    print(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{'op':15}{'shape':>13}{'pass':>9}{'ms':>10}{'x ours':>8}{'GB/s':>7}{'of bw':>7}"
          f"{'Gst/s':>7}{'MiB':>7}{'error':>9}  run")  # fmt: skip
    rows = []
    for op in args.ops:
        for text in args.shapes:
            batch, frames, width = map(int, text.split("x"))
            for row in bench(op, (batch, frames, width), dtype, device, args):
                rows.append(row)
                print(
                    "{op:15}{shape:>13}{pass:>9}{ms:10.3f}{of_ours:8.2f}{gb_per_s:7.1f}"
                    "{of_bandwidth:7.1%}{gigastates_per_s:7.2f}{peak_mib:7.0f}{error:9.1e}"
                    "  {run}".format(**row),
                    flush=True,
                )
    if args.json:
        args.json.write_text(json.dumps({"device": name, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
