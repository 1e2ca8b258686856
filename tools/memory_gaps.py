"""How long four temporal models remember: accuracy on errands' memory classes against the gap.

python tools/memory_gaps.py --out memory --gaps 100 1000 10000 --seeds 0 1 2 --jobs 6

For each gap: errands are rendered and each picture is embedded (kept in OUT, so that a second call
goes on; no video file lies between, so that a machine without decoders can do it), then causal
models are trained on them with the same augmentation, course and steps, and tested once. Each model
is told the longest gap, and is given what its kind needs to see so far (`stack_of`, `open_gates`).
Training clips have gaps from 20 frames up to the longest, each as many times the one before, and
short ones come first (`course_of`); of a gap some 200 frames are labelled, so that leaving weighs
as much in every loss. Features are standardised and mixed down to 256 channels. Writes
memory_gaps.json and the figure memory_gaps.png (matplotlib). Fifty is chance. Whoever changes how
models are trained can look at other clips first: --clips_seed 1.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Float16, Float32, Int

from vidmamba.benchmark.quick import train_quickly
from vidmamba.benchmark.runs import device_of
from vidmamba.benchmark.workers import Job, Workers
from vidmamba.datasets.errands import ErrandsConfig
from vidmamba.datasets.errands.grammar import write_script
from vidmamba.datasets.errands.plan import PARTS, Part, plan_clips
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

SHORTEST_GAP = 20
FIRST = 0.25
"""Share of the training clips, those of the shortest gaps, that training begins with."""
GROWING = 0.5
"""Share of the steps in which the others join them, one by one."""
LABELLED_FRAMES = 200
"""Of a gap, in training."""
MIXED = 256
"""Channels that models see."""
PICTURES = 256
"""Rendered before they are embedded."""
LINE = (
    "gap {gap:6}  {model:18} memory {memory_accuracy:5.1f} ± {spread:4.1f}"
    "  trained on {trained_on:5.1f}  all {accuracy:5.1f}"
    "  {seconds:5.0f} s  {parameters:7,} parameters  {device}"
)


def errands_of(gap: int, videos: int, clips_seed: int = 0) -> ErrandsConfig:
    """Return the dials of clips in which the thing was last seen `gap` frames before leaving."""
    return ErrandsConfig(
        videos=videos, gap=(gap, gap + gap // 10), seed=gap + clips_seed, validation=0.0, test=0.16
    )


def reach_of(config: ErrandsConfig) -> int:
    """Return how far the last frame of leaving is from the first one of dealing with the thing."""
    return config.gap[1] + 64


def scripts_of(config: ErrandsConfig) -> list[tuple[Part, Script]]:
    """Return the part and the script of each clip; in training, gaps grow from clip to clip."""
    plans = plan_clips(config)
    trained = [clip for clip, plan in enumerate(plans) if plan.part == "train"]
    shortest, longest = min(SHORTEST_GAP, config.gap[0]), config.gap[1]
    scripts = []
    for clip, plan in enumerate(plans):
        gap = plan.gap
        if plan.part == "train":
            share = trained.index(clip) / max(len(trained) - 1, 1)
            gap = (round(shortest * (longest / shortest) ** share),) * 2
        scripts.append((plan.part, write_script(config, clip, plan.outcomes, gap)))
    return scripts


@lru_cache(maxsize=1)
def placed(backbone: BackboneConfig) -> FrozenBackbone:
    """Return the backbone, once a process."""
    return place_backbone(backbone)


def embed_clip(config: ErrandsConfig, clip: int, backbone: BackboneConfig, file: Path) -> None:
    """Render one clip and leave its features, float16 [T, D], in a file."""
    _, script = scripts_of(config)[clip]
    pictures, found = render(config, clip, script), []
    while some := [*islice(pictures, PICTURES)]:
        frames = Frames(np.stack(some), np.arange(len(some)) / config.fps)
        found.append(embed_frames(placed(backbone), frames).features)
    with written_whole(file) as out:
        np.save(out, np.concatenate(found))


@lru_cache(maxsize=1)
def load_set(config: ErrandsConfig, folder: Path) -> LabelledSet:
    """Join the labels of the scripts with the features in a folder, once a process."""
    parts: dict[Part, list[VideoItem]] = {part: [] for part in PARTS}
    scripts = scripts_of(config)
    clips = [np.load(folder / f"{clip}.npy") for clip in range(config.videos)]
    mixed = mix(clips, [clip for clip, (part, _) in enumerate(scripts) if part == "train"])
    for clip, (part, script) in enumerate(scripts):
        labels = frame_labels(script)
        parts[part].append(
            VideoItem(
                name=f"errand_{clip:04d}",
                features=mixed[clip],
                labels=thinned(labels, script) if part == "train" else labels,
                timestamps=np.arange(script.num_frames) / config.fps,
            )
        )
    return LabelledSet(
        class_names=CLASS_NAMES,
        background=(CLASS_NAMES.index("background"),),
        train=tuple(parts["train"]),
        validation=(),
        test=tuple(parts["test"]),
        feature_key={"errands": folder.name, "width": MIXED},
        memory_classes=tuple(CLASS_NAMES.index(name) for name in MEMORY_CLASSES),
    )


def mix(
    clips: Sequence[Float16[np.ndarray, "_ D"]], trained: Sequence[int]
) -> list[Float32[np.ndarray, "_ M"]]:
    """Return random mixtures of all features, each of which weighs as much in the trained clips.

    They keep distances (Johnson and Lindenstrauss), and five times as many clips fit beside each
    other on a GPU.
    """
    some = [clips[clip][:: max(len(clips[clip]) // 50, 1)] for clip in trained]
    weight = 1 / (np.concatenate(some).astype(np.float32).std(axis=0) + 1e-3)
    random = np.random.default_rng(0).standard_normal((len(weight), MIXED)) / len(weight) ** 0.5
    matrix = torch.from_numpy((weight[:, None] * random).astype(np.float32)).to(device_of("auto"))
    return [(torch.from_numpy(clip).to(matrix) @ matrix).cpu().numpy() for clip in clips]


def thinned(labels: Int[np.ndarray, " T"], script: Script) -> Int[np.ndarray, " T"]:
    """Return labels with all but some `LABELLED_FRAMES` of each gap unlabelled."""
    kept = labels.copy()
    for errand in script.errands:
        gap = slice(errand.handled, errand.leaves)
        step = max((errand.leaves - errand.handled) // LABELLED_FRAMES, 1)
        kept[gap] = UNLABELLED
        kept[gap][::step] = labels[gap][::step]
    return kept


def course_of(clips: int, *, steps: int, batch_size: int, seed: int) -> list[list[int]]:
    """Return which clips each step trains on, by number; their gaps grow with their numbers.

    A step's clips are neighbours, of like lengths. At first they are among those of the shortest
    gaps; one by one the others join, and from the middle on there are all.
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
    folder: Path,
    model: str,
    seed: int,
    steps: int,
    trainer: TrainerConfig,
    file: Path,
) -> None:
    """Train one model, test it, and leave its scores in a file."""
    data = load_set(config, folder)
    seed_everything(seed)
    stack = stack_of(model, reach_of(config))
    task = make_task(
        data,
        model=SegmenterConfig(stack=stack, augment=AugmentConfig(noise=0.5)),
        optim=OptimConfig(),
        loss=LossConfig(),
        data_config={},
    )
    open_gates(task.net, reach_of(config))
    start = time.perf_counter()
    device = device_of(trainer.accelerator)
    course = course_of(len(data.train), steps=steps, batch_size=trainer.batch_size, seed=seed)
    train_quickly(task, data.train, trainer, seed=seed, device=device, batches=course)
    record = {
        "seconds": time.perf_counter() - start,
        "parameters": sum(p.numel() for p in task.net.parameters()),
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "scores": evaluate_set(task, data, part="test").scores,
        "trained_on": evaluate_set(task, data, part="train").scores,
    }
    write_json(file, record)


def row_of(gap: int, model: str, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the means over seeds, and the deviation of what is asked for."""
    memory = [run["scores"]["memory_accuracy"] for run in runs]
    return {
        "gap": gap,
        "model": model,
        "memory_accuracy": statistics.mean(memory),
        "spread": statistics.stdev(memory) if len(memory) > 1 else 0.0,
        "by_seed": memory,
        "accuracy": statistics.mean(run["scores"]["accuracy"] for run in runs),
        "trained_on": statistics.mean(run["trained_on"]["memory_accuracy"] for run in runs),
        "seconds": statistics.mean(run["seconds"] for run in runs),
        "parameters": runs[0]["parameters"],
        "device": runs[0]["device"],
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
    parser.add_argument("--models", nargs="+", default=[*LOOKS], choices=[*LOOKS])
    parser.add_argument("--videos", type=int, default=150, help="a gap")
    parser.add_argument("--clips_seed", type=int, default=0, help="other clips than the figure's")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=1, help="clips and runs side by side")
    parser.add_argument("--weights", default="embedded", help="of the backbone, as in configs")
    return parser.parse_args()


def files_of(gap: int, options: argparse.Namespace) -> dict[tuple[str, int], Path]:
    """Return where each run leaves its scores, by model and seed: first all models once."""
    folder = options.out / f"gap{gap}-clips{options.clips_seed}-steps{options.steps}"
    return {
        (model, seed): folder / f"{model.replace(' ', '_')}-seed{seed}.json"
        for seed in options.seeds
        for model in options.models
    }


def do(gap: int, options: argparse.Namespace, workers: Workers) -> None:
    """Embed the clips and train the models of one gap that are not done yet."""
    config = errands_of(gap, options.videos, options.clips_seed)
    folder = (options.features or options.out / "features") / f"gap{gap}-clips{options.clips_seed}"
    trainer = TrainerConfig(batch_size=options.batch_size)
    jobs = [
        Job(
            name=file.stem,
            function=score,
            arguments=(config, folder, *run, options.steps, trainer, file),
        )
        for run, file in files_of(gap, options).items()
        if not file.exists()
    ]
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
            do(gap, options, workers)
            files = files_of(gap, options)
            for model in options.models:
                runs = [json.loads(files[model, seed].read_text()) for seed in options.seeds]
                rows.append(row_of(gap, model, runs))
                print(LINE.format(**rows[-1]), flush=True)
    told = {**vars(options), "out": str(options.out), "features": str(options.features)}
    write_json(options.out / "memory_gaps.json", {"options": told, "rows": rows})
    draw(rows, options.out / "memory_gaps.png")


if __name__ == "__main__":
    main()
