"""The table: what stands in it, what is bold, and where the published rows come from."""

from rich.console import Console

from vidmamba.benchmark.choose import Choice
from vidmamba.benchmark.options import Option
from vidmamba.benchmark.published import PUBLISHED, published_rows
from vidmamba.benchmark.recipes import Candidate, Settings
from vidmamba.benchmark.results import METRICS, RecipeResult
from vidmamba.benchmark.table import best_figures, lines_of, markdown_table, short, terminal_table


def result(name: str, by_split: dict[int, list[float | int]]) -> RecipeResult:
    """A recipe whose every metric is the same figure: by split, a figure a seed."""
    option = Option(
        candidate=Candidate(recipe=name, variant="only", settings=Settings()), decoding="likeliest"
    )
    return RecipeResult(
        name=name,
        choices={
            split: Choice(split=split, option=option, scores={option.name: 50.0}, scored=("v",))
            for split in by_split
        },
        scores={
            split: {
                seed: dict.fromkeys(METRICS, float(figure)) for seed, figure in enumerate(figures)
            }
            for split, figures in by_split.items()
        },
        records=(
            {"parameters": 900, "train_seconds": 10.0, "frames_per_second": 2e4},
            {"parameters": 1_010_000, "train_seconds": 20.0, "frames_per_second": 4e4},
        ),
    )


def test_means_are_over_splits_and_spreads_over_seeds_of_those_means() -> None:
    row = result("mine", {1: [60, 62], 2: [80, 90]})
    assert row.of_split(1) == dict.fromkeys(METRICS, 61)
    assert row.of_seed(1) == dict.fromkeys(METRICS, 76)
    assert row.mean == dict.fromkeys(METRICS, 73)
    assert row.spread["edit"] == ((76 - 70) ** 2 / 2) ** 0.5  # of 70 and 76
    assert result("mine", {1: [60]}).spread == {}
    assert row.parameters == 1_010_000
    assert row.cost("frames_per_second") == 3e4


def test_the_best_of_each_column_is_bold_be_it_a_rival_or_published() -> None:
    rows = [result("mine", {1: [70.0, 72.0]}), result("rival", {1: [71.04, 71.04]})]
    published = published_rows("gtea", "lea")
    lines = lines_of(published, rows)
    best = best_figures(lines)
    assert best["f1@10"] == 82.2  # ASFormer with augmentation
    assert best["accuracy"] == 71.04
    table = markdown_table(lines).splitlines()
    mine, rival, other = (
        next(line for line in table if line.startswith(f"| {name} |"))
        for name in ("mine", "rival", "ASFormer +")
    )
    assert "**82.2**" in other
    assert "**70.8**" not in other
    # 71.0 and 71.04 look alike: both are best in F1@50, accuracy and sequences, published
    # rows elsewhere
    assert mine.count("**71.0**") == rival.count("**71.0**") == 3
    assert mine.count("**") == rival.count("**") == 6
    assert mine.endswith("| 1.01M | 15 | 30k | mean of 1 split, 2 seeds |")
    assert next(line for line in table if "split 1" in line).count("71.0") == 6
    assert next(line for line in table if line.startswith("| ± |")).count("1.4") == 6


def test_what_was_not_published_is_a_dash() -> None:
    lines = lines_of(published_rows("gtea", "lea"), [])
    tricornet = next(row for row in markdown_table(lines).splitlines() if "TricorNet |" in row)
    assert tricornet.split("|")[5].strip() == "-"


def test_the_terminals_table_keeps_to_80_columns() -> None:
    rows = [result("bidirectional_lstm_2x128", {10: [99.9, 100.0]})]
    console = Console(width=80, record=True, quiet=False)
    with console.capture() as captured:
        console.print(terminal_table(lines_of(published_rows("50salads_mid", "lea"), rows), "t"))
    text = captured.get()
    assert "…" not in text
    assert "1.01M" in text
    assert "100.0" in text


def test_figures_are_short_enough_for_a_column() -> None:
    figures = {0: "0", 75: "75", 0.04: "0.0", 9.96: "10.0", 12.3: "12", 999: "999"}
    figures |= {63_283: "63.3k", 1_010_000: "1.01M"}
    assert {figure: short(figure) for figure in figures} == figures


def test_every_published_row_names_its_source_and_is_in_percent() -> None:
    for rows in PUBLISHED.values():
        for row in rows:
            assert row.source
            assert set(row.scores) <= set(METRICS)
            assert all(30 < figure < 90 for figure in row.scores.values())
            # a stricter overlap finds fewer
            assert row.scores["f1@10"] >= row.scores["f1@25"] >= row.scores["f1@50"]
    assert published_rows("gtea", "asformer") == ()  # counted otherwise, so not to be compared
    assert published_rows(None, "lea") == ()
