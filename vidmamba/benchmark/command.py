"""`vidmamba benchmark`: train, choose honestly, test once, and write the table."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from vidmamba.benchmark.decode import DecodingJob
from vidmamba.benchmark.folders import RunJob
from vidmamba.benchmark.harness import CHOSEN, Harness
from vidmamba.benchmark.looks import Look
from vidmamba.benchmark.outputs import write_arrays
from vidmamba.benchmark.protocol import EXPLAINED, Protocol
from vidmamba.benchmark.published import PublishedRow, published_rows
from vidmamba.benchmark.recipes import Recipe, Settings
from vidmamba.benchmark.results import RecipeResult
from vidmamba.benchmark.runs import train_run
from vidmamba.benchmark.table import lines_of, markdown_table, terminal_table
from vidmamba.benchmark.workers import Job, Workers
from vidmamba.data import DataConfig
from vidmamba.decoding import DecodingConfig
from vidmamba.features.files import write_json, written_whole
from vidmamba.models.segmenter import SegmenterConfig
from vidmamba.report.ribbons import draw_ribbons
from vidmamba.tasks.optim import OptimConfig
from vidmamba.tasks.segmentation import LossConfig
from vidmamba.training import TrainerConfig

LIKELIEST = {"likeliest": DecodingConfig(kind="argmax")}
"""The decoding where none is listed."""


def benchmark(
    *,
    data: DataConfig,
    output: Path,
    protocol: Protocol,
    recipes: dict[str, Recipe],
    model: SegmenterConfig = SegmenterConfig(),
    optim: OptimConfig = OptimConfig(),
    loss: LossConfig = LossConfig(),
    trainer: TrainerConfig = TrainerConfig(),
    decodings: dict[str, DecodingConfig] | None = None,
    jobs: int = 1,
    ribbons: int = 3,
    keep_checkpoints: bool = False,
    minutes: float | None = None,
) -> int:
    """Compare recipes over splits and seeds, each choice made without the split's test videos.

    Writes benchmark.md, benchmark.json, predictions.npz and ribbons/ into the output folder. A
    second call does nothing that is done, a stopped one goes on.

    Args:
        data: The data set; its `split` is set by the protocol, and `validation` is used where the
            protocol chooses by it.
        output: Folder for runs, table and pictures.
        protocol: Splits, seeds, how choices are made, and how scores are counted.
        recipes: What is compared, by name, each with what it changes of the settings below.
        model: The network.
        optim: Optimiser and schedule.
        loss: What is minimised.
        trainer: Length, device and logs.
        decodings: Ways of labelling frames that each recipe's is chosen among, by name; by default
            each frame's likeliest class alone.
        jobs: How many runs train side by side, each in a process of its own.
        ribbons: Test videos, of as many splits, whose timelines are drawn.
        keep_checkpoints: Keep each run's weights, for `predict`.
        minutes: Begin no run later than this; what is then done goes into the table, which says
            what is missing, and the same command goes on. 0 only reports.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be 1 or more, got {jobs}")
    until = None if minutes is None else time.monotonic() + 60 * minutes
    published = published_rows(protocol.published, protocol.compat)
    settings = Settings(model=model, optim=optim, loss=loss, trainer=trainer)
    ways = decodings or LIKELIEST
    harness = Harness(data, protocol, recipes, settings, ways, output / "runs")
    with Workers(jobs) as workers:
        _train(harness.choosing_runs(), workers, keep_checkpoints, until)
        _keep(harness.looks(), workers)
        choices = harness.choices()
        _train(harness.test_runs(choices), workers, keep_checkpoints, until)
        _keep(harness.test_decodings(choices), workers)
    results = harness.results(choices)
    if not results:
        raise ValueError(
            f"{output}: no recipe has a seed whose runs are done in every split, so there is "
            "nothing to show yet; the same command goes on from here"
        )
    remarks = _remarks(protocol, published, results, harness.unfinished(results))
    _write(output, protocol, published, results, remarks)
    _write_predictions(output, harness, results)
    _draw(output, harness, results, ribbons)
    console = Console()
    console.print(terminal_table(lines_of(published, results), _title(output, protocol)))
    for line in remarks:
        console.print(line, highlight=False, soft_wrap=True)
    for name in ("benchmark.md", "benchmark.json", "predictions.npz", "ribbons"):
        console.print(output / name, highlight=False, soft_wrap=True)
    return 0


def _train(
    runs: Sequence[RunJob], workers: Workers, keep_checkpoints: bool, until: float | None
) -> None:
    train = partial(train_run, jobs=workers.count, keep_checkpoint=keep_checkpoints)
    jobs = [Job(name=run.name, function=train, arguments=(run, at)) for run, at in runs]
    workers.do(jobs, "train", until=until)


def _keep(found: Sequence[DecodingJob] | Sequence[Look], workers: Workers) -> None:
    jobs = [Job(name=one.folder.name, function=one.keep, arguments=()) for one in found]
    workers.do(jobs, "decode")


def _title(output: Path, protocol: Protocol) -> str:
    return f"{output.name}, scored as {protocol.compat}"


def _remarks(
    protocol: Protocol,
    published: Sequence[PublishedRow],
    results: Sequence[RecipeResult],
    unfinished: Sequence[str],
) -> list[str]:
    """Say what is missing, by what choices were made, which they were, what the figures mean."""
    records = [record for result in results for record in result.records]
    devices = ", ".join(sorted({str(record["device"]) for record in records}))
    beside = max(int(record["jobs"]) for record in records)
    missing = f"Unfinished, and not in this table: {'; '.join(unfinished)}."
    return [
        *([missing] if unfinished else []),
        *_choices(protocol, results),
        "Scores: percent, means over seeds; ±: standard deviation, over seeds, of the mean over "
        "splits. Seq: videos whose actions are all named in order. Bold: best of its column. Each "
        "split was tested once, after its choice.",
        "s/split: training one split with one seed; Frames/s: labelled by the trained model, one "
        f"video at a time. On {devices}; runs trained side by side: up to {beside}.",
        *(f"{row.name}: {row.standing}; {row.source}." for row in published),
    ]


def _choices(protocol: Protocol, results: Sequence[RecipeResult]) -> list[str]:
    if not any(choice.scores for result in results for choice in result.choices.values()):
        return ["Nothing was chosen: there is one recipe, one variant and one decoding."]
    by = f"{protocol.choose_by}: {EXPLAINED[protocol.choose_by]}"
    lines = [f"Choices, made for each split by {by}:"]
    for result in results:
        chosen = [
            f"split {split}: {choice.option.name} (of {len(choice.scores)}, "
            f"{choice.scores[choice.option.name]:.1f})"
            for split, choice in result.choices.items()
        ]
        lines.append(f"  {result.name}: {'; '.join(chosen)}")
    return lines


def _write(
    output: Path,
    protocol: Protocol,
    published: Sequence[PublishedRow],
    results: Sequence[RecipeResult],
    remarks: Sequence[str],
) -> None:
    lines = lines_of(published, results)
    text = f"# {_title(output, protocol)}\n\n{markdown_table(lines)}\n"
    with written_whole(output / "benchmark.md") as file:
        file.write((text + "\n\n".join(remarks) + "\n").encode())
    write_json(
        output / "benchmark.json",
        {
            "compat": protocol.compat,
            "choose_by": protocol.choose_by,
            "splits": [*protocol.splits],
            "seeds": [*protocol.seeds],
            "recipes": {result.name: result.as_dict() for result in results},
            "published": [
                {"name": row.name, "scores": row.scores}
                | {"source": row.source, "standing": row.standing}
                for row in published
            ],
            "runs": unique_records(results),
        },
    )


def unique_records(results: Sequence[RecipeResult]) -> list[Mapping[str, object]]:
    """Return what each tested run wrote of itself, once."""
    records = {record["run"]: record for result in results for record in result.records}
    return [records[name] for name in sorted(records)]


def _write_predictions(output: Path, harness: Harness, results: Sequence[RecipeResult]) -> None:
    """Write each test video's true labels and every recipe's, at the frames the model saw."""
    arrays: dict[str, np.ndarray] = {}
    for split in harness.protocol.splits:
        for item in harness.splits.data(split).test:
            arrays[f"split{split}/{item.name}/true"] = item.labels.astype(np.int16)
        for result in results:
            for seed in result.seeds:
                labels = harness.test_labels(result.choices[split].option, split, seed)
                for name, predicted in labels.items():
                    key = f"split{split}/{name}/{result.name}/seed{seed}"
                    arrays[key] = predicted.astype(np.int16)
    write_arrays(output / "predictions.npz", arrays)


def _draw(output: Path, harness: Harness, results: Sequence[RecipeResult], count: int) -> None:
    """Draw the first test video of some splits: the truth above each recipe's first seed."""
    for split in harness.protocol.splits[:count]:
        item = harness.splits.data(split).test[0]
        rows = {"truth": item.labels.tolist()}
        for result in results:
            if result.name != CHOSEN:  # it is one of the others
                option, seed = result.choices[split].option, result.seeds[0]
                rows[result.name] = harness.test_labels(option, split, seed)[item.name].tolist()
        step = float(np.diff(item.timestamps[:2]).sum())
        picture = draw_ribbons(rows, harness.class_names, fps=1 / step if step else None)
        path = output / "ribbons" / f"split{split}_{item.name}.png"
        with written_whole(path) as file:
            picture.save(file, format="PNG")
