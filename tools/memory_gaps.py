"""How long four temporal models remember: accuracy on errands' memory classes against the gap.

python tools/memory_gaps.py --out memory --gaps 100 1000 10000 --seeds 0 1 2 --jobs 6

Errands are rendered and each picture is embedded (kept in OUT, so that a second call goes on; no
video file lies between, so that a machine without decoders can do it). Causal models are trained on
clips with gaps from 20 frames up to the longest, each as many times the one before, and each is
tested once on other clips of every gap. Augmentation, steps and their course, in which short gaps
come first (`course_of`), are the same for all; each model is told the longest gap, and is given
what its kind needs to see so far (`stack_of`, `open_gates`). Of a gap in training some 200 frames
are labelled, so that leaving weighs as much in every loss. Features are standardised and mixed down
to 256 channels. Writes memory_gaps.json and the figure memory_gaps.png (matplotlib). Fifty is
chance. Whoever changes how models are trained can look at other clips first: --clips_seed 1.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch

from vidmamba.benchmark.memory_clips import (
    PIXELS,
    clips_at,
    embed_clip,
    errands_of,
    file_of,
    load_tests,
    load_training,
    reach_of,
    training_clips,
)
from vidmamba.benchmark.quick import train_quickly
from vidmamba.benchmark.workers import Job, Workers
from vidmamba.datasets.errands import ErrandsConfig
from vidmamba.device import device_of
from vidmamba.evaluation import evaluate_set
from vidmamba.features.files import write_json
from vidmamba.models.augment import AugmentConfig
from vidmamba.models.backbone import BackboneConfig
from vidmamba.models.segmenter import SegmenterConfig
from vidmamba.nn.attention import AttentionConfig
from vidmamba.nn.mixer import MambaConfig
from vidmamba.nn.stack import StackConfig
from vidmamba.tasks.optim import OptimConfig
from vidmamba.tasks.segmentation import LossConfig, make_task
from vidmamba.training import TrainerConfig, seed_everything

WIDTH = 64
LAYERS = 6
"""Of attention, its window doubled from one to the next."""


def stack_of(model: str, reach: int) -> StackConfig:
    """Return a causal stack in which a frame can learn of what was `reach` frames before."""
    options: dict[str, Any]
    if model == "Mamba":  # a step size is the inverse of a memory in frames
        options = {"pattern": "M", "depth": 2, "mixer": MambaConfig(dt_min=min(1e-3, 1 / reach))}
    elif model == "LSTM":
        options = {"pattern": "L", "depth": 2}
    elif model == "dilated TCN":  # n layers see 2 (1 + 2 + ... + 2**(n - 1)) frames back
        options = {"pattern": "C", "depth": (reach // 2).bit_length()}
    else:
        window = max(-(-reach // (2**LAYERS - 1)), 16)
        attention = AttentionConfig(window=window, growth=2)
        options = {"pattern": "AF", "depth": 2 * LAYERS, "attention": attention}
    return StackConfig(width=WIDTH, direction="causal", **options)


def open_gates(net: torch.nn.Module, reach: int) -> None:
    """Set the gates of LSTMs to remember for 1 to `reach` frames at first.

    Tallec and Ollivier, "Can recurrent neural networks warp time?" (ICLR 2018), section 2: what
    `dt_min` does for Mamba. LSTMs forget half in every frame otherwise.
    """
    for module in net.modules():
        if isinstance(module, torch.nn.LSTM):
            hidden = module.hidden_size
            memory = torch.empty(hidden).uniform_(1, reach - 1).log()
            own = dict(module.named_parameters())
            with torch.no_grad():  # the gates' order: input, forget, cell, output
                own["bias_hh_l0"][: 2 * hidden] = 0
                own["bias_ih_l0"][:hidden] = -memory
                own["bias_ih_l0"][hidden : 2 * hidden] = memory


LOOKS = {
    "Mamba": ("o", "#0b5cad"),
    "LSTM": ("D", "#c2410c"),
    "dilated TCN": ("s", "#4d7c0f"),
    "windowed attention": ("^", "#7e5aa8"),
}
"""The models, each with its line's marker and colour."""

FIRST = 0.25
"""Share of the training clips, those of the shortest gaps, that training begins with."""
GROWING = 0.8
"""Share of the steps in which the others join them, one by one."""
LINE = (
    "gap {gap:6}  {model:18} memory {memory_accuracy:5.1f} ± {spread:4.1f} ({seeds} seeds)"
    "  trained on {trained_on:5.1f}  all {accuracy:5.1f}"
    "  {seconds:5.0f} s  {parameters:7,} parameters  {device}"
)


def course_of(clips: int, *, steps: int, batch_size: int, seed: int) -> list[list[int]]:
    """Return which clips each step trains on, by number; their gaps grow with their numbers.

    A step's clips are neighbours, of like lengths. At first they are among those of the shortest
    gaps; one by one the others join, and after `GROWING` of the steps there are all.
    """
    random = np.random.default_rng(seed)
    first = max(round(FIRST * clips), min(batch_size, clips))
    course = []
    for step in range(steps):
        known = first + round((clips - first) * min(step / (GROWING * steps), 1))
        near = min(2 * batch_size, known)
        start = min(max(int(random.integers(known)) - near // 2, 0), known - near)
        drawn = random.choice(near, min(batch_size, near), replace=False)
        course.append([start + int(number) for number in drawn])
    return course


def score(
    config: ErrandsConfig,
    gaps: tuple[int, ...],
    tests: int,
    folder: Path,
    model: str,
    seed: int,
    steps: int,
    trainer: TrainerConfig,
    file: Path,
) -> None:
    """Train one model, test it on each gap, and leave its scores in a file."""
    data, _ = load_training(config, folder)
    seed_everything(seed)
    task = make_task(
        data,
        model=SegmenterConfig(
            stack=stack_of(model, reach_of(config)), augment=AugmentConfig(noise=0.5)
        ),
        optim=OptimConfig(),
        loss=LossConfig(),
        data_config={},
    )
    open_gates(task.net, reach_of(config))
    start = time.perf_counter()
    device = device_of(trainer.accelerator)
    course = course_of(len(data.train), steps=steps, batch_size=trainer.batch_size, seed=seed)
    train_quickly(task, data.train, trainer, seed=seed, device=device, batches=course)
    seconds = time.perf_counter() - start
    sets = {gap: load_tests(config, clips_at(config, gap, tests), folder) for gap in gaps}
    record = {
        "seconds": seconds,
        "parameters": sum(p.numel() for p in task.net.parameters()),
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "scores": {gap: evaluate_set(task, own, part="test").scores for gap, own in sets.items()},
        "trained_on": evaluate_set(task, data, part="train").scores,
    }
    write_json(file, record)


def row_of(gap: int, model: str, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the means over seeds, and the deviation of what is asked for."""
    scores = [run["scores"][str(gap)] for run in runs]
    memory = [own["memory_accuracy"] for own in scores]
    return {
        "gap": gap,
        "model": model,
        "memory_accuracy": statistics.mean(memory),
        "spread": statistics.stdev(memory) if len(memory) > 1 else 0.0,
        "seeds": len(runs),
        "by_seed": memory,
        "accuracy": statistics.mean(own["accuracy"] for own in scores),
        "trained_on": statistics.mean(run["trained_on"]["memory_accuracy"] for run in runs),
        "seconds": statistics.mean(run["seconds"] for run in runs),
        "parameters": runs[0]["parameters"],
        "device": runs[0]["device"],
    }


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Memory accuracy against the gap: a line a model through the means, a mark a seed."""
    mpl.use("Agg")
    from matplotlib import pyplot

    gaps = sorted({row["gap"] for row in rows})
    lowest = min(memory for row in rows for memory in row["by_seed"])
    figure, axes = pyplot.subplots(figsize=(6.4, 3.8), layout="constrained")
    axes.axhline(50, color="0.45", linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate("chance", (gaps[0] / 1.25, 50.8), color="0.35", fontsize=9)
    for place, (name, (marker, colour)) in enumerate(LOOKS.items()):
        found = [row for row in rows if row["model"] == name]
        across = {row["gap"]: row["gap"] * 1.06 ** (place - 1.5) for row in found}  # side by side
        axes.plot(
            [*across.values()],
            [row["memory_accuracy"] for row in found],
            color=colour,
            linewidth=1.8,
        )
        axes.scatter(
            [across[row["gap"]] for row in found for _ in row["by_seed"]],
            [memory for row in found for memory in row["by_seed"]],
            marker=marker,
            color=colour,
            s=24,
            alpha=0.7,
            label=name if found else None,
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
    parser.add_argument("--models", nargs="+", default=[*LOOKS], choices=[*LOOKS])
    parser.add_argument("--videos", type=int, default=80, help="to train on")
    parser.add_argument("--tests", type=int, default=16, help="videos to test on, a gap")
    parser.add_argument("--clips_seed", type=int, default=0, help="other clips than the figure's")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=1, help="clips and runs side by side")
    parser.add_argument("--done", action="store_true", help="train nothing, show what is done")
    parser.add_argument("--weights", default="embedded", help="of the backbone, as in configs")
    return parser.parse_args()


def files_of(options: argparse.Namespace) -> dict[tuple[str, int], Path]:
    """Return where each run leaves its scores, by model and seed: first all models once."""
    gaps = "-".join(map(str, options.gaps))
    told = f"videos{options.videos}-tests{options.tests}-batch{options.batch_size}"
    told += f"-steps{options.steps}-{Path(options.weights).name}"
    folder = options.out / f"gaps{gaps}-clips{options.clips_seed}-{told}"
    return {
        (model, seed): folder / f"{model.replace(' ', '_')}-seed{seed}.json"
        for seed in options.seeds
        for model in options.models
    }


def do(options: argparse.Namespace) -> None:
    """Embed the clips and train the models that are not done yet."""
    config = errands_of(max(options.gaps), options.videos, options.clips_seed)
    folder = options.features or options.out / "features"
    folder = folder / f"clips{options.clips_seed}-{Path(options.weights).name}"
    common = (config, tuple(options.gaps), options.tests, folder)
    trainer = TrainerConfig(batch_size=options.batch_size)
    jobs = [
        Job(
            name=file.stem,
            function=score,
            arguments=(*common, *run, options.steps, trainer, file),
        )
        for run, file in files_of(options).items()
        if not file.exists()
    ]
    if not jobs:
        return
    backbone = BackboneConfig(image_size=PIXELS, weights=options.weights)
    clips = training_clips(config)[::-1]  # the longest first, so that none is waited for
    clips += [clip for gap in options.gaps for clip in clips_at(config, gap, options.tests)][::-1]
    embed = [
        Job(
            name=str(clip.number),
            function=embed_clip,
            arguments=(config, clip, backbone, folder),
        )
        for clip in clips
        if not file_of(clip, folder).exists()
    ]
    with Workers(options.jobs) as workers:
        workers.do(embed, "embed")
        workers.do(jobs, "train")


def main() -> None:
    """Do what is not done yet, print a line a model and gap, write the figures and the picture."""
    options = parse()
    if not options.done:
        do(options)
    rows = []
    files = files_of(options)
    for gap in options.gaps:
        for model in options.models:
            own = [files[model, seed] for seed in options.seeds if files[model, seed].exists()]
            if own:
                rows.append(row_of(gap, model, [json.loads(file.read_text()) for file in own]))
                print(LINE.format(**rows[-1]), flush=True)
    if not rows:
        raise SystemExit(f"no run is done yet in {options.out}: leave --done out to train them")
    told = {**vars(options), "out": str(options.out), "features": str(options.features)}
    write_json(options.out / "memory_gaps.json", {"options": told, "rows": rows})
    draw(rows, options.out / "memory_gaps.png")


if __name__ == "__main__":
    main()
