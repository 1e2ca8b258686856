"""How long four temporal models remember: accuracy on errands' memory classes against the gap.

python tools/memory_gaps.py --out memory --gaps 100 1000 10000 --seeds 0 1 2

For each gap: errands are rendered and embedded (kept in OUT, so that a second call goes on), then
each model is trained on them with the same augmentation, schedule and choice by validation, and
tested once. Training clips have gaps from 20 frames up to the longest, so that short memories are
learned first. Writes memory_gaps.json and the figure memory_gaps.png (matplotlib). Fifty is chance.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch

from vidmamba.data import DataConfig, load_data
from vidmamba.datasets.errands import ErrandsConfig, generate_errands
from vidmamba.datasets.records import LabelledSet
from vidmamba.evaluation import evaluate_set
from vidmamba.models.augment import AugmentConfig
from vidmamba.models.backbone import BackboneConfig
from vidmamba.models.segmenter import SegmenterConfig
from vidmamba.nn.attention import AttentionConfig
from vidmamba.nn.stack import StackConfig
from vidmamba.tasks.checkpoints import load_task
from vidmamba.tasks.optim import OptimConfig
from vidmamba.tasks.segmentation import LossConfig, make_task
from vidmamba.training import TrainerConfig, fit, seed_everything

MODELS = {
    "Mamba": StackConfig(width=64, depth=2, pattern="M"),
    "dilated TCN": StackConfig(width=64, depth=10, pattern="C"),
    "windowed attention": StackConfig(
        width=64, depth=8, pattern="AF", attention=AttentionConfig(window=32, growth=2)
    ),
    "BiLSTM": StackConfig(width=64, depth=2, pattern="L"),
}
LEAST_GAP = 20


def errands_of(gap: int, videos: int, out: Path) -> LabelledSet:
    """Render, embed and read clips in which the thing was last seen `gap` frames before."""
    root = out / f"errands_{gap}"
    config = ErrandsConfig(
        videos=videos,
        gap=(gap, gap + gap // 5),
        train_gap=(min(LEAST_GAP, gap), gap + gap // 10),
        seed=gap,
    )
    generate_errands(root, config)
    backbone = BackboneConfig(image_size=128)
    return load_data(DataConfig(root=str(root), format="errands", backbone=backbone))


def score(data: LabelledSet, stack: StackConfig, seed: int, options: Any) -> dict[str, float]:
    """Train one model and test what validation chose."""
    seed_everything(seed)
    task = make_task(
        data,
        model=SegmenterConfig(stack=stack, augment=AugmentConfig(noise=0.5)),
        optim=OptimConfig(),
        loss=LossConfig(),
        data_config={},
    )
    folder = options.out / "runs" / f"{time.time_ns()}"
    start = time.perf_counter()
    config = TrainerConfig(epochs=options.epochs, batch_size=options.batch_size, wandb="off")
    run = fit(task, data, config, seed=seed, output=folder)
    seconds = time.perf_counter() - start
    scores = evaluate_set(load_task(run.best), data, part="test").scores
    parameters = sum(p.numel() for p in task.net.parameters())
    return {**scores, "seconds": seconds, "parameters": parameters}


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Mean memory accuracy against the gap, a line a model, its deviation over seeds as bars."""
    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.0), layout="constrained")
    for name, marker in zip(MODELS, "os^D", strict=True):
        found = [row for row in rows if row["model"] == name]
        axes.errorbar(
            [row["gap"] for row in found],
            [row["memory_accuracy"] for row in found],
            yerr=[row["spread"] for row in found],
            marker=marker,
            capsize=3,
            label=name,
        )
    axes.axhline(50, color="grey", linewidth=1, linestyle=":")
    axes.set(xscale="log", ylim=(0, 103), xlabel="gap, frames")
    gaps = sorted({row["gap"] for row in rows})
    axes.set_xticks(gaps, [f"{gap:,}" for gap in gaps], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_ylabel("right frames of the memory classes, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower left")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run all, print a line a model and gap, write the figures and the picture."""
    parser = argparse.ArgumentParser(description="How long temporal models remember.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--gaps", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--videos", type=int, default=80)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch_size", type=int, default=4)
    options = parser.parse_args()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    rows = []
    for gap in options.gaps:
        data = errands_of(gap, options.videos, options.out)
        for name, stack in MODELS.items():
            runs = [score(data, stack, seed, options) for seed in options.seeds]
            memory = [run["memory_accuracy"] for run in runs]
            rows.append(
                {"gap": gap, "model": name, "memory_accuracy": statistics.mean(memory),
                 "spread": statistics.stdev(memory) if len(memory) > 1 else 0.0,
                 "accuracy": statistics.mean(run["accuracy"] for run in runs),
                 "seconds": statistics.mean(run["seconds"] for run in runs),
                 "parameters": runs[0]["parameters"], "seeds": len(memory)}
            )  # fmt: skip
            print(
                "gap {gap:6}  {model:20} memory {memory_accuracy:5.1f} ± {spread:4.1f}"
                "  all {accuracy:5.1f}  {seconds:6.0f} s  {parameters} parameters".format(
                    **rows[-1]
                ),
                flush=True,
            )
    content = {"device": device, "options": {**vars(options), "out": str(options.out)}}
    text = json.dumps({**content, "rows": rows}, indent=1)
    (options.out / "memory_gaps.json").write_text(text + "\n")
    draw(rows, options.out / "memory_gaps.png")


if __name__ == "__main__":
    main()
