"""Every shipped config is complete and names only options that exist."""

from pathlib import Path

import pytest

from vidmamba.cli import build_parser
from vidmamba.demo import MODEL, DemoConfig

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = sorted((ROOT / "configs").glob("*_benchmark.yaml"))  # tests/benchmark reads those
CONFIGS = sorted({*(ROOT / "configs").glob("*.yaml")} - {*BENCHMARKS})


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_it_parses_and_writes_to_a_folder_of_its_own_name(config: Path) -> None:
    arguments = ["train", f"--config={config}"]
    options = build_parser(arguments).parse_args(arguments)
    assert str(options.train.output) == f"runs/{config.stem}"


def test_the_errands_config_is_the_demos_model() -> None:
    path = ROOT / "configs" / "errands_segmentation.yaml"
    parser = build_parser()
    options = parser.instantiate(parser.parse_args(["train", f"--config={path}"])).train
    assert options.model == MODEL
    assert options.trainer.epochs == DemoConfig().epochs
    assert options.data.backbone.image_size == DemoConfig().image_size
    assert options.seed == DemoConfig().seed


def test_a_misspelt_option_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text(CONFIGS[0].read_text().replace("width:", "widht:"))
    with pytest.raises(SystemExit):
        build_parser().parse_args(["train", f"--config={config}"])
    assert "widht" in capsys.readouterr().err
