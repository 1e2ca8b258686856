"""The ``vidmamba`` command: each sub-command is a plain function, its options are the signature."""

import json
import sys
from collections.abc import Callable, Sequence
from inspect import getdoc, signature
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, set_parsing_settings
from rich.console import Console

from vidmamba import __version__
from vidmamba.config import from_plain, to_plain
from vidmamba.data import DataConfig, load_data
from vidmamba.demo import DemoConfig, run_demo
from vidmamba.evaluation import Convention, evaluate_set, score_table
from vidmamba.features.extract import extract_features
from vidmamba.features.videos import expand_videos
from vidmamba.inference import predict_videos
from vidmamba.models.backbone import EMBEDDED, BackboneConfig
from vidmamba.models.segmenter import SegmenterConfig
from vidmamba.tasks.checkpoints import load_task
from vidmamba.tasks.optim import OptimConfig
from vidmamba.tasks.segmentation import LossConfig, make_task
from vidmamba.training import TrainerConfig, fit, seed_everything

EPILOG = (
    "Results go to stdout, logs and progress to stderr; the exit code is 0 where all went well."
)


def demo(*, out: Path = Path("demo"), settings: DemoConfig = DemoConfig()) -> int:
    """Render videos, embed, train, score and look: the whole way, offline, in minutes.

    Args:
        out: Folder for all that is made; delete it to start anew.
        settings: Size of the run.
    """
    run_demo(out, settings)
    return 0


def extract(
    videos: list[str],
    *,
    out: Path,
    backbone: str = EMBEDDED,
    weights: str | None = None,
    image_size: int | None = None,
    pooling: Literal["average", "token"] = "average",
    fps: float | None = None,
    decoder: Literal["auto", "decord", "pyav"] = "auto",
) -> int:
    """Embed the frames of videos once, with a frozen backbone, into a feature store.

    A second run does nothing, a killed run goes on; broken videos are listed at the end.

    Args:
        videos: Video files, folders of them, or glob patterns.
        out: Folder of the store; its index.json lists what is there.
        backbone: Any image model of timm, by name.
        weights: embedded (for the default backbone), pretrained (from the hub), or a file; by
            default embedded where they exist, pretrained elsewhere.
        image_size: Pixels across, of the square that the backbone sees; its own by default.
        pooling: average over the picture, or the class token of a transformer.
        fps: Frames embedded a second; null for every frame.
        decoder: auto takes decord where it is right for the file, PyAV elsewhere.
    """
    config = BackboneConfig(
        name=backbone,
        weights=weights or ("embedded" if backbone == EMBEDDED else "pretrained"),
        image_size=image_size,
        pooling=pooling,
    )
    report = extract_features(
        expand_videos(videos), backbone=config, fps=fps, out=out, decoder=decoder
    )
    print(f"{len(report.done)} embedded, {len(report.skipped)} were there: {out / 'index.json'}")
    return _report_troubles(report.damaged, report.failed)


def train(
    *,
    data: DataConfig,
    output: Path,
    model: SegmenterConfig = SegmenterConfig(),
    optim: OptimConfig = OptimConfig(),
    loss: LossConfig = LossConfig(),
    trainer: TrainerConfig = TrainerConfig(),
    seed: int = 0,
) -> int:
    """Train an action-segmentation model; one YAML in configs/ is one complete run.

    Args:
        data: What to train on.
        output: Folder for checkpoints and logs.
        model: The network.
        optim: Optimiser and schedule.
        loss: What is minimised.
        trainer: Length, device and logs.
        seed: Seeds the weights and the order of the videos.
    """
    seed_everything(seed)
    labelled = load_data(data)
    task = make_task(labelled, model=model, optim=optim, loss=loss, data_config=to_plain(data))
    run = fit(task, labelled, trainer, seed=seed, output=output)
    if labelled.validation:
        best = evaluate_set(load_task(run.best), labelled, part="validation")
        Console().print(score_table({"validation": best.scores}))
    print(f"checkpoint {run.best}\nlogs       {run.logs}")
    return 0


def evaluate(
    *,
    checkpoint: Path,
    config: Path | None = None,
    part: Literal["test", "validation", "train"] = "test",
    convention: Convention = "per_video",
    out: Path | None = None,
) -> int:
    """Score a checkpoint on videos it was not trained on.

    Args:
        checkpoint: What `train` wrote.
        config: A training config whose `data` is scored; by default the checkpoint's own.
        part: Which videos are scored; test ones were never chosen by.
        convention: per_video averages each video's score (Lea et al. 2017); pooled counts the
            segments of all videos together (MS-TCN).
        out: File for the scores, as JSON.
    """
    task = load_task(checkpoint)
    data = _data_of(config) if config else from_plain(DataConfig, task.data)
    evaluation = evaluate_set(task, load_data(data), part=part, convention=convention)
    Console().print(score_table({f"{part}, {convention}": evaluation.scores}))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(evaluation.as_dict(), indent=1) + "\n")
    return 0


def predict(videos: list[str], *, checkpoint: Path, out: Path) -> int:
    """Name the actions in raw videos: JSON, CSV, WebVTT and an HTML page for each.

    Args:
        videos: Video files, folders of them, or glob patterns.
        checkpoint: What `train` or `demo` wrote.
        out: Folder for the results.
    """
    report = predict_videos(expand_videos(videos), load_task(checkpoint), out)
    for page in report.pages.values():
        print(page)
    return _report_troubles(report.damaged, report.failed)


COMMANDS: dict[str, Callable[..., int]] = {
    "demo": demo,
    "extract": extract,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
}


def build_parser() -> ArgumentParser:
    """Return the parser of the whole command line."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(
        prog="vidmamba",
        version=__version__,
        description="Understand long videos: embed frames, train on them, name what happens when.",
        epilog=EPILOG,
    )
    commands = parser.add_subcommands(dest="command")
    for name, function in COMMANDS.items():
        summary = (getdoc(function) or "").split("\n\n")[0]
        commands.add_subcommand(name, _command_parser(function), help=summary)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = build_parser()
    options = parser.instantiate(parser.parse_args(arguments))
    values = options[options.command].as_dict()
    function = COMMANDS[options.command]
    try:
        return function(**{name: values[name] for name in signature(function).parameters})
    except (ValueError, OSError) as error:
        print(f"vidmamba {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it can", file=sys.stderr)
        return 130


def _command_parser(function: Callable[..., int]) -> ArgumentParser:
    parser = ArgumentParser(description=(getdoc(function) or "").split("\nArgs:")[0])
    parameters = signature(function).parameters
    if "config" not in parameters:
        parser.add_argument("--config", action="config", help="YAML file with any of these options")
    if "videos" in parameters:
        help_text = "video files, folders of them, or glob patterns"
        parser.add_argument("videos", nargs="+", type=str, metavar="VIDEO", help=help_text)
    parser.add_function_arguments(function, skip={"videos"})
    return parser


def _data_of(config: Path) -> DataConfig:
    """Read the `data` part of a training config."""
    parser = _command_parser(train)
    options: Any = parser.instantiate(parser.parse_args([f"--config={config}"]))
    return options.data


def _report_troubles(damaged: dict[Path, str], failed: dict[Path, str]) -> int:
    for path, line in damaged.items():
        print(f"damaged: {path}: {line}", file=sys.stderr)
    for line in failed.values():
        print(f"failed: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
