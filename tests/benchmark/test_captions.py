"""Captioning compared: clips that show what they are, told by recipes and by their neighbours."""

import json
from collections import Counter
from dataclasses import replace
from math import log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidmamba.benchmark import CaptionRecipe, benchmark_captions
from vidmamba.benchmark.caption_runs import CaptionRun, CaptionSettings
from vidmamba.benchmark.nearest import NearestNeighbours
from vidmamba.cli import build_parser
from vidmamba.data import DataConfig, load_data
from vidmamba.datasets.records import VideoItem
from vidmamba.metrics.captions import tokenize
from vidmamba.models.augment import AugmentConfig
from vidmamba.models.captioner import CaptionerConfig
from vidmamba.models.decoder import DecoderConfig
from vidmamba.models.generation import GenerationConfig
from vidmamba.models.tokenizer import TokenizerConfig
from vidmamba.nn.stack import StackConfig
from vidmamba.timeline import Caption
from vidmamba.training import TrainerConfig

ROOT = Path(__file__).resolve().parents[2]
ANIMALS = ("dog", "cat", "bird")
PARTS = {"train": range(12), "val": range(12, 15), "test": range(15, 18)}


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    """Eighteen clips of three animals, in MSVD's packed form."""
    random = np.random.default_rng(0)
    features: dict[str, Any] = {}
    clips = {}
    for part, numbers in PARTS.items():
        for number in numbers:
            animal = number % len(ANIMALS)
            array = random.normal(0, 0.1, (6, 4)).astype(np.float32)
            array[:, animal] += 1
            name = f"clip{number}_0_5"
            features[name] = array
            captions = [f"a {ANIMALS[animal]} runs", f"a {ANIMALS[animal]} is running", "an animal"]
            clips[name] = {"split": part, "vid": name, "captions": captions}
    np.savez(tmp_path / "features.npz", **features)
    (tmp_path / "clips.json").write_text(json.dumps(clips))
    return DataConfig(
        root=str(tmp_path),
        format="packed_clips",
        annotations=("clips.json",),
        features="features.npz",
    )


def run(config: DataConfig, output: Path, **options: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "recipes": {
            "mamba": CaptionRecipe(model={"stack": {"depth": 1}}),
            "lstm": CaptionRecipe(model={"pooled": True, "decoder": {"mixer": "lstm"}}),
            "transformer": CaptionRecipe(
                model={"decoder": {"mixer": "attention"}},
                variants={"narrow": {}, "long": {"trainer": {"epochs": 2}}},
            ),
        },
        "seeds": (0, 1),
        "model": CaptionerConfig(
            stack=StackConfig(width=8, depth=0),
            augment=AugmentConfig(channel_dropout=0.0),
            decoder=DecoderConfig(vocabulary=1, width=8, depth=2),
            window=3,
        ),
        "words": TokenizerConfig(words=300, lower=True),
        "trainer": TrainerConfig(epochs=1, batch_size=6, accelerator="cpu", wandb="off"),
        "generations": {
            "greedy": GenerationConfig(max_tokens=6),
            "beam": GenerationConfig(kind="beam", beams=2, max_tokens=6),
        },
        "neighbours": (1, 4),
    }
    assert benchmark_captions(data=config, output=output, **usual | options) == 0
    return json.loads((output / "benchmark.json").read_text())


def test_every_recipe_and_the_neighbours_have_a_row_of_all_seeds(
    config: DataConfig, tmp_path: Path
) -> None:
    found = run(config, tmp_path / "out")
    rows = {row["name"]: row for row in found["rows"]}
    neighbours = ["nearest neighbour", "nearest neighbours"]
    assert [*rows] == [*neighbours, "mamba", "lstm", "transformer"]
    assert [rows[name]["choice"] for name in neighbours] == ["k = 1", "k = 4"]
    assert [len(row["scores"]) for row in rows.values()] == [1, 1, 2, 2, 2]
    assert len(found["runs"]) == 8
    table = (tmp_path / "out" / "benchmark.md").read_text()
    assert all(f"| {name} |" in table for name in rows)
    nearest = next(iter(rows.values()))
    assert nearest["scores"][0]["bleu1"] == pytest.approx(100)  # each neighbour is the same animal


def test_a_second_call_trains_nothing_and_says_the_same(config: DataConfig, tmp_path: Path) -> None:
    first = run(config, tmp_path / "out")
    runs = [*(tmp_path / "out" / "runs").rglob("run.json")]
    times = [path.stat().st_mtime_ns for path in runs]
    assert run(config, tmp_path / "out") == first
    assert [path.stat().st_mtime_ns for path in runs] == times


def test_other_training_captions_and_other_videos_to_describe_are_another_run(
    config: DataConfig, tmp_path: Path
) -> None:
    data = load_data(config)
    settings = CaptionSettings()
    one = CaptionRun(name="x", settings=settings, data=config, seed=0, ways={})
    place = one.folder(tmp_path, data)
    first = data.train[0]
    said = tuple(replace(caption, text="a horse runs") for caption in first.captions)
    other = replace(data, train=(replace(first, captions=said), *data.train[1:]))
    assert one.folder(tmp_path, other) != place
    assert one.folder(tmp_path, replace(data, test=data.test[1:])) != place
    scored = tuple(replace(item, captions=said) for item in data.test)
    assert one.folder(tmp_path, replace(data, test=scored)) == place


def test_test_videos_have_no_say_in_a_choice(config: DataConfig, tmp_path: Path) -> None:
    before = run(config, tmp_path / "out")
    for path in (tmp_path / "out" / "runs").rglob("run.json"):  # as if all had told of other tests
        record = json.loads(path.read_text())
        for way in record["captions"]["test"].values():
            way |= dict.fromkeys(way, "a dog runs")
        path.write_text(json.dumps(record))
    after = run(config, tmp_path / "out")
    for row, other in zip(before["rows"], after["rows"], strict=True):
        assert row["choice"] == other["choice"]
        assert row["validation"] == other["validation"]


def test_neighbours_agree_as_by_the_cosines_of_weighted_ngrams(config: DataConfig) -> None:
    random = np.random.default_rng(3)
    words = ["a", "dog", "cat", "runs", "sits", "here"]
    items = [
        VideoItem(
            name=f"v{number}",
            features=random.standard_normal((5, 3)).astype(np.float32),
            labels=np.full(5, -1),
            timestamps=np.arange(5.0),
            captions=tuple(
                Caption(start=0.0, end=5.0, text=" ".join(random.choice(words, 4)))
                for _ in range(3)
            ),
        )
        for number in range(6)
    ]
    train, asked = items[:5], items[5]
    told = NearestNeighbours(train).caption([asked], neighbours=2)["v5"]

    means = np.stack([item.read_features().mean(0) for item in items])
    moved = (means - means[:5].mean(0)) / means[:5].std(0)
    unit = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    nearest = np.argsort(-(unit[:5] @ unit[5]))[:2]

    def ngrams(text: str) -> Counter[tuple[str, ...]]:
        own = tokenize(text)
        return Counter(tuple(own[i : i + n]) for n in range(1, 5) for i in range(len(own) - n + 1))

    spread = Counter(
        ngram
        for item in train
        for ngram in {n for caption in item.captions for n in ngrams(caption.text)}
    )

    def vector(text: str) -> dict[tuple[str, ...], float]:
        return {n: count * log(5 / spread[n]) for n, count in ngrams(text).items()}

    def cosine(one: str, other: str) -> float:
        a, b = vector(one), vector(other)
        norms = sqrt(sum(x * x for x in a.values()) * sum(x * x for x in b.values()))
        return sum(a[n] * b.get(n, 0.0) for n in a) / norms if norms else 0.0

    pool = [caption.text for index in nearest for caption in train[index].captions]
    agreed = [sum(cosine(text, other) for other in pool) for text in pool]
    assert told == pool[int(np.argmax(agreed))]


def test_what_cannot_be_compared_is_refused(config: DataConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="jobs must be 1 or more"):
        run(config, tmp_path / "out", jobs=0)
    with pytest.raises(ValueError, match=r"recipes\.a\.model\.widht"):
        run(config, tmp_path / "out", recipes={"a": CaptionRecipe(model={"widht": 1})})
    clips = json.loads((Path(config.root) / "clips.json").read_text())
    for clip in clips.values():
        clip["split"] = "train"
    (Path(config.root) / "clips.json").write_text(json.dumps(clips))
    assert len(load_data(config).test) > 0  # drawn by name


def test_the_shipped_config_compares_with_equal_care_and_chooses_by_validation() -> None:
    path = ROOT / "configs" / "msrvtt_1k_captioning_benchmark.yaml"
    parser = build_parser(arguments := ["benchmark", f"--config={path}"])
    options = parser.instantiate(parser.parse_args(arguments)).benchmark
    assert str(options.output) == f"runs/{path.stem}"
    assert len(options.seeds) == 5
    assert options.data.numbers == "msrvtt_1k"
    assert {*options.recipes} == {"vidmamba", "mean_pooled_lstm", "transformer_decoder"}
    variants = [recipe.variants for recipe in options.recipes.values()]
    assert all(own == variants[0] for own in variants)
    # nothing but the network differs
    assert all(not (r.loss or r.optim or r.trainer) for r in options.recipes.values())
