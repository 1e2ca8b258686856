"""How long four temporal models remember: accuracy on errands' memory classes against the gap.

python tools/memory_gaps.py --out memory --gaps 100 1000 10000 --seeds 0 1 2 --jobs 8

For each gap: errands are rendered and each picture is embedded (kept in OUT, so that a second call
goes on; no video file lies between, so that a machine without decoders can do it), then causal
models are trained on them with the same augmentation, schedule and steps. Each model comes in two
settings, the second of which can see over the longest gap; for each gap the validation videos
choose the setting, and its scores on the test videos count. Training clips have gaps from 20 frames
up to the longest, so that short memories are learned first, and of a gap some 200 frames are
labelled, so that leaving weighs as much in every loss. Writes memory_gaps.json and the figure
memory_gaps.png (matplotlib). Fifty is chance.
"""

import argparse
import json
import re
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Int

from vidmamba.benchmark.quick import train_quickly
from vidmamba.benchmark.runs import device_of
from vidmamba.benchmark.workers import Job, Workers
from vidmamba.datasets.errands import ErrandsConfig
from vidmamba.datasets.errands.grammar import write_script
from vidmamba.datasets.errands.plan import PARTS, plan_clips
from vidmamba.datasets.errands.render import render
from vidmamba.datasets.errands.script import (
    CLASS_NAMES,
    MEMORY_CLASSES,
    Script,
    frame_labels,
)
from vidmamba.datasets.records import UNLABELLED, LabelledSet, VideoItem
from vidmamba.evaluation import evaluate_set
from vidmamba.features.embed import embed_frames, place_backbone
from vidmamba.features.files import write_json, written_whole
from vidmamba.models.augment import AugmentConfig
from vidmamba.models.backbone import BackboneConfig, FrozenBackbone
from vidmamba.models.segmenter import SegmenterConfig
from vidmamba.nn.attention import AttentionConfig
from vidmamba.nn.mixer import MambaConfig
from vidmamba.nn.stack import StackConfig
from vidmamba.tasks.optim import OptimConfig
from vidmamba.tasks.segmentation import LossConfig, make_task
from vidmamba.training import TrainerConfig, seed_everything
from vidmamba.video.reader import Frames


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to build and train a model."""

    stack: StackConfig
    lr: float = 2e-3


def _causal(pattern: str, depth: int, **options: Any) -> StackConfig:
    return StackConfig(width=64, depth=depth, pattern=pattern, direction="causal", **options)


def _windows(growth: int) -> StackConfig:
    return _causal("AF", 12, attention=AttentionConfig(window=32, growth=growth))


MODELS: dict[str, dict[str, Setting]] = {
    "LSTM": {
        "lr 0.002": Setting(stack=_causal("L", 2)),
        "lr 0.005": Setting(stack=_causal("L", 2), lr=5e-3),
    },
    "windowed attention": {
        "windows 32 to 1,024": Setting(stack=_windows(2)),
        "windows 32 to 7,776": Setting(stack=_windows(3)),
    },
    "dilated TCN": {
        "10 layers": Setting(stack=_causal("C", 10)),
        "13 layers": Setting(stack=_causal("C", 13)),
    },
    "Mamba": {
        "steps from 0.001": Setting(stack=_causal("M", 2)),
        "steps from 0.00001": Setting(stack=_causal("M", 2, mixer=MambaConfig(dt_min=1e-5))),
    },
}
"""The slowest to train come first."""

LOOKS = {
    "Mamba": ("o", "#0b5cad"),
    "LSTM": ("D", "#c2410c"),
    "dilated TCN": ("s", "#4d7c0f"),
    "windowed attention": ("^", "#7e5aa8"),
}
"""Of each model's line: marker and colour."""

SHORTEST_GAP = 20
LABELLED_FRAMES = 200
"""Of a gap, in training."""
PICTURES = 512
"""Rendered before they are embedded."""
CHOSEN_BY = ("memory_accuracy", "accuracy")
"""Of the validation videos; the second where the first are equal."""
LINE = (
    "gap {gap:6}  {model:18} {setting:20} memory {memory_accuracy:5.1f} ± {spread:4.1f}"
    "  all {accuracy:5.1f}  {seconds:5.0f} s  {parameters:7,} parameters  {device}"
)


def errands_of(gap: int, videos: int) -> ErrandsConfig:
    """Return the dials of clips in which the thing was last seen `gap` frames before leaving."""
    longest = gap + gap // 10
    return ErrandsConfig(
        videos=videos,
        gap=(gap, longest),
        train_gap=(min(SHORTEST_GAP, gap), longest),
        seed=gap,
        validation=0.2,
        test=0.25,
    )


def scripts_of(config: ErrandsConfig) -> Iterator[tuple[str, Script]]:
    """Yield the part and the script of each clip."""
    for clip, plan in enumerate(plan_clips(config)):
        yield plan.part, write_script(config, clip, plan.outcomes, plan.gap)


@lru_cache(maxsize=1)
def placed(backbone: BackboneConfig) -> FrozenBackbone:
    """Return the backbone, once a process."""
    return place_backbone(backbone)


def embed_clip(config: ErrandsConfig, clip: int, backbone: BackboneConfig, file: Path) -> None:
    """Render one clip and leave its features, float16 [T, D], in a file."""
    _, script = [*scripts_of(config)][clip]
    pictures, found = render(config, clip, script), []
    while some := [*islice(pictures, PICTURES)]:
        frames = Frames(np.stack(some), np.arange(len(some)) / config.fps)
        found.append(embed_frames(placed(backbone), frames).features)
    with written_whole(file) as out:
        np.save(out, np.concatenate(found))


def load_set(config: ErrandsConfig, folder: Path) -> LabelledSet:
    """Join the labels of the scripts with the features in a folder."""
    parts: dict[str, list[VideoItem]] = {part: [] for part in PARTS}
    for clip, (part, script) in enumerate(scripts_of(config)):
        labels = frame_labels(script)
        parts[part].append(
            VideoItem(
                name=f"errand_{clip:04d}",
                features=np.load(folder / f"{clip}.npy", mmap_mode="r"),
                labels=thinned(labels, script) if part == "train" else labels,
                timestamps=np.arange(script.num_frames) / config.fps,
            )
        )
    train, validation, test = (tuple(parts[part]) for part in PARTS)
    return LabelledSet(
        class_names=CLASS_NAMES,
        background=(CLASS_NAMES.index("background"),),
        train=train,
        validation=validation,
        test=test,
        feature_key={"errands": folder.name, "width": train[0].features.shape[1]},
        memory_classes=tuple(CLASS_NAMES.index(name) for name in MEMORY_CLASSES),
    )


def thinned(labels: Int[np.ndarray, " T"], script: Script) -> Int[np.ndarray, " T"]:
    """Return labels with all but some `LABELLED_FRAMES` of each gap unlabelled."""
    kept = labels.copy()
    for errand in script.errands:
        gap = slice(errand.handled, errand.leaves)
        step = max((errand.leaves - errand.handled) // LABELLED_FRAMES, 1)
        kept[gap] = UNLABELLED
        kept[gap][::step] = labels[gap][::step]
    return kept


def score(
    config: ErrandsConfig, folder: Path, setting: Setting, seed: int, trainer: TrainerConfig,
    file: Path,
) -> None:  # fmt: skip
    """Train one model, and leave in a file its scores on validation and test videos."""
    seed_everything(seed)
    data = load_set(config, folder)
    task = make_task(
        data,
        model=SegmenterConfig(stack=setting.stack, augment=AugmentConfig(noise=0.5)),
        optim=OptimConfig(lr=setting.lr),
        loss=LossConfig(),
        data_config={},
    )
    start = time.perf_counter()
    device = device_of(trainer.accelerator)
    train_quickly(task, data.train, trainer, seed=seed, device=device)
    record = {
        "seconds": time.perf_counter() - start,
        "parameters": sum(p.numel() for p in task.net.parameters()),
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "validation": evaluate_set(task, data, part="validation").scores,
        "test": evaluate_set(task, data, part="test").scores,
    }
    write_json(file, record)


def row_of(gap: int, model: str, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Choose a model's setting by the validation videos, and say how it did on the test videos."""
    seen = {
        name: [statistics.mean(run["validation"][key] for run in found) for key in CHOSEN_BY]
        for name, found in runs.items()
    }
    setting = max(seen, key=lambda name: seen[name])
    found = runs[setting]
    memory = [run["test"]["memory_accuracy"] for run in found]
    return {
        "gap": gap,
        "model": model,
        "setting": setting,
        "memory_accuracy": statistics.mean(memory),
        "spread": statistics.stdev(memory) if len(memory) > 1 else 0.0,
        "by_seed": memory,
        "accuracy": statistics.mean(run["test"]["accuracy"] for run in found),
        "seconds": statistics.mean(run["seconds"] for run in found),
        "parameters": found[0]["parameters"],
        "device": found[0]["device"],
        "validation": {
            name: dict(zip(CHOSEN_BY, means, strict=True)) for name, means in seen.items()
        },
    }


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Mean memory accuracy against the gap, a line a model, its deviation over seeds as bars."""
    mpl.use("Agg")
    from matplotlib import pyplot

    gaps = sorted({row["gap"] for row in rows})
    lowest = min(row["memory_accuracy"] - row["spread"] for row in rows)
    figure, axes = pyplot.subplots(figsize=(6.4, 3.8), layout="constrained")
    axes.axhline(50, color="0.45", linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate("chance", (gaps[0] / 1.25, 50.8), color="0.35", fontsize=9)
    for place, (name, (marker, colour)) in enumerate(LOOKS.items()):
        found = [row for row in rows if row["model"] == name]
        axes.errorbar(
            [row["gap"] * 1.05 ** (place - 1.5) for row in found],  # side by side where equal
            [row["memory_accuracy"] for row in found],
            yerr=[row["spread"] for row in found],
            marker=marker,
            color=colour,
            linewidth=1.8,
            capsize=3,
            label=name,
        )
    axes.set(xscale="log", xlim=(gaps[0] / 1.3, gaps[-1] * 1.3), ylim=(min(40, lowest - 3), 103))
    axes.set_xticks(gaps, [f"{gap:,}" for gap in gaps], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("frames between the last sight of the thing and leaving")
    axes.set_ylabel("leaving named right, % of frames")
    axes.grid(axis="y", color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=len(LOOKS))
    figure.savefig(path, dpi=160)
    pyplot.close(figure)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="How long temporal models remember.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--features", type=Path, help="folder for features; default: in OUT")
    parser.add_argument("--gaps", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--models", nargs="+", default=[*MODELS], choices=[*MODELS])
    parser.add_argument("--videos", type=int, default=96, help="a gap")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=1, help="clips and runs side by side")
    parser.add_argument("--weights", default="embedded", help="of the backbone, as in configs")
    return parser.parse_args()


Runs = dict[str, dict[str, list[Path]]]
"""The files of a gap's runs, one a seed, by model and setting."""


def files_of(gap: int, options: argparse.Namespace) -> Runs:
    """Return where each run of a gap leaves its scores."""
    folder = options.out / f"gap{gap}-epochs{options.epochs}"
    return {
        model: {
            name: [
                folder / re.sub(r"[^\w.-]+", "_", f"{model}-{name}-seed{seed}.json")
                for seed in options.seeds
            ]
            for name in MODELS[model]
        }
        for model in options.models
    }


def do(gap: int, runs: Runs, options: argparse.Namespace, workers: Workers) -> None:
    """Embed the clips and train the models of one gap that are not done yet."""
    config = errands_of(gap, options.videos)
    folder = (options.features or options.out / "features") / f"gap{gap}"
    trainer = TrainerConfig(epochs=options.epochs, batch_size=options.batch_size)
    jobs = [
        Job(name=files[number].stem, function=score,
            arguments=(config, folder, MODELS[model][name], seed, trainer, files[number]))
        for number, seed in enumerate(options.seeds)  # first all models once
        for model, settings in runs.items()
        for name, files in settings.items()
        if not files[number].exists()
    ]  # fmt: skip
    if not jobs:
        return
    backbone = BackboneConfig(image_size=128, weights=options.weights)
    clips = [folder / f"{clip}.npy" for clip in range(options.videos)]
    embed = [
        Job(name=file.name, function=embed_clip, arguments=(config, clip, backbone, file))
        for clip, file in enumerate(clips)
        if not file.exists()
    ]
    workers.do(embed, f"embed {gap}")
    workers.do(jobs, f"train {gap}")


def main() -> None:
    """Do what is not done yet, print a line a model and gap, write the figures and the picture."""
    options = parse()
    rows = []
    with Workers(options.jobs) as workers:
        for gap in options.gaps:
            runs = files_of(gap, options)
            do(gap, runs, options, workers)
            for model, settings in runs.items():
                read = {
                    name: [json.loads(file.read_text()) for file in files]
                    for name, files in settings.items()
                }
                rows.append(row_of(gap, model, read))
                print(LINE.format(**rows[-1]), flush=True)
    told = {**vars(options), "out": str(options.out), "features": str(options.features)}
    write_json(options.out / "memory_gaps.json", {"options": told, "rows": rows})
    draw(rows, options.out / "memory_gaps.png")


if __name__ == "__main__":
    main()
