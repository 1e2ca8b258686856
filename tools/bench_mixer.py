"""Time whole mixers, eager, forward and backward, and one decoding step, against their rivals.

python tools/bench_mixer.py --device cpu --dtype float32 --frames 4096 --width 256
python tools/bench_mixer.py --device cuda --frames 4096 16384 65536 --json mixers.json

Rivals are all that can be imported: mamba_ssm's modules, `transformers`' (without its optional
kernels: what a user without a compiler gets; its loop over frames takes minutes at some thousand
frames, so it is left out on a GPU), and a causal attention block of two mixers' parameters
(PyTorch's SDPA). Where mamba_ssm cannot be imported but the device is the one that its times were
recorded on, these stand beside ours, marked as recorded.
The time is the wall's, the host's work included: below 16k frames that is what a user waits for.
"device ms" is the GPU's alone, launches hidden behind earlier work. "graphed" is forward and
backward again, by `torch.cuda.make_graphed_callables`, for shapes that stay the same. A step is one
frame with its state, in a CUDA graph of 100 steps and, as "eager step", launched one by one.
Implementations take turns, so that other work on the machine hurts all alike; medians.
"""

import argparse
import copy
import functools
import importlib.util
import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidmamba.nn.bidirectional import Bidirectional
from vidmamba.nn.mamba2 import Mamba2Config, Mamba2Mixer
from vidmamba.nn.mixer import Mamba1Mixer, MambaConfig

Row = dict[str, Any]
Clocked = tuple[float, float, float]

STEPS = 100
WARM_UPS = 20
NAN = float("nan")
RECORDED = Path(__file__).with_name("mamba_ssm_mixers.json")
"""What mamba_ssm took, and on which device."""


class AttentionBlock(nn.Module):
    """Causal attention and an MLP, together as many parameters as two Mamba mixers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(width // 64, 1)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Attend to the frames before, then transform each frame."""
        split = self.queries_keys_values(x).unflatten(-1, (3, self.heads, -1))
        q, k, v = split.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        out: Tensor = x + self.mlp(x)
        return out


class Flipped(nn.Module):
    """Two mixers that run along time, the second on flipped frames."""

    def __init__(self, along: nn.Module, against: nn.Module) -> None:
        super().__init__()
        self.along, self.against = along, against

    def forward(self, x: Tensor) -> Tensor:
        """Average both directions."""
        out: Tensor = (self.along(x) + self.against(x.flip(1)).flip(1)) / 2
        return out


def mixers(case: str, width: int, options: Any) -> dict[str, nn.Module]:
    """Return what computes this case, ours first."""
    if case == "mamba1":
        ours: nn.Module = Mamba1Mixer(width, MambaConfig())
    elif case == "mamba2":
        ours = Mamba2Mixer(width, Mamba2Config(state=128))
    else:
        along = Mamba1Mixer(width, MambaConfig())
        ours = Bidirectional(along, Mamba1Mixer(width, MambaConfig(), reverse=True))
    found = {"vidmamba": ours}
    if options.only_ours:
        return found
    if importlib.util.find_spec("mamba_ssm"):
        found["mamba_ssm"] = _mamba_ssm(case, width)
    on_cpu = options.device == "cpu"
    if on_cpu and importlib.util.find_spec("transformers") and case != "bidirectional":
        found["transformers"] = _transformers(case, width)
    if case != "bidirectional":
        found["attention + MLP (SDPA)"] = AttentionBlock(width)
    return found


def _mamba_ssm(case: str, width: int) -> nn.Module:
    from mamba_ssm import Mamba, Mamba2

    if case == "bidirectional":
        return Flipped(Mamba(width), Mamba(width))
    mixer: nn.Module = Mamba(width) if case == "mamba1" else Mamba2(width, d_state=128)
    return mixer


def _transformers(case: str, width: int) -> nn.Module:
    mixer: nn.Module
    if case == "mamba1":
        from transformers import MambaConfig as Config
        from transformers.models.mamba.modeling_mamba import MambaMixer

        mixer = MambaMixer(Config(hidden_size=width), layer_idx=0)
    else:
        from transformers import Mamba2Config as Config2
        from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer as Other

        heads = 2 * width // 64
        config = Config2(
            hidden_size=width, num_heads=heads, head_dim=64, n_groups=1, state_size=128
        )
        mixer = Other(config, layer_idx=0)
    return mixer


def time_both(case: str, shape: tuple[int, int, int], options: Any) -> list[Row]:
    """Return a row an implementation: forward, and forward and backward."""
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    x = torch.randn(shape, device=device, dtype=dtype, requires_grad=True)
    weight = torch.randn_like(x)
    modules = {n: m.to(device, dtype) for n, m in mixers(case, shape[2], options).items()}

    def forward(module: nn.Module) -> None:
        with torch.no_grad():
            module(x)

    def both(module: nn.Module) -> None:
        torch.autograd.grad(module(x), [x, *module.parameters()], weight, allow_unused=True)

    kinds = {"forward": (forward, modules), "both": (both, modules)}
    if options.graphed:
        copies = copy.deepcopy(modules)
        for module in copies.values():
            torch.cuda.make_graphed_callables(module, (x,))
        kinds["graphed"] = both, copies

    rows = []
    for kind, (run, runs) in kinds.items():
        times: dict[str, list[Clocked]] = {name: [] for name in runs}
        for repeat in range(-WARM_UPS, options.repeats):
            for name, module in runs.items():
                clocked = clock(functools.partial(run, module), device)
                if repeat >= 0:
                    times[name].append(clocked)
        for name, seen in times.items():
            medians = (statistics.median(each) for each in zip(*seen, strict=True))
            rows.append(row(case, "x".join(map(str, shape)), kind, name, *medians))
    return rows


def time_step(case: str, videos: int, width: int, options: Any) -> list[Row]:
    """Return rows: a frame through one mixer with its state, eager and in a CUDA graph."""
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    mixer = mixers(case, width, options)["vidmamba"].to(device, dtype)
    assert isinstance(mixer, Mamba1Mixer | Mamba2Mixer)
    state = mixer.empty_state(videos)
    x = torch.randn(videos, width, device=device, dtype=dtype)

    @torch.no_grad()
    def steps() -> None:
        for _ in range(STEPS):
            mixer.step(x, state)

    runs = {"eager step": steps}
    if device.type == "cuda":
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            steps()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):  # many, so that the replay's own cost does not count
            steps()
        runs["step"] = graph.replay
    rows = []
    for kind, run in runs.items():
        seen = [clock(run, device)[:2] for _ in range(WARM_UPS + options.repeats)][WARM_UPS:]
        wall, busy = (statistics.median(each) / STEPS for each in zip(*seen, strict=True))
        rows.append(row(case, f"{videos}x1x{width}", kind, "vidmamba", wall, busy, NAN))
    return rows


def row(case: str, shape: str, kind: str, run: str, wall: float, busy: float, peak: float) -> Row:
    """Return one line of the table, seconds as milliseconds."""
    return {"case": case, "shape": shape, "pass": kind, "run": run, "ms": 1e3 * wall,
            "device_ms": 1e3 * busy, "peak_mib": peak / 2**20}  # fmt: skip


def recorded(rows: list[Row], device: str, dtype: str) -> list[Row]:
    """Return what mamba_ssm took for the same rows on this device, where it was recorded."""
    known = json.loads(RECORDED.read_text())
    if (device, dtype) != (known["device"], known["dtype"]):
        return []
    wanted = {(ours["case"], ours["shape"], ours["pass"]) for ours in rows}
    return [
        {**{name: NAN if x is None else x for name, x in row.items()}, "run": known["run"]}
        for row in known["rows"]
        if (row["case"], row["shape"], row["pass"]) in wanted
    ]


def clock(run: Callable[[], Any], device: torch.device) -> Clocked:
    """Return seconds by the wall, of the GPU alone, and the peak of memory above what was there."""
    if device.type != "cuda":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start, NAN, NAN
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    took = time.perf_counter() - start
    peak = float(torch.cuda.max_memory_allocated() - before)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    # cycles, for longer than the host launches; not for as long as it compiles
    torch.cuda._sleep(int(3e9 * min(took, 0.05)))
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return took, begin.elapsed_time(end) / 1e3, peak


def show(rows: list[Row]) -> None:
    """Print a case's rows, each beside ours."""
    ours = {(r["shape"], r["pass"]): r["ms"] for r in rows if r["run"] == "vidmamba"}
    for each in rows:
        ratio = each["ms"] / ours[each["shape"], each["pass"]]
        print(
            "{case:14}{shape:>14}{pass:>12}{ms:10.4f}{ratio:8.2f}{device_ms:11.4f}{peak_mib:8.0f}"
            "  {run}".format(ratio=ratio, **each), flush=True,
        )  # fmt: skip


def main() -> None:
    """Print a table, and write it as JSON if asked."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description="Time whole mixers.")
    cases = ("mamba1", "mamba2", "bidirectional")
    parser.add_argument("--cases", nargs="+", default=cases, choices=cases)
    parser.add_argument("--frames", type=int, nargs="*", default=[4096, 16384])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--step-widths", type=int, nargs="*", default=[512, 768])
    parser.add_argument("--step-videos", type=int, nargs="*", default=[1, 64])
    parser.add_argument("--only-ours", action="store_true")
    parser.add_argument("--graphed", action="store_true", help="also as CUDA graphs")
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--dtype", default="bfloat16" if cuda else "float32")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    on_gpu = options.device == "cuda"
    device = torch.cuda.get_device_name() if on_gpu else f"{platform.processor()} CPU"
    print(
        f"{device}, torch {torch.__version__}, {options.dtype}, {torch.get_num_threads()} threads"
    )
    print(f"{'case':14}{'shape':>14}{'pass':>12}{'ms':>10}{'x ours':>8}{'device ms':>11}{'MiB':>8}")
    rows = []
    for case in options.cases:
        found = []
        for frames in options.frames:
            found += time_both(case, (options.batch, frames, options.width), options)
        if case != "bidirectional":
            for videos, width in itertools.product(options.step_videos, options.step_widths):
                found += time_step(case, videos, width, options)
        if not importlib.util.find_spec("mamba_ssm"):
            found += recorded(found, device, options.dtype)
        show(found)
        rows += found
    if options.json:
        options.json.write_text(json.dumps({"device": device, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
