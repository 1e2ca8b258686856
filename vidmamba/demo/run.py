"""The demonstration, step by step."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from vidmamba.config import to_plain
from vidmamba.data import DataConfig, load_data
from vidmamba.datasets.errands import ErrandsConfig, generate_errands, read_errands
from vidmamba.datasets.records import LabelledSet
from vidmamba.demo.captions import WITHOUT, Described, describe, print_captions
from vidmamba.demo.config import DemoConfig
from vidmamba.evaluation import Evaluation, evaluate_set, score_table
from vidmamba.inference import predict_videos
from vidmamba.models.augment import AugmentConfig
from vidmamba.models.backbone import BackboneConfig
from vidmamba.models.segmenter import SegmenterConfig
from vidmamba.nn.stack import StackConfig
from vidmamba.tasks.checkpoints import load_captioning_task, load_task
from vidmamba.tasks.optim import OptimConfig
from vidmamba.tasks.segmentation import LossConfig, make_task
from vidmamba.training import TrainedRun, TrainerConfig, fit, seed_everything

MODEL = SegmenterConfig(stack=StackConfig(width=64, depth=2), augment=AugmentConfig(noise=0.5))
"""Chosen on the validation part, as the same run in configs/errands_segmentation.yaml."""

PROBE = SegmenterConfig(stack=StackConfig(width=64, depth=0), augment=AugmentConfig(noise=0.5))
"""The same without its temporal blocks: frame by frame."""


def run_demo(out: Path, config: DemoConfig) -> dict[str, Any]:
    """Run it all, print a table, and return what stands in ``out/summary.json``."""
    start = time.perf_counter()
    log = Console(stderr=True)
    seed_everything(config.seed)
    videos = out / "errands"
    log.rule("1/6 Render errands: surveillance clips with known actions")
    errands = ErrandsConfig(
        videos=config.videos,
        gap=config.gap,
        train_gap=config.train_gap,
        validation=config.validation,
        test=config.test,
        seed=config.seed,
    )
    with Progress(console=log) as bar:
        line = bar.add_task("render ", total=config.videos)
        generate_errands(videos, errands, progress=lambda done, _: bar.update(line, completed=done))
    log.rule("2/6 Embed every frame with a frozen ImageNet backbone")
    data_config = DataConfig(
        root=str(videos),
        format="errands",
        fps=config.fps,
        backbone=BackboneConfig(image_size=config.image_size, pooling="stages"),
    )
    data = load_data(data_config)
    log.rule("3/6 Train a frame-wise probe: what single frames tell")
    quiet = replace(config, wandb="off")
    _, probe_scores = _train(out / "probe", data, data_config, quiet, PROBE)
    log.rule("4/6 Train a bidirectional Mamba: what time tells")
    run, scores = _train(out / "model", data, data_config, config, MODEL)
    log.rule("5/6 Train a captioner of the same stack, and one that carries nothing")
    captioner = describe(out / "captioner", data, data_config, config)
    without = describe(out / "captioner_without", data, data_config, quiet, model=WITHOUT)
    log.rule("6/6 Predict test videos and write their pages")
    pages = _write_pages(out / "reports", videos, run, scores, config.pages)
    pages += _write_captions(out / "captions", videos, captioner, config.pages)
    summary = {
        "model": scores.scores,
        "probe": probe_scores.scores,
        "captions": captioner.as_dict(),
        "captions_without_stack": without.as_dict(),
        "seconds": round(time.perf_counter() - start, 1),
        "checkpoint": str(run.best),
        "captioner": str(captioner.run.best),
        "reports": [str(page) for page in pages],
        "wandb_dir": str(run.logs),
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    _print_results(summary, captioner, without)
    return summary


def _train(
    output: Path,
    data: LabelledSet,
    data_config: DataConfig,
    config: DemoConfig,
    model: SegmenterConfig,
) -> tuple[TrainedRun, Evaluation]:
    """Train one model, and score its best checkpoint on the test videos."""
    seed_everything(config.seed)
    task = make_task(
        data,
        model=model,
        optim=OptimConfig(),
        loss=LossConfig(),
        data_config=to_plain(data_config),
    )
    trainer = TrainerConfig(epochs=config.epochs, batch_size=4, wandb=config.wandb)
    run = fit(task, data, trainer, seed=config.seed, output=output)
    return run, evaluate_set(load_task(run.best), data, part="test")


def _write_pages(
    out: Path, videos: Path, run: TrainedRun, scores: Evaluation, number: int
) -> list[Path]:
    """Predict some test videos from their raw files, true timelines beside the predicted ones."""
    clips = read_errands(videos).part("test")[:number]
    report = predict_videos(
        [clip.media for clip in clips],
        load_task(run.best),
        out,
        truths={clip.media: clip.timeline for clip in clips},
        scores={clip.media: scores.of_video(clip.name) for clip in clips},
    )
    return [*report.pages.values()]


def _write_captions(out: Path, videos: Path, captioner: Described, number: int) -> list[Path]:
    """Describe some test videos from their raw files: WebVTT and a page, the truth beside."""
    clips = read_errands(videos).part("test")[:number]
    report = predict_videos(
        [clip.media for clip in clips],
        load_captioning_task(captioner.run.best),
        out,
        truths={clip.media: clip.timeline for clip in clips},
    )
    return [*report.pages.values()]


def _print_results(summary: dict[str, Any], captioner: Described, without: Described) -> None:
    rows = {"Mamba, bidirectional": summary["model"], "frame-wise probe": summary["probe"]}
    console = Console()
    console.print(score_table(rows, title="Held-out errands"))
    print_captions(captioner, without)
    print(f"checkpoints {summary['checkpoint']} {summary['captioner']}")
    print(f"W&B run     {summary['wandb_dir']}")
    for page in summary["reports"]:
        print(f"page        {page}")
    folder = Path(summary["checkpoint"]).parents[1]
    print(f"figures     {folder / 'summary.json'} ({summary['seconds']:.0f} s in all)")
