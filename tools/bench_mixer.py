"""Time whole mixers, eager, forward and backward, and one decoding step, against their rivals.

python tools/bench_mixer.py --device cpu --dtype float32 --frames 4096 --width 256
python tools/bench_mixer.py --device cuda --frames 4096 16384 --json mixers.json

Rivals are all that can be imported: mamba_ssm's modules, `transformers`' (without its optional
kernels: what a user without a compiler gets; its loop over frames takes minutes at some thousand
frames), and a causal attention block of two mixers' parameters (PyTorch's SDPA).
The time is the wall's, the host's work included: below 16k frames that is what a user waits for.
Implementations take turns, so that other work on the machine hurts all alike; medians.
"""

import argparse
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
import torch.nn.functional as F
from torch import Tensor, nn

from vidmamba.nn.mamba2 import Mamba2Config, Mamba2Mixer
from vidmamba.nn.mixer import Bidirectional, Mamba1Mixer, MambaConfig

Call = Callable[[Tensor], Tensor]


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


def mixers(case: str, width: int) -> dict[str, tuple[nn.Module, Call]]:
    """Return what computes this case, ours first: a module (its parameters) and its call."""
    if case == "mamba1":
        ours: nn.Module = Mamba1Mixer(width, MambaConfig())
    elif case == "mamba2":
        ours = Mamba2Mixer(width, Mamba2Config(state=128))
    else:
        along = Mamba1Mixer(width, MambaConfig())
        ours = Bidirectional(along, Mamba1Mixer(width, MambaConfig(), reverse=True))
    found: dict[str, tuple[nn.Module, Call]] = {"vidmamba": (ours, ours)}
    if importlib.util.find_spec("mamba_ssm"):
        found["mamba_ssm"] = _mamba_ssm(case, width)
    if importlib.util.find_spec("transformers") and case != "bidirectional":
        found["transformers"] = _transformers(case, width)
    if case != "bidirectional":
        attention = AttentionBlock(width)
        found["attention + MLP (SDPA)"] = attention, attention
    return found


def _mamba_ssm(case: str, width: int) -> tuple[nn.Module, Call]:
    from mamba_ssm import Mamba, Mamba2

    if case == "bidirectional":
        pair = nn.ModuleList([Mamba(width), Mamba(width)])
        return pair, lambda x: (pair[0](x) + pair[1](x.flip(1)).flip(1)) / 2
    mixer = Mamba(width) if case == "mamba1" else Mamba2(width, d_state=128)
    return mixer, mixer


def _transformers(case: str, width: int) -> tuple[nn.Module, Call]:
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
    return mixer, mixer


def time_both(case: str, shape: tuple[int, int, int], options: Any) -> list[dict[str, Any]]:
    """Return a row an implementation: forward, and forward and backward."""
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    x = torch.randn(shape, device=device, dtype=dtype, requires_grad=True)
    weight = torch.randn_like(x)
    runs = {
        name: (module.to(device, dtype), call)
        for name, (module, call) in mixers(case, shape[2]).items()
    }

    def forward(name: str) -> None:
        with torch.no_grad():
            runs[name][1](x)

    def both(name: str) -> None:
        module, call = runs[name]
        torch.autograd.grad(call(x), [x, *module.parameters()], weight, allow_unused=True)

    rows = []
    for kind, run in (("forward", forward), ("both", both)):
        times: dict[str, list[float]] = {name: [] for name in runs}
        peaks = dict.fromkeys(runs, float("nan"))
        for repeat in range(-2, options.repeats):
            for name in runs:
                took, peaks[name] = _clock(functools.partial(run, name), device)
                if repeat >= 0:
                    times[name].append(took)
        ours = statistics.median(times["vidmamba"])
        for name in runs:
            median = statistics.median(times[name])
            rows.append(
                {"case": case, "shape": "x".join(map(str, shape)), "pass": kind, "run": name,
                 "ms": 1e3 * median, "of_ours": median / ours, "peak_mib": peaks[name] / 2**20}
            )  # fmt: skip
    return rows


def time_step(case: str, width: int, options: Any) -> list[dict[str, Any]]:
    """Return one row: a frame through one mixer with its state, in a CUDA graph where there is."""
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    kind = Mamba1Mixer(width, MambaConfig()) if case == "mamba1" else Mamba2Mixer(
        width, Mamba2Config(state=128)
    )  # fmt: skip
    mixer = kind.to(device, dtype)
    state = mixer.empty_state(1)
    x = torch.randn(1, 1, width, device=device, dtype=dtype)

    def step() -> None:
        with torch.no_grad():
            mixer.continue_from(x, state)

    step()
    run = step
    if device.type == "cuda":
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(100):  # many, so that the replay's own cost does not count
                step()
        run = graph.replay
    times = [_clock(run, device)[0] for _ in range(options.repeats + 2)][2:]
    seconds = statistics.median(times) / (100 if device.type == "cuda" else 1)
    return [
        {"case": case, "shape": f"1x1x{width}", "pass": "step", "run": "vidmamba",
         "ms": 1e3 * seconds, "of_ours": 1.0, "peak_mib": float("nan")}
    ]  # fmt: skip


def _clock(run: Callable[[], Any], device: torch.device) -> tuple[float, float]:
    """Return wall seconds and, on CUDA, the peak of memory above what was there."""
    if device.type != "cuda":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start, float("nan")
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    took = time.perf_counter() - start
    return took, float(torch.cuda.max_memory_allocated() - before)


def main() -> None:
    """Print a table, and write it as JSON if asked."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description="Time whole mixers.")
    cases = ("mamba1", "mamba2", "bidirectional")
    parser.add_argument("--cases", nargs="+", default=cases, choices=cases)
    parser.add_argument("--frames", type=int, nargs="+", default=[4096, 16384])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1)
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
    print(f"{'case':14}{'shape':>14}{'pass':>9}{'ms':>10}{'x ours':>8}{'MiB':>8}  run")
    rows = []
    for case in options.cases:
        found = []
        for frames in options.frames:
            found += time_both(case, (options.batch, frames, options.width), options)
        if case != "bidirectional":
            found += time_step(case, options.width, options)
        for row in found:
            text = "{case:14}{shape:>14}{pass:>9}{ms:10.3f}{of_ours:8.2f}{peak_mib:8.0f}  {run}"
            print(text.format(**row), flush=True)
        rows += found
    if options.json:
        options.json.write_text(json.dumps({"device": device, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
