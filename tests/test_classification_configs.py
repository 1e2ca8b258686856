"""The configs that name whole videos go all the way: train, then score videos never seen."""

from pathlib import Path

import pytest

from vidmamba.cli import main
from vidmamba.datasets.errands import ErrandsConfig, generate_errands

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SMALL = ["--trainer.epochs=1", "--trainer.accelerator=cpu", "--trainer.wandb=off"]


@pytest.mark.parametrize(
    ("config", "errands", "shown"),
    [
        ("errands_classification", 1, {"Top-1", "Top-5"}),
        ("errands_multilabel", 2, {"mAP", "Ranking"}),
    ],
)
def test_raw_videos_to_scores_of_a_classifier(
    config: str,
    errands: int,
    shown: set[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "errands"
    dials = ErrandsConfig(videos=8, errands=errands, gap=(8, 10), passers_by=0.0)
    generate_errands(root, dials, processes=1)
    backbone = ["--data.backbone.weights=random", "--data.backbone.image_size=32"]
    given = [f"--config={CONFIGS / config}.yaml", f"--output={tmp_path / 'run'}", *SMALL]
    assert main(["train", *given, f"--data.root={root}", *backbone]) == 0
    capsys.readouterr()
    assert main(["evaluate", f"--checkpoint={tmp_path / 'run' / 'best.ckpt'}"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in shown), table
    for option in ("--compat=lea", "--convention=pooled", "--submission=x.json"):
        assert main(["evaluate", f"--checkpoint={tmp_path / 'run' / 'best.ckpt'}", option]) == 1
        assert f"{option.split('=')[0]} is for" in capsys.readouterr().err


@pytest.mark.data
def test_gteas_activities_from_features_to_scores(
    real_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("VIDMAMBA_DATA", str(real_data))
    given = [f"--config={CONFIGS / 'gtea_classification.yaml'}", f"--output={tmp_path}"]
    assert main(["train", *given, *SMALL]) == 0
    capsys.readouterr()
    assert main(["evaluate", f"--checkpoint={tmp_path / 'best.ckpt'}"]) == 0
    assert "Top-1" in capsys.readouterr().out
