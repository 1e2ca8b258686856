"""Time a frozen backbone: pictures a second of each variant, in one run, against plain eager.

python tools/bench_backbone.py --sizes 224 128
python tools/bench_backbone.py --name convnext_tiny --weights random --device cuda
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from vidmamba.models import folding
from vidmamba.models.backbone import BackboneConfig, FrozenBackbone

Variant = tuple[str, Callable[[Tensor], Tensor], int]  # name, function, pictures in one call


def main() -> None:
    """Print a table for each size."""
    parser = argparse.ArgumentParser(description="Time a frozen backbone.")
    parser.add_argument("--name", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", default="embedded")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 128])
    parser.add_argument("--frames", type=int, default=32, help="frames timed at once")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--video-size", type=int, nargs=2, default=[360, 640], help="height width")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print(f"{options.name} on {_device_name(options.device)}, torch {torch.__version__}")
    for size in options.sizes:
        config = BackboneConfig(options.name, options.weights, image_size=size)
        frames = torch.randint(
            0, 256, (options.frames, *options.video_size, 3), dtype=torch.uint8
        ).to(options.device)
        _compare(config, frames, options.rounds)


@torch.no_grad()
def _compare(config: BackboneConfig, frames: Tensor, rounds: int) -> None:
    backbone = FrozenBackbone(config).to(frames.device)
    pictures = backbone.transform(frames)
    size = pictures.shape[-1]
    make = _cuda_variants if frames.is_cuda else _cpu_variants
    variants = make(backbone, pictures, frames)
    expected = backbone.model(pictures[:8])
    rates: dict[str, list[float]] = {name: [] for name, _, _ in variants}
    for _ in range(rounds + 1):  # in turns, so that other work on the machine hits all alike
        for name, function, count in variants:
            rates[name].append(_rate(function, pictures, count))
    first = statistics.median(rates[variants[0][0]][1:])
    print(f"\n{size} px{'':24} img/s    ratio   difference of features")
    for name, function, count in variants:
        rate = statistics.median(rates[name][1:])  # the first round warms up
        got = torch.cat([function(part) for part in pictures[:8].split(count)])
        same = got.shape == expected.shape
        error = float((got - expected).abs().max() / expected.abs().max()) if same else None
        difference = "" if error is None or count > 8 else f"{error:.1e}"
        print(f"{name:28} {rate:8.1f} {rate / first:8.2f}   {difference}")


def _cpu_variants(backbone: FrozenBackbone, pictures: Tensor, frames: Tensor) -> list[Variant]:
    plain = copy.deepcopy(backbone.model).to(memory_format=torch.contiguous_format)
    last = backbone.model
    folded = _fold_only(last, pictures[:1])
    fused = folding.fold_for_cpu(last, pictures[:1])
    everything = len(pictures)
    variants: list[Variant] = [
        ("eager, 16 at once", lambda x: plain(x.contiguous()), 16),
        ("channels_last, 16", last, 16),
        ("  batch norm folded, 16", folded, 16),
    ]
    variants += [(f"  and fused, prepacked, {n}", fused, n) for n in (1, 4, 8, 16, 32)]
    variants += [
        ("transform alone", lambda _: backbone.transform(frames), everything),
        ("FrozenBackbone, transform in", lambda _: backbone(frames), everything),
    ]
    return variants


def _cuda_variants(backbone: FrozenBackbone, pictures: Tensor, frames: Tensor) -> list[Variant]:
    plain = copy.deepcopy(backbone.model).to(memory_format=torch.contiguous_format)
    half = copy.deepcopy(backbone)
    half.config = replace(backbone.config, precision="bfloat16")
    everything = len(pictures)

    def bfloat16(x: Tensor) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            return backbone.model(x).float()

    return [
        ("eager", lambda x: plain(x.contiguous()), everything),
        ("channels_last", backbone.model, everything),
        ("channels_last, bfloat16", bfloat16, everything),
        ("transform alone", lambda _: backbone.transform(frames), everything),
        ("FrozenBackbone", lambda _: backbone(frames), everything),
        ("FrozenBackbone, bfloat16", lambda _: half(frames), everything),
    ]


def _fold_only(model: nn.Module, example: Tensor) -> nn.Module:
    """Without oneDNN's fused and prepacked convolutions."""
    fuse = folding.can_fuse
    folding.can_fuse = lambda *_: False
    try:
        return folding.fold_for_cpu(model, example)
    finally:
        folding.can_fuse = fuse


def _rate(function: Callable[[Tensor], Tensor], pictures: Tensor, count: int) -> float:
    """Pictures a second over all of them, so many in one call."""
    parts = pictures.split(count)
    _wait(pictures)
    start = time.perf_counter()
    for part in parts:
        function(part)
    _wait(pictures)
    return len(pictures) / (time.perf_counter() - start)


def _wait(pictures: Tensor) -> None:
    if pictures.is_cuda:
        torch.cuda.synchronize()


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} CPU threads"


if __name__ == "__main__":
    main()
