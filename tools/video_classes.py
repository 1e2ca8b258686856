r"""Name whole videos over all splits and seeds, each choice made without the split's test videos.

python tools/video_classes.py --config configs/gtea_classification.yaml --out runs/gtea_videos \
    --splits 1 2 3 4 --seeds 0 1 2 3 4 --jobs 8 \
    --variant "drifting: --model.augment.slow_noise 1" --variant "mean: --model.pool mean"

The config is one of `vidmamba train` for classification; it is trained as that command trains it,
on each split and with each seed, and so is each variant, which is the config with other options.
With variants, split k takes the one whose models of the other splits name their own test videos
best (top-1, then the mean log-probability of the true classes; with several labels a video mAP);
the figures of the chosen ones are the table's. One split has no others: there, the best on the
validation part is taken, so the config must hold one back. A second call trains what is missing,
and anew what another config or option changes. Writes video_classes.json.
"""

import argparse
import json
import re
import shlex
import shutil
import statistics
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidmamba.benchmark.keys import hash_of
from vidmamba.benchmark.runs import UNIMPORTANT
from vidmamba.benchmark.workers import Job, Workers
from vidmamba.commands.parsing import values_of
from vidmamba.commands.train import train_classification
from vidmamba.config import to_plain
from vidmamba.data import load_data
from vidmamba.datasets.records import LabelledSet
from vidmamba.evaluation import ClassEvaluation, Part, evaluate_classes
from vidmamba.features.files import write_json
from vidmamba.tasks.checkpoints import load_checkpoint
from vidmamba.tasks.classification import (
    ClassificationTask,
    make_classification_task,
)
from vidmamba.training import fit, seed_everything

PLAIN = "config"
"""The config as it stands, among the variants."""
LEAST = 1e-8
"""Probabilities below count as this in their logarithms."""

Runs = Mapping[tuple[str, int, int], dict[str, Any]]
"""What each run wrote, by variant, split and seed."""


def train(values: dict[str, Any], split: int, seed: int, file: Path) -> None:
    """Train one model, and leave in a file what it scores on test and validation videos."""
    seed_everything(seed)
    config = replace(values["data"], split=split)
    data = load_data(config)
    task = make_classification_task(
        data,
        model=values["model"],
        optim=values["optim"],
        label_smoothing=values["label_smoothing"],
        data_config=to_plain(config),
    )
    folder = file.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "train.log").open("w") as log, redirect_stderr(log):
        run = fit(task, data, replace(values["trainer"], wandb="off"), seed=seed, output=folder)
    best = load_checkpoint(run.best)
    assert isinstance(best, ClassificationTask)
    held_out: tuple[Part, ...] = ("validation", "test")
    parts = [part for part in held_out if getattr(data, part)]
    record: dict[str, Any] = {
        part: score(evaluate_classes(best, data, part=part), data) for part in parts
    }
    record |= {
        "parameters": sum(p.numel() for p in task.net.parameters()),
        "videos": {part: len(getattr(data, part)) for part in ("train", *parts)},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
    }
    shutil.rmtree(folder)
    write_json(file, record)


def score(found: ClassEvaluation, data: LabelledSet) -> dict[str, Any]:
    """Return a part's scores in percent, and what they rest on."""
    names = data.video_class_names
    videos = [*found.true]
    said = np.array([[found.probabilities[v][name] for name in names] for v in videos])
    true = np.array([[name in found.true[v] for name in names] for v in videos])
    return {
        "scores": found.scores,
        "log_likelihood": float(np.log(np.maximum(said, LEAST))[true].mean()),
        "probabilities": found.probabilities,
        "true": found.true,
    }


def figure_of(record: Mapping[str, Any]) -> tuple[float, float]:
    """Return what a run is chosen by: top-1 or mAP, and between equals the log-likelihood."""
    scores = record["scores"]
    return scores["top1"] if "top1" in scores else scores["map"], record["log_likelihood"]


def choose(
    runs: Runs, variants: Sequence[str], splits: Sequence[int], seeds: Sequence[int]
) -> dict[int, dict[str, Any]]:
    """Return for each split the chosen variant, and what each one reached where it was chosen."""
    chosen = {}
    for split in splits:
        others = [other for other in splits if other != split]
        looked_at = [(other, "test") for other in others] or [(split, "validation")]
        seen = {}
        for name in variants:
            figures = [
                figure_of(runs[name, other, seed][part])
                for other, part in looked_at
                for seed in seeds
            ]
            seen[name] = [statistics.mean(column) for column in zip(*figures, strict=True)]
        best = max(seen, key=lambda name: seen[name])
        chosen[split] = {"variant": best, "seen": seen}
    return chosen


def row_of(name: str, runs: Mapping[tuple[int, int], dict[str, Any]]) -> dict[str, Any]:
    """Return the means over splits of each score: their mean and deviation over seeds."""
    seeds = sorted({seed for _, seed in runs})
    splits = sorted({split for split, _ in runs})
    row: dict[str, Any] = {"name": name, "splits": {}}
    for metric in next(iter(runs.values()))["test"]["scores"]:
        table = [[runs[k, seed]["test"]["scores"][metric] for k in splits] for seed in seeds]
        means = [statistics.mean(line) for line in table]
        spread = statistics.stdev(means) if len(means) > 1 else None
        row[metric] = {"mean": statistics.mean(means), "spread": spread}
        row["splits"][metric] = np.mean(table, axis=0).tolist()
    return row


def tell(row: Mapping[str, Any]) -> str:
    """Return a row as text."""
    cells = []
    for metric in row["splits"]:
        spread = row[metric]["spread"]
        by_split = ", ".join(f"{value:.1f}" for value in row["splits"][metric])
        cells.append(
            f"{metric} {row[metric]['mean']:.1f}"
            + (f" ± {spread:.1f}" if spread is not None else "")
            + (f" ({by_split})" if len(row["splits"][metric]) > 1 else "")
        )
    return f"{row['name']:20} {'  '.join(cells)}"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Whole videos over all splits and seeds.")
    parser.add_argument("--config", type=Path, required=True, help="of a classification task")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--splits", type=int, nargs="+", default=[1])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--variant", action="append", default=[], metavar="'NAME: OPTIONS'",
        help="the config with other options, as `vidmamba train` takes them; may come again",
    )  # fmt: skip
    parser.add_argument(
        "--options", default="", metavar="'OPTIONS'",
        help="for the config and its variants: --options='--trainer.epochs 60'",
    )  # fmt: skip
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    options = parser.parse_args(arguments)
    options.variants = {PLAIN: ""}
    for text in options.variant:
        name, colon, changes = text.partition(":")
        if not colon or not name.strip() or name.strip() in options.variants:
            parser.error(f"--variant takes 'NAME: OPTIONS', each name once, got {text!r}")
        options.variants[name.strip()] = changes
    return options


def key_of(values: dict[str, Any]) -> str:
    """Return a hash of what a config and its options say of data, network and training."""
    content = {part: to_plain(values[part]) for part in ("data", "model", "optim", "trainer")}
    content["data"].pop("split")
    for field in UNIMPORTANT["trainer"]:
        content["trainer"].pop(field)
    return hash_of(content | {"label_smoothing": values["label_smoothing"]})


def train_missing(options: argparse.Namespace) -> Runs:
    """Train what is not there yet, and return what all runs wrote."""
    files: dict[tuple[str, int, int], Path] = {}
    jobs = []
    for seed in options.seeds:
        for name, changes in options.variants.items():
            given = [f"--config={options.config}", "--output=unused"]
            given += [*shlex.split(options.options), *shlex.split(changes)]
            values = values_of(train_classification, given)
            for split in options.splits:
                stem = re.sub(r"[^\w.-]+", "_", f"{name}-split{split}-seed{seed}-{key_of(values)}")
                file = files[name, split, seed] = options.out / f"{stem}.json"
                job = Job(name=stem, function=train, arguments=(values, split, seed, file))
                jobs += [] if file.exists() else [job]
    with Workers(options.jobs) as workers:
        workers.do(jobs, "train")
    return {key: json.loads(file.read_text()) for key, file in files.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is not there yet, choose, print a line a variant and that of the chosen ones."""
    options = parse(arguments)
    runs = train_missing(options)
    rows = []
    for name in options.variants:
        own = {key[1:]: run for key, run in runs.items() if key[0] == name}
        rows.append(row_of(name, own))
    choices: dict[int, dict[str, Any]] = {}
    if len(options.variants) > 1:
        choices = choose(runs, [*options.variants], options.splits, options.seeds)
        taken = {
            (split, seed): runs[choices[split]["variant"], split, seed]
            for split in options.splits
            for seed in options.seeds
        }
        rows.append(row_of("chosen", taken))
    for row in rows:
        print(tell(row))
    for split, choice in choices.items():
        print(f"split {split}: {choice['variant']}, chosen on other videos than its test videos")
    settings = {"config": str(options.config), "options": options.options}
    content = {**settings, "variants": options.variants, "choices": choices, "rows": rows}
    write_json(options.out / "video_classes.json", content)


if __name__ == "__main__":
    main()
