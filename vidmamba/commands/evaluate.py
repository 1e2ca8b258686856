"""`vidmamba evaluate`: scores on videos that a model was not trained on."""

import json
from pathlib import Path

from rich.console import Console

from vidmamba.caption_evaluation import CaptionEvaluation, as_evaluated, evaluate_captions
from vidmamba.commands.decoders import decoder_of
from vidmamba.commands.parsing import task_of, values_of
from vidmamba.commands.train import TRAIN
from vidmamba.config import from_plain
from vidmamba.data import DataConfig, load_data
from vidmamba.decoding import DecodingConfig
from vidmamba.evaluation import (
    ClassEvaluation,
    Convention,
    Evaluation,
    Part,
    evaluate_classes,
    evaluate_set,
    score_table,
)
from vidmamba.metrics.captions import KNOWN_DIFFERENCES
from vidmamba.metrics.videos import CompatName
from vidmamba.submission import write_submission
from vidmamba.tasks.captioning import CaptioningTask
from vidmamba.tasks.checkpoints import load_checkpoint
from vidmamba.tasks.classification import ClassificationTask
from vidmamba.tasks.segmentation import SegmentationTask


def evaluate(
    *,
    checkpoint: Path,
    config: Path | None = None,
    part: Part = "test",
    convention: Convention = "per_video",
    compat: CompatName | None = None,
    decoding: DecodingConfig = DecodingConfig(),
    out: Path | None = None,
    submission: Path | None = None,
) -> int:
    """Score a checkpoint on videos it was not trained on.

    Args:
        checkpoint: What `train` wrote.
        config: A training config whose `data` is scored; by default the checkpoint's own.
        part: Which videos are scored; test ones were never chosen by.
        convention: per_video averages each video's score (Lea et al. 2017); pooled counts the
            segments of all videos together (MS-TCN).
        compat: A published evaluator to score exactly as, by name; it settles the convention too
            (segmentation, both).
        decoding: How a segmentation model's frames get their labels; what it learns from are the
            training videos.
        out: File for the scores, as JSON.
        submission: File for a captioner's sentences in the form that ActivityNet's server takes.
    """
    task = load_checkpoint(checkpoint)
    if not isinstance(task, SegmentationTask | ClassificationTask | CaptioningTask):
        raise ValueError(f"{checkpoint}: no evaluation for a model of {task.hparams['kind']}")
    decode = decoder_of(task, decoding, checkpoint)
    if not isinstance(task, SegmentationTask) and (compat or convention != "per_video"):
        option = "compat" if compat else "convention"
        raise ValueError(f"--{option} is for segmentation; {checkpoint} is of {task.kind}")
    if not isinstance(task, CaptioningTask) and submission is not None:
        raise ValueError(f"--submission is for captions; {checkpoint} writes none")
    source = _data_of(config) if config else from_plain(DataConfig, task.data)
    data = load_data(source)
    evaluation: Evaluation | ClassEvaluation | CaptionEvaluation
    if isinstance(task, SegmentationTask):
        evaluation = evaluate_set(
            task, data, part=part, convention=convention, compat=compat, decode=decode
        )
        title = f"{part}, {compat or convention}"
    elif isinstance(task, ClassificationTask):
        evaluation, title = evaluate_classes(task, data, part=part), part
    else:
        evaluation, title = evaluate_captions(task, data, part=part), part
    console = Console()
    console.print(score_table({title: evaluation.scores}))
    if isinstance(evaluation, CaptionEvaluation):
        if evaluation.who_did_what:
            console.print(score_table({"right, %": evaluation.who_did_what}, title="Who did what"))
        for line in KNOWN_DIFFERENCES:
            console.print(f"{line}.", highlight=False, soft_wrap=True)
    if submission is not None and isinstance(evaluation, CaptionEvaluation):
        sent = as_evaluated(evaluation.predicted)
        write_submission(sent, submission, external_data=_backbone_of(task))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(evaluation.as_dict(), indent=1) + "\n")
    return 0


def _backbone_of(task: CaptioningTask | SegmentationTask | ClassificationTask) -> str:
    """Say what was learnt from other data: the frames' backbone."""
    backbone = task.feature_key.get("backbone")
    return "frame features made elsewhere" if backbone is None else f"backbone {backbone['name']}"


def _data_of(config: Path) -> DataConfig:
    """Read the `data` part of a training config."""
    arguments = [f"--config={config}"]
    values = values_of(TRAIN[task_of(arguments, TRAIN)], arguments)
    data = values["data"]
    assert isinstance(data, DataConfig)
    return data
