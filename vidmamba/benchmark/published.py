"""Rows of published tables on the very features of `data/tas`, and rivals measured on them.

SpatialCNN features of Lea et al. (CVPR 2017), the released splits, each video scored by itself and
averaged (`lea`). Results on other features (I3D) do not belong here.
"""

from dataclasses import dataclass
from typing import Literal

from vidmamba.metrics.videos import CompatName

Standing = Literal["verified", "quoted", "from memory", "measured"]
"""verified: scored again from released predictions. quoted: from a paper's table, by a second
source. from memory: to be checked before it is quoted. measured: trained here, by the authors' own
recipe or with more augmentation, on an H100, last epoch (2026-11-23)."""

METRICS = ("f1@10", "f1@25", "f1@50", "edit", "accuracy")


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """Scores that someone else's model reached."""

    name: str
    """The model."""

    scores: dict[str, float]
    """Percent, by metric; what was not published is missing."""

    source: str
    """Where the figures come from."""

    standing: Standing
    """How far they can be relied on."""

    compat: CompatName = "lea"
    """The evaluator they were counted by."""


def _row(
    name: str, figures: tuple[float | None, ...], source: str, standing: Standing
) -> PublishedRow:
    pairs = zip(METRICS, figures, strict=True)
    scores = {metric: figure for metric, figure in pairs if figure is not None}
    return PublishedRow(name=name, scores=scores, source=source, standing=standing)


ST_CNN = "Lea et al., ECCV 2016; its figures in Lea et al., CVPR 2017"
ED_TCN = "Lea et al., CVPR 2017"
TRICORNET = "Ding and Xu, TricorNet, arXiv 1705.07818"
TDRN = "Lei and Todorovic, CVPR 2018"
MS_TCN = "Abu Farha and Gall, CVPR 2019, own recipe, 3 seeds"
ASFORMER = "Yi et al., BMVC 2021, own recipe, 1 seed"
ASFORMER_AUGMENTED = "the same with augmented features, chosen on test splits, 1 seed"

PUBLISHED: dict[str, tuple[PublishedRow, ...]] = {
    "50salads_mid": (
        _row("ST-CNN", (55.9, 49.6, 37.1, 46.0, 59.5), ST_CNN, "verified"),
        _row("Dilated TCN", (52.2, 47.6, 37.4, 43.1, 59.3), ED_TCN, "verified"),
        _row("ED-TCN", (68.0, 63.9, 52.6, 59.8, 64.7), ED_TCN, "verified"),
        _row("TricorNet", (70.1, 67.2, 56.6, 62.8, 67.5), TRICORNET, "quoted"),
        _row("TDRN", (72.9, 68.5, 57.2, 66.0, 68.1), TDRN, "from memory"),
        _row("MS-TCN", (65.2, 60.6, 49.7, 57.1, 60.5), MS_TCN, "measured"),
        _row("ASFormer", (70.5, 66.9, 58.0, 63.9, 68.5), ASFORMER, "measured"),
        _row("ASFormer +", (75.7, 71.1, 58.2, 67.9, 68.9), ASFORMER_AUGMENTED, "measured"),
    ),
    "gtea": (
        _row(
            "Dilated TCN",
            (60.9, 54.7, 40.2, 52.9, 61.3),
            f"{ED_TCN}, released predictions of splits 1-3",
            "verified",
        ),
        _row("ED-TCN", (72.2, 69.3, 56.0, None, 64.0), ED_TCN, "quoted"),
        _row("TricorNet", (77.3, 73.4, 62.9, None, 64.7), TRICORNET, "quoted"),
        _row("TDRN", (79.2, 74.4, 62.7, 74.1, 70.1), TDRN, "from memory"),
        _row("MS-TCN", (69.4, 64.9, 53.0, 63.0, 61.4), MS_TCN, "measured"),
        _row("ASFormer", (76.3, 73.0, 61.9, 71.2, 67.4), ASFORMER, "measured"),
        _row("ASFormer +", (82.2, 80.0, 66.0, 78.7, 70.8), ASFORMER_AUGMENTED, "measured"),
    ),
}
"""By data set: from the weakest to the strongest that is known."""


def published_rows(name: str | None, compat: CompatName) -> tuple[PublishedRow, ...]:
    """Return the rows to show beside scores that were counted by an evaluator.

    Raises:
        ValueError: there is no such table.
    """
    if name is None:
        return ()
    if name not in PUBLISHED:
        raise ValueError(f"protocol.published must be one of {', '.join(PUBLISHED)}, got {name!r}")
    return tuple(row for row in PUBLISHED[name] if row.compat == compat)
