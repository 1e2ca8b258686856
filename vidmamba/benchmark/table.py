"""The benchmark's table, for the terminal and as Markdown: published rows, then what was found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from vidmamba.benchmark.published import PublishedRow
from vidmamba.benchmark.results import METRICS, RecipeResult
from vidmamba.evaluation import HEADINGS as EVALUATION_HEADINGS

COSTS = ("Params", "s/split", "Frames/s")
HEADINGS = EVALUATION_HEADINGS | {"sequence": "Seq"}


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the table, in words."""

    name: str
    """The first column."""

    scores: Mapping[str, float]
    """Percent; missing ones stay empty."""

    costs: tuple[str, str, str] = ("", "", "")
    """Parameters, seconds a split, frames a second."""

    source: str = ""
    """Where a published row comes from, or what a split's choice was."""

    leading: bool = True
    """A row to compare: published, or a mean over splits; not a spread, nor one split's mean."""


def lines_of(published: Sequence[PublishedRow], results: Sequence[RecipeResult]) -> list[Line]:
    """Return the table's lines: what was published, then each recipe's mean and its splits."""
    lines = [
        Line(name=row.name, scores=row.scores, source=f"{row.standing}: {row.source}")
        for row in published
    ]
    for result in results:
        costs = (
            short(result.parameters),
            short(result.cost("train_seconds")),
            short(result.cost("frames_per_second")),
        )
        source = (
            f"mean of {_count(len(result.scores), 'split')}, {_count(len(result.seeds), 'seed')}"
        )
        lines.append(Line(name=result.name, scores=result.mean, costs=costs, source=source))
        if result.spread:
            lines.append(Line(name="  ±", scores=result.spread, leading=False))
        for split, choice in result.choices.items():
            source = f"chose {choice.option.name}" if choice.scores else ""
            name, scores = f"  split {split}", result.of_split(split)
            lines.append(Line(name=name, scores=scores, source=source, leading=False))
    return lines


def short(figure: float | int) -> str:
    """Return a figure in a few characters: 1.01M, 63.3k, 250, 0.4."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if figure >= unit:
            return f"{figure / unit:.3g}{letter}"
    return f"{figure:.0f}" if figure >= 10 or isinstance(figure, int) else f"{figure:.1f}"


def best_figures(lines: Sequence[Line]) -> dict[str, float]:
    """Return the best figure of each metric among published rows and means."""
    leading = [line.scores for line in lines if line.leading]
    return {
        metric: max(scores[metric] for scores in leading if metric in scores)
        for metric in METRICS
        if any(metric in scores for scores in leading)
    }


def terminal_table(lines: Sequence[Line], title: str) -> Table:
    """Lay the lines out in 80 columns; the best figure of each column is bold."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
    table.add_column("", overflow="fold")
    for heading in (*(HEADINGS[metric] for metric in METRICS), *COSTS):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in lines:
        cells = _cells(line, best_figures(lines), "[bold]{}[/bold]")
        table.add_row(line.name, *cells, *line.costs, style=None if line.leading else "dim")
    return table


def markdown_table(lines: Sequence[Line]) -> str:
    """Lay the lines out as Markdown."""
    headings = ["", *(HEADINGS[metric] for metric in METRICS), *COSTS, ""]
    rows = [headings, ["---", *["---:"] * (len(headings) - 2), "---"]]
    for line in lines:
        cells = _cells(line, best_figures(lines), "**{}**")
        rows.append([line.name.strip(), *cells, *line.costs, line.source])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _cells(line: Line, best: Mapping[str, float], bold: str) -> list[str]:
    cells = []
    for metric in METRICS:
        text = f"{line.scores[metric]:.1f}" if metric in line.scores else "-"
        # as the reader sees them: figures that round to the same are equally good
        best_text = f"{best[metric]:.1f}" if metric in best else ""
        cells.append(bold.format(text) if line.leading and text == best_text else text)
    return cells
