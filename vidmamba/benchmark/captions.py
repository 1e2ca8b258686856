"""`vidmamba benchmark` for clips with captions: recipes over seeds, beside nearest neighbours."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from vidmamba.benchmark.caption_runs import (
    CaptionRun,
    CaptionSettings,
    read_run,
    train_caption_run,
)
from vidmamba.benchmark.nearest import NearestNeighbours
from vidmamba.benchmark.recipes import Overrides, override
from vidmamba.benchmark.table import short
from vidmamba.benchmark.workers import Job, Workers
from vidmamba.data import DataConfig, load_data
from vidmamba.datasets.captions import events_of
from vidmamba.datasets.records import LabelledSet, VideoItem
from vidmamba.features.files import write_json, written_whole
from vidmamba.metrics.captions import KNOWN_DIFFERENCES, score_captions
from vidmamba.models.captioner import CaptionerConfig
from vidmamba.models.generation import GenerationConfig
from vidmamba.models.tokenizer import TokenizerConfig
from vidmamba.tasks.caption_batches import CaptionBatchConfig
from vidmamba.tasks.caption_losses import CaptionLossConfig
from vidmamba.tasks.optim import OptimConfig
from vidmamba.training import TrainerConfig

HEADINGS = {
    "cider_d": "CIDEr",
    "bleu4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "meteor_exact_stem": "METEOR*",
}
"""The table's columns; choices are made by the first."""


@dataclass(frozen=True, kw_only=True)
class CaptionRecipe:
    """What a recipe changes of the benchmark's common settings."""

    model: Overrides = field(default_factory=dict)
    """Fields of the model's config that this recipe sets, nested as there."""

    optim: Overrides = field(default_factory=dict)
    """Fields of the optimiser's config that this recipe sets."""

    loss: Overrides = field(default_factory=dict)
    """Fields of the loss's config that this recipe sets."""

    trainer: Overrides = field(default_factory=dict)
    """Fields of the trainer's config that this recipe sets."""

    variants: dict[str, dict[str, Overrides]] = field(default_factory=dict)
    """Candidates to choose among, by name: each changes more fields of the parts above."""


class Row(NamedTuple):
    """A row of the table: one way of captioning, chosen by the validation videos."""

    name: str
    choice: str
    """The variant and way that were chosen."""
    validation: float
    """CIDEr in percent, by which they were chosen."""
    scores: list[dict[str, float]]
    """Of the test videos, in percent, a seed each."""
    parameters: int
    seconds: float
    """Training one seed."""


def benchmark_captions(
    *,
    data: DataConfig,
    output: Path,
    recipes: dict[str, CaptionRecipe],
    task: Literal["captioning"] = "captioning",
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    model: CaptionerConfig = CaptionerConfig(),
    words: TokenizerConfig = TokenizerConfig(),
    optim: OptimConfig = OptimConfig(),
    loss: CaptionLossConfig = CaptionLossConfig(),
    batches: CaptionBatchConfig = CaptionBatchConfig(),
    trainer: TrainerConfig = TrainerConfig(),
    generations: dict[str, GenerationConfig] | None = None,
    neighbours: tuple[int, ...] = (1,),
    jobs: int = 1,
) -> int:
    """Compare captioners of clips over seeds, each choice made by the validation videos alone.

    Writes benchmark.md and benchmark.json into the output folder. A second call does nothing that
    is done, a stopped one goes on.

    Args:
        data: The data set: clips with references for the whole of each.
        output: Folder for runs and table.
        recipes: What is compared, by name, each with what it changes of the settings below.
        task: What is compared; segmentation has options of its own.
        seeds: Of the runs.
        model: The network.
        words: The tokenizer.
        optim: Optimiser and schedule.
        loss: What is minimised.
        batches: What training sees of the captions.
        trainer: Length, device and logs.
        generations: Ways of choosing captions that each recipe's is chosen among, by name; by
            default the likeliest word each time.
        neighbours: Numbers of neighbours whose captions are asked for the one that they agree on
            most: 1 has a row of its own, the others have one for that which is chosen.
        jobs: How many runs train side by side, each in a process of its own.
    """
    if jobs < 1 or not seeds:
        raise ValueError(f"jobs must be 1 or more and seeds not empty, got {jobs}, {seeds}")
    known = load_data(data)
    _check(known)
    base = CaptionSettings(
        model=model, words=words, optim=optim, loss=loss, batches=batches, trainer=trainer
    )
    ways = generations or {"greedy": GenerationConfig()}
    runs = {
        name: [
            CaptionRun(name=full, settings=settings, data=data, seed=seed, ways=ways)
            for full, settings in _variants(name, recipe, base).items()
            for seed in seeds
        ]
        for name, recipe in recipes.items()
    }
    folders = {
        (run.name, run.seed): run.folder(output / "runs", known)
        for own in runs.values()
        for run in own
    }
    with Workers(jobs) as workers:
        _train([run for own in runs.values() for run in own], folders, workers)
    alone, several = [k for k in neighbours if k == 1], [k for k in neighbours if k > 1]
    rows = [_nearest(known, numbers) for numbers in (alone, several) if numbers]
    rows += [_row(name, own, folders, known) for name, own in runs.items()]
    records = [read_run(folder) or {} for folder in folders.values()]
    _write(output, rows, known, seeds, records, jobs)
    return 0


def _check(data: LabelledSet) -> None:
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    for part, items in parts.items():
        if not items:
            raise ValueError(f"captioning is compared on three parts, but {part} has no video")
        for item in items:
            if len(events_of(item.captions)) != 1:
                raise ValueError(
                    f"{item.name}: this benchmark compares clips, of one event each; it has "
                    f"{len(events_of(item.captions))}"
                )


def _variants(
    name: str, recipe: CaptionRecipe, base: CaptionSettings
) -> dict[str, CaptionSettings]:
    own = {part: getattr(recipe, part) for part in ("model", "optim", "loss", "trainer")}
    settings = override(base, own, at=f"recipes.{name}")
    if not recipe.variants:
        return {name: settings}
    return {
        f"{name}-{variant}": override(settings, changes, at=f"recipes.{name}.variants.{variant}")
        for variant, changes in recipe.variants.items()
    }


def _train(
    runs: Sequence[CaptionRun], folders: Mapping[tuple[str, int], Path], workers: Workers
) -> None:
    jobs = [
        Job(
            name=f"{run.name}, seed {run.seed}",
            function=train_caption_run,
            arguments=(run, folders[run.name, run.seed]),
        )
        for run in sorted(runs, key=lambda run: run.seed)
        if read_run(folders[run.name, run.seed]) is None
    ]
    workers.do(jobs, "train")


def _nearest(data: LabelledSet, neighbours: Sequence[int]) -> Row:
    found = NearestNeighbours(data.train)

    def scores(items: Sequence[VideoItem], number: int) -> dict[str, float]:
        return _scores(found.caption(items, neighbours=number), items)

    tried = {number: scores(data.validation, number)["cider_d"] for number in neighbours}
    best = max(tried, key=lambda number: tried[number])
    name = "nearest neighbour" if best == 1 else "nearest neighbours"
    return Row(name, f"k = {best}", tried[best], [scores(data.test, best)], 0, 0.0)


def _row(
    name: str,
    runs: Sequence[CaptionRun],
    folders: Mapping[tuple[str, int], Path],
    data: LabelledSet,
) -> Row:
    """Choose a variant and a way by the mean over seeds on validation, and test it."""
    records: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        record = read_run(folders[run.name, run.seed])
        assert record is not None
        records.setdefault(run.name, []).append(record)
    tried = {
        (variant, way): statistics.mean(
            _scores(record["captions"]["validation"][way], data.validation)["cider_d"]
            for record in own
        )
        for variant, own in records.items()
        for way in runs[0].ways
    }
    variant, way = max(tried, key=lambda choice: tried[choice])
    own = records[variant]
    return Row(
        name=name,
        choice=f"{variant}, {way}",
        validation=tried[variant, way],
        scores=[_scores(record["captions"]["test"][way], data.test) for record in own],
        parameters=own[0]["parameters"],
        seconds=statistics.mean(record["train_seconds"] for record in own),
    )


def _scores(texts: Mapping[str, str], items: Sequence[VideoItem]) -> dict[str, float]:
    references = {item.name: [caption.text for caption in item.captions] for item in items}
    return {name: 100 * score for name, score in score_captions(texts, references).items()}


def _write(
    output: Path,
    rows: Sequence[Row],
    data: LabelledSet,
    seeds: Sequence[int],
    records: Sequence[Mapping[str, Any]],
    jobs: int,
) -> None:
    """Print the table and write it, with all that it is made of."""
    headings = ["", *HEADINGS.values(), "Params", "s/seed"]
    cells = [_cells(row) for row in rows]
    devices = ", ".join(sorted({str(record.get("device")) for record in records}))
    remarks = [
        f"{len(data.train)} training, {len(data.validation)} validation and {len(data.test)} test "
        f"videos; seeds {', '.join(map(str, seeds))}; mean ± standard deviation over them, percent."
        f" Chosen by the validation videos' CIDEr alone: "
        f"{'; '.join(f'{row.name}: {row.choice} ({row.validation:.1f})' for row in rows)}. "
        f"s/seed: training, up to {jobs} side by side, on {devices}.",
        *(f"{line}." for line in KNOWN_DIFFERENCES),
    ]
    table = Table(
        box=box.SIMPLE_HEAD, title=output.name, title_justify="left", padding=(0, 1, 0, 0)
    )
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left", no_wrap=bool(heading))
    for row in cells:
        table.add_row(*row)
    console = Console()
    console.print(table)
    for line in remarks:
        console.print(line, highlight=False, soft_wrap=True)
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *cells]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    text = "\n\n".join([f"# {output.name}", text.strip(), *remarks]) + "\n"
    with written_whole(output / "benchmark.md") as file:
        file.write(text.encode())
    content = {"rows": [row._asdict() for row in rows], "runs": [*records]}
    write_json(output / "benchmark.json", content)


def _cells(row: Row) -> list[str]:
    found = [
        f"{statistics.mean(values):.1f}"
        + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")
        for values in ([scores[name] for scores in row.scores] for name in HEADINGS)
    ]
    costs = [short(row.parameters), f"{row.seconds:.0f}"] if row.parameters else ["", ""]
    return [row.name, *found, *costs]
