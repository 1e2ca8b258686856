"""Every shipped config is complete and names only options that exist."""

from pathlib import Path
from typing import Any

import pytest

from vidmamba.cli import build_parser
from vidmamba.demo import MODEL, DemoConfig
from vidmamba.demo.captions import BATCH_SIZE, BATCHES, CAPTIONER, LOSS, OPTIM, WORDS
from vidmamba.models.backbone import BackboneConfig

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = sorted((ROOT / "configs").glob("*_benchmark.yaml"))  # tests/benchmark reads those
CONFIGS = sorted({*(ROOT / "configs").glob("*.yaml")} - {*BENCHMARKS})


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_it_parses_and_writes_to_a_folder_of_its_own_name(config: Path) -> None:
    arguments = ["train", f"--config={config}"]
    options = build_parser(arguments).parse_args(arguments)
    assert str(options.train.output) == f"runs/{config.stem}"


BACKBONE = BackboneConfig(image_size=DemoConfig().image_size, pooling="stages")


def read(name: str) -> Any:
    parser = build_parser(arguments := ["train", f"--config={ROOT / 'configs' / name}"])
    return parser.instantiate(parser.parse_args(arguments)).train


@pytest.mark.parametrize("name", ["errands_segmentation.yaml", "errands_captioning.yaml"])
def test_the_errands_configs_are_the_demos_data(name: str) -> None:
    options = read(name)
    assert options.data.backbone == BACKBONE
    assert options.data.fps == DemoConfig().fps
    assert options.data.backbone.image_size == DemoConfig().image_size
    assert options.seed == DemoConfig().seed


def test_the_errands_segmentation_config_is_the_demos_model() -> None:
    options = read("errands_segmentation.yaml")
    assert options.model == MODEL
    assert options.trainer.epochs == DemoConfig().epochs


def test_the_errands_captioning_config_is_the_demos_captioner() -> None:
    options = read("errands_captioning.yaml")
    assert options.model == CAPTIONER
    assert options.batches == BATCHES
    assert options.loss == LOSS
    assert options.words == WORDS
    assert options.optim == OPTIM
    assert options.trainer.epochs == DemoConfig().caption_epochs
    assert options.trainer.batch_size == BATCH_SIZE


def test_a_misspelt_option_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text(CONFIGS[0].read_text().replace("width:", "widht:"))
    with pytest.raises(SystemExit):
        build_parser().parse_args(["train", f"--config={config}"])
    assert "widht" in capsys.readouterr().err
