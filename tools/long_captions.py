"""Who did what in errands of thousands of frames: captioners with and without a carried state.

python tools/long_captions.py --out long_captions --seeds 0 1 2 --jobs 4

Errands are rendered at 10 frames a second and every second picture is embedded, as in the demo
(kept in OUT, so that a second call goes on; no video file lies between). Validation and test clips
have 3,000 frames or more between the last sight of the thing and the leaving that depends on it;
those of training 20 to 400, each gap as many times the one before. Each captioner is trained alike
and scored once; what was chosen was chosen on validation clips (`--part validation`). Writes
long_captions.json.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidmamba.benchmark.workers import Job, Workers
from vidmamba.caption_evaluation import evaluate_captions
from vidmamba.config import differences
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
from vidmamba.datasets.errands.sentences import write_sentences
from vidmamba.datasets.records import LabelledSet, VideoItem
from vidmamba.demo.captions import BATCHES, CAPTIONER, LOSS, OPTIM, WORDS
from vidmamba.features.embed import embed_frames, place_backbone
from vidmamba.features.files import write_json, written_whole
from vidmamba.models.backbone import BackboneConfig, FrozenBackbone
from vidmamba.models.captioner import CaptionerConfig
from vidmamba.nn.stack import StackConfig
from vidmamba.tasks.caption_setup import make_captioning_task
from vidmamba.tasks.checkpoints import load_captioning_task
from vidmamba.training import TrainerConfig, fit, seed_everything
from vidmamba.video.reader import Frames

ALONE = replace(CAPTIONER, event_slots=0)
WIDTH = CAPTIONER.stack.width
# five convolutions, each of twice the reach of the one before
NEAR = replace(ALONE, stack=StackConfig(width=WIDTH, depth=5, pattern="C"))
MODELS: dict[str, CaptionerConfig] = {
    # twenty events while training, 140 afterwards: as many equal ones as would make up for it
    "31 frames around, slots": replace(NEAR, event_slots=4, event_stretch=16.0),
    "31 frames around": NEAR,
    "Mamba over frames": ALONE,
    "frames alone": replace(ALONE, stack=StackConfig(width=WIDTH, depth=0)),
}
"""Captioners, by what they know beside the frames that a sentence is about."""

TRAIN_GAP = (20, 400)
"""Of training clips; those that the captioners are asked of have one many times as long."""
STEP = 2
"""Frames of a clip to one that is looked at."""
PICTURES = 512
"""Rendered before they are embedded."""
SIZE = (172, 128)
"""Of the pictures: what the backbone's transform would make of larger ones, before it crops."""

SHOWN = (
    *("sentence", "subject", "verb", "object", "place"),
    *("memory_sentence", "memory_verb", "memory_object"),
)
LINE = "{model:34} seed {seed}  {figures}  {seconds:4.0f} s  {device}"


def errands_of(options: argparse.Namespace) -> ErrandsConfig:
    """Return the dials of all clips."""
    held_back = {part: getattr(options, part) / options.videos for part in ("validation", "test")}
    gap = (options.gap, options.gap + options.gap // 10)
    return ErrandsConfig(
        videos=options.videos,
        gap=gap,
        train_gap=TRAIN_GAP,
        size=SIZE,
        seed=options.clips,
        **held_back,
    )


@lru_cache(maxsize=1)
def scripts_of(config: ErrandsConfig) -> list[tuple[Part, Script]]:
    """Return the part and the script of each clip; in training, gaps grow from clip to clip."""
    plans = plan_clips(config)
    trained = [clip for clip, plan in enumerate(plans) if plan.part == "train"]
    shortest, longest = config.train_gap or config.gap
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
    pictures, found = islice(render(config, clip, scripts_of(config)[clip][1]), 0, None, STEP), []
    while some := [*islice(pictures, PICTURES)]:
        frames = Frames(np.stack(some), STEP * np.arange(len(some)) / config.fps)
        found.append(embed_frames(placed(backbone), frames).features)
    with written_whole(file) as out:
        np.save(out, np.concatenate(found))


@lru_cache(maxsize=1)
def load_set(config: ErrandsConfig, folder: Path) -> LabelledSet:
    """Join labels and sentences of the scripts with the features in a folder, once a process."""
    parts: dict[Part, list[VideoItem]] = {part: [] for part in PARTS}
    for clip, (part, script) in enumerate(scripts_of(config)):
        parts[part].append(
            VideoItem(
                name=f"errand_{clip:04d}",
                features=np.load(folder / f"{clip}.npy", mmap_mode="r"),
                labels=frame_labels(script)[::STEP],
                timestamps=np.arange(0, script.num_frames, STEP) / config.fps,
                captions=write_sentences(script, config.fps),
            )
        )
    width = parts["train"][0].features.shape[1]
    return LabelledSet(
        class_names=CLASS_NAMES,
        background=(CLASS_NAMES.index("background"),),
        train=tuple(parts["train"]),
        validation=tuple(parts["validation"]),
        test=tuple(parts["test"]),
        feature_key={"errands": folder.name, "width": width},
        memory_classes=tuple(CLASS_NAMES.index(name) for name in MEMORY_CLASSES),
    )


def score(
    config: ErrandsConfig,
    folder: Path,
    model: str,
    seed: int,
    part: Part,
    trainer: TrainerConfig,
    file: Path,
) -> None:
    """Train one captioner, let it describe a part, and leave its scores in a file."""
    data = load_set(config, folder)
    seed_everything(seed)
    shape = MODELS[model]
    carries = shape.event_slots > 0 or "M" in shape.stack.pattern * shape.stack.depth
    task = make_captioning_task(
        data,
        model=shape,
        optim=OPTIM,
        loss=LOSS,
        # nothing that is carried can be taught by what was before
        batches=BATCHES if carries else replace(BATCHES, again=0),
        words=WORDS,
        data_config={},
    )
    start = time.perf_counter()
    run = fit(task, data, trainer, seed=seed, output=file.with_suffix(""), collate=task.collate)
    seconds = time.perf_counter() - start
    trained = load_captioning_task(run.best, device=trainer.accelerator)
    found = evaluate_captions(trained, data, part=part)
    record = {
        "model": model,
        "seed": seed,
        "seconds": seconds,
        "parameters": sum(p.numel() for p in task.net.parameters()),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "scores": {name: found.scores[name] for name in ("soda_c", "cider_d", "bleu4")},
        "who_did_what": found.who_did_what,
    }
    write_json(file, record)
    figures = "  ".join(f"{name} {found.who_did_what[name]:.1f}" for name in SHOWN)
    print(LINE.format(**{**record, "figures": figures}), flush=True)


def row_of(model: str, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the means over seeds, and the deviations, of all figures."""
    row: dict[str, Any] = {"model": model, "seeds": [run["seed"] for run in runs]}
    for group, names in (("who_did_what", SHOWN), ("scores", (*runs[0]["scores"],))):
        for name in names:
            values = [run[group][name] for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            row[name] = (statistics.mean(values), spread)
    row["seconds"] = statistics.mean(run["seconds"] for run in runs)
    return row | {name: runs[0][name] for name in ("parameters", "device")}


def table_of(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows in Markdown, mean ± deviation."""
    names = [name for name, value in rows[0].items() if isinstance(value, tuple)]
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for row in rows:
        cells = [f"{mean:.1f} ± {spread:.1f}" for mean, spread in (row[name] for name in names)]
        lines.append(f"| {row['model']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Captioners' long memory.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--features", type=Path, help="folder for features; default: in OUT")
    parser.add_argument("--gap", type=int, default=3000, help="of validation and test clips")
    parser.add_argument("--videos", type=int, default=500, help="in all")
    parser.add_argument("--clips", type=int, default=1, help="seeds the videos")
    parser.add_argument("--validation", type=int, default=24, help="videos to choose by")
    parser.add_argument("--test", type=int, default=48, help="videos to test on")
    parser.add_argument("--part", choices=["validation", "test"], default="test")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--models", nargs="+", default=[*MODELS], choices=[*MODELS])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=1, help="clips and runs side by side")
    parser.add_argument("--weights", default="embedded", help="of the backbone, as in configs")
    return parser.parse_args()


DIALS = ("gap", "videos", "clips", "validation", "test", "weights")
"""Options that features hang on; runs hang on those of their training too."""


def claim(folder: Path, options: argparse.Namespace, names: Sequence[str]) -> None:
    """Refuse a folder of other options, whose files would be taken for what is asked for."""
    file = folder / "options.json"
    asked = {name: getattr(options, name) for name in names}
    if not file.exists():
        write_json(file, asked)
    elif lines := differences(json.loads(file.read_text()), asked):
        raise SystemExit(f"{folder} is of other options; take another folder:\n" + "\n".join(lines))


def main() -> None:
    """Do what is not done yet, print a line a run and the table, write the figures."""
    options = parse()
    config = errands_of(options)
    folder = options.features or options.out / "features"
    claim(folder, options, DIALS)
    claim(options.out, options, (*DIALS, "epochs", "batch_size"))
    backbone = BackboneConfig(image_size=112, pooling="stages", weights=options.weights)
    trainer = TrainerConfig(
        epochs=options.epochs,
        batch_size=options.batch_size,
        validate_every=options.epochs,
        wandb="off",
    )
    files = {
        (model, seed): options.out / f"{model.replace(' ', '_')}-seed{seed}-{options.part}.json"
        for seed in options.seeds
        for model in options.models
    }
    clips = [folder / f"{clip}.npy" for clip in range(config.videos)]
    with Workers(options.jobs) as workers:
        embed = [
            Job(name=file.name, function=embed_clip, arguments=(config, clip, backbone, file))
            for clip, file in enumerate(clips)
            if not file.exists()
        ]
        # the longest first: none is waited for at the end
        embed.sort(key=lambda job: -scripts_of(config)[job.arguments[1]][1].num_frames)
        workers.do(embed, "embed")
        jobs = [
            Job(
                name=file.stem,
                function=score,
                arguments=(config, folder, *run, options.part, trainer, file),
            )
            for run, file in files.items()
            if not file.exists()
        ]
        workers.do(jobs, "train")
    rows = [
        row_of(model, [json.loads(files[model, seed].read_text()) for seed in options.seeds])
        for model in options.models
    ]
    print(table_of(rows))
    told = {name: str(value) for name, value in vars(options).items()}
    write_json(options.out / "long_captions.json", {"options": told, "rows": rows})


if __name__ == "__main__":
    main()
