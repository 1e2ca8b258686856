r"""What waiting is worth: accuracy of causal models against how far they look ahead.

python tools/delay.py --config configs/50salads_mid_segmentation.yaml --out delay \
    --lookahead 0 4 16 64 --splits 1 2 3 4 5 --seeds 0 1 2

For Mamba, a causal dilated TCN (MS-TCN's layers), an LSTM and windowed attention (ASFormer's kind),
each in one direction: a frame is named when so many further frames have been seen. `all` is the
same model in both directions, which waits for the whole video. Data, augmentation, optimiser,
epochs and batches are the config's; every training and validation video is trained on for all
epochs, and the test videos are scored once. A second call goes on, and begins anew where the config
is another. Writes delay.png (matplotlib), and the figures as JSON to --json.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from vidmamba.benchmark.keys import hash_of
from vidmamba.benchmark.quick import train_quickly
from vidmamba.benchmark.runs import UNIMPORTANT
from vidmamba.benchmark.workers import Job, Workers
from vidmamba.commands.parsing import values_of
from vidmamba.commands.train import train_segmentation
from vidmamba.config import to_plain
from vidmamba.data import load_data
from vidmamba.device import device_of
from vidmamba.evaluation import evaluate_set
from vidmamba.features.files import write_json
from vidmamba.models.segmenter import SegmenterConfig
from vidmamba.nn.attention import AttentionConfig
from vidmamba.nn.stack import StackConfig
from vidmamba.tasks.segmentation import make_task
from vidmamba.training import seed_everything

MODELS: dict[str, dict[str, Any]] = {
    "Mamba": {"depth": 4, "pattern": "M"},
    "dilated TCN": {"depth": 10, "pattern": "C"},
    "LSTM": {"depth": 2, "pattern": "L"},
    "windowed attention": {
        "depth": 8,
        "pattern": "AF",
        # frames: at 15 a second, windows of three seconds to twenty
        "attention": AttentionConfig(window=40, growth=2),
    },
}
"""What differs from the config's stack."""

LOOKS = {
    "Mamba": ("o", "#0b5cad"),
    "dilated TCN": ("s", "#4d7c0f"),
    "LSTM": ("D", "#c2410c"),
    "windowed attention": ("^", "#7e5aa8"),
}
"""Of each model's line: marker and colour."""

METRICS = {"accuracy": "Acc", "edit": "Edit", "f1@50": "F1@50"}
ALL = "all"


def model_of(config: SegmenterConfig, name: str, lookahead: str) -> SegmenterConfig:
    """Return the config's model with another stack: causal, or in both directions for `all`."""
    stack: StackConfig = replace(
        config.stack,
        **MODELS[name],
        strides=(1,),  # coarser blocks average frames to come
        direction="bidirectional" if lookahead == ALL else "causal",
    )
    ahead = 0 if lookahead == ALL else int(lookahead)
    return replace(config, stack=stack, lookahead=ahead, refinements=0)


def score(values: dict[str, Any], name: str, lookahead: str, seed: int, file: Path) -> None:
    """Train one model, test it, and leave its scores in a file."""
    seed_everything(seed)
    data = load_data(values["data"])
    task = make_task(
        data,
        model=model_of(values["model"], name, lookahead),
        optim=values["optim"],
        loss=values["loss"],
        data_config=to_plain(values["data"]),
    )
    device = device_of(values["trainer"].accelerator)
    items = (*data.train, *data.validation)
    train_quickly(task, items, values["trainer"], seed=seed, device=device)
    scores = evaluate_set(task, data, part="test").scores
    steps = np.concatenate([np.diff(item.timestamps) for item in data.test])
    record = {
        "model": name,
        "lookahead": lookahead,
        "seed": seed,
        "split": values["data"].split,
        "scores": scores,
        "step": float(np.median(steps)),
        "parameters": sum(p.numel() for p in task.net.parameters()),
    }
    write_json(file, record)


def key_of(values: dict[str, Any]) -> str:
    """Return a hash of what the config says of data, network and training, but the split."""
    content = {part: to_plain(values[part]) for part in ("data", "model", "optim", "loss")}
    content["trainer"] = to_plain(values["trainer"])
    content["data"].pop("split")
    for field in UNIMPORTANT["trainer"]:
        content["trainer"].pop(field)
    return hash_of(content)


def rows_of(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row a model and look-ahead: mean, and deviation over seeds of means over splits."""
    rows = []
    for name, lookahead in dict.fromkeys((one["model"], one["lookahead"]) for one in records):
        own = [one for one in records if (one["model"], one["lookahead"]) == (name, lookahead)]
        row = {"model": name, "lookahead": lookahead, "parameters": own[0]["parameters"]}
        row["seconds"] = None if lookahead == ALL else int(lookahead) * own[0]["step"]
        for metric in METRICS:
            by_seed = [
                statistics.mean(one["scores"][metric] for one in own if one["seed"] == seed)
                for seed in sorted({one["seed"] for one in own})
            ]
            row[metric] = statistics.mean(by_seed)
            row[f"{metric} spread"] = statistics.stdev(by_seed) if len(by_seed) > 1 else None
        rows.append(row)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Lay the rows out as Markdown."""
    lines = [f"| | frames ahead | delay, s | {' | '.join(METRICS.values())} | parameters |"]
    lines.append(f"|---|---:|---:|{'---:|' * len(METRICS)}---:|")
    for row in rows:
        seconds = "the video" if row["seconds"] is None else f"{row['seconds']:.1f}"
        cells = [
            f"{row[metric]:.1f}" + (f" ± {spread:.1f}" if spread is not None else "")
            for metric in METRICS
            for spread in (row[f"{metric} spread"],)
        ]
        cells = [row["model"], row["lookahead"], seconds, *cells, f"{row['parameters']:,}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw each metric against the look-ahead, a line a model, its spread as bars.

    What sees the whole video is another model, in both directions: it stands by itself.
    """
    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panes = pyplot.subplots(1, len(METRICS), figsize=(9.6, 3.5), layout="constrained")
    times = {row["lookahead"]: row["seconds"] for row in rows}
    for pane, (metric, heading) in zip(panes, METRICS.items(), strict=True):
        for name, (marker, colour) in LOOKS.items():
            own = [row for row in rows if row["model"] == name]
            waits = [row for row in own if row["lookahead"] != ALL]
            for part, line in ((waits, "-"), ([row for row in own if row not in waits], "none")):
                pane.errorbar(
                    [[*times].index(row["lookahead"]) for row in part],
                    [row[metric] for row in part],
                    yerr=[row[f"{metric} spread"] or 0.0 for row in part],
                    marker=marker,
                    color=colour,
                    linestyle=line,
                    linewidth=1.8,
                    capsize=3,
                    label=name if part is waits and part else None,
                )
        labels = [f"{one}\n{t:.1f} s" if t is not None else one for one, t in times.items()]
        pane.set_xticks(range(len(times)), labels)
        pane.set_title(f"{heading}, %", loc="left", fontsize=10)
        pane.grid(axis="y", color="0.92")
        pane.set_axisbelow(True)
        pane.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("frames waited for; all: the whole video, in both directions", fontsize=10)
    handles, names = panes[0].get_legend_handles_labels()
    figure.legend(handles, names, frameon=False, loc="outside upper center", ncols=len(LOOKS))
    figure.savefig(path, dpi=160)
    pyplot.close(figure)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Accuracy against delay.")
    parser.add_argument("--config", type=Path, required=True, help="of a segmentation task")
    parser.add_argument("--out", type=Path, required=True, help="folder of the figure and the runs")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--lookahead", nargs="+", default=["0", "4", "16", "64"], help="frames")
    parser.add_argument("--models", nargs="+", default=[*MODELS], choices=[*MODELS])
    parser.add_argument("--splits", type=int, nargs="+", help="default: the config's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="default: the config's")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    options = parser.parse_args(arguments)
    if wrong := [text for text in options.lookahead if text != ALL and not text.isdecimal()]:
        parser.error(f"--lookahead takes numbers of frames and {ALL}, got {' '.join(wrong)}")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is not there yet, print the table, write figures and picture."""
    options = parse(arguments)
    values = values_of(train_segmentation, [f"--config={options.config}", "--output=unused"])
    if options.epochs is not None:
        values["trainer"] = replace(values["trainer"], epochs=options.epochs)
    jobs, files = [], []
    for seed in options.seeds:
        for split in options.splits or [values["data"].split]:
            for lookahead in dict.fromkeys([*options.lookahead, ALL]):
                for name in options.models:
                    one = {**values, "data": replace(values["data"], split=split)}
                    stem = f"{name.replace(' ', '_')}-{lookahead}-split{split}-seed{seed}"
                    file = options.out / f"config-{key_of(values)}" / f"{stem}.json"
                    files.append(file)
                    job = Job(
                        name=stem, function=score, arguments=(one, name, lookahead, seed, file)
                    )
                    jobs += [] if file.exists() else [job]
    with Workers(options.jobs) as workers:
        workers.do(jobs, "train")
    records = [json.loads(file.read_text()) for file in files]
    order = {name: place for place, name in enumerate(MODELS)}
    rows = rows_of(sorted(records, key=lambda one: order[one["model"]]))
    print(table(rows))
    draw(rows, options.out / "delay.png")
    if options.json is not None:
        write_json(options.json, {"config": str(options.config), "rows": rows, "runs": records})


if __name__ == "__main__":
    main()
