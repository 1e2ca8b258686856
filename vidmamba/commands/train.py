"""`vidmamba train`: one function a task."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from rich.console import Console

from vidmamba.caption_evaluation import evaluate_captions
from vidmamba.commands.decoders import remember_training
from vidmamba.config import to_plain
from vidmamba.data import DataConfig, load_data
from vidmamba.evaluation import evaluate_classes, evaluate_set, score_table
from vidmamba.models.captioner import CaptionerConfig
from vidmamba.models.classifier import ClassifierConfig
from vidmamba.models.generation import GenerationConfig
from vidmamba.models.segmenter import SegmenterConfig
from vidmamba.models.tokenizer import TokenizerConfig
from vidmamba.tasks.caption_batches import CaptionBatchConfig
from vidmamba.tasks.caption_losses import CaptionLossConfig
from vidmamba.tasks.caption_setup import make_captioning_task
from vidmamba.tasks.captioning import Score
from vidmamba.tasks.checkpoints import load_captioning_task, load_checkpoint, load_task
from vidmamba.tasks.classification import ClassificationTask, make_classification_task
from vidmamba.tasks.optim import OptimConfig
from vidmamba.tasks.segmentation import LossConfig, make_task
from vidmamba.training import TrainedRun, TrainerConfig, fit, seed_everything


def train_segmentation(
    *,
    data: DataConfig,
    output: Path,
    task: Literal["segmentation"] = "segmentation",
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
        task: What is trained: segmentation (actions in time), classification (whole videos) or
            captioning (sentences with times); each has options of its own, which
            `vidmamba train --task NAME --help` lists.
        model: The network.
        optim: Optimiser and schedule.
        loss: What is minimised.
        trainer: Length, device and logs.
        seed: Seeds the weights and the order of the videos.
    """
    seed_everything(seed)
    labelled = load_data(data)
    module = make_task(labelled, model=model, optim=optim, loss=loss, data_config=to_plain(data))
    remember_training(module, labelled)
    run = fit(module, labelled, trainer, seed=seed, output=output)
    if labelled.validation:
        best = evaluate_set(load_task(run.best), labelled, part="validation")
        Console().print(score_table({"validation": best.scores}))
    return _report(run)


def train_classification(
    *,
    data: DataConfig,
    output: Path,
    task: Literal["classification"] = "classification",
    model: ClassifierConfig = ClassifierConfig(),
    optim: OptimConfig = OptimConfig(),
    label_smoothing: float = 0.0,
    trainer: TrainerConfig = TrainerConfig(),
    seed: int = 0,
) -> int:
    """Train a model that names whole videos; one YAML in configs/ is one complete run.

    Args:
        data: What to train on; its videos must have classes of their own.
        output: Folder for checkpoints and logs.
        task: What is trained; segmentation and others have options of their own.
        model: The network.
        optim: Optimiser and schedule.
        label_smoothing: Share of each target that is spread over all classes (one class a video).
        trainer: Length, device and logs.
        seed: Seeds the weights and the order of the videos.
    """
    seed_everything(seed)
    labelled = load_data(data)
    module = make_classification_task(
        labelled,
        model=model,
        optim=optim,
        label_smoothing=label_smoothing,
        data_config=to_plain(data),
    )
    run = fit(module, labelled, trainer, seed=seed, output=output)
    if labelled.validation:
        best = load_checkpoint(run.best)
        assert isinstance(best, ClassificationTask)
        scores = evaluate_classes(best, labelled, part="validation").scores
        Console().print(score_table({"validation": scores}))
    return _report(run)


def train_captioning(
    *,
    data: DataConfig,
    output: Path,
    task: Literal["captioning"] = "captioning",
    model: CaptionerConfig = CaptionerConfig(),
    words: TokenizerConfig = TokenizerConfig(),
    optim: OptimConfig = OptimConfig(),
    loss: CaptionLossConfig = CaptionLossConfig(),
    batches: CaptionBatchConfig = CaptionBatchConfig(),
    generation: GenerationConfig = GenerationConfig(),
    score: Score = "caption",
    segmenter: Path | None = None,
    language_model: Path | None = None,
    trainer: TrainerConfig = TrainerConfig(),
    seed: int = 0,
) -> int:
    """Train a model that describes videos in sentences with times, and names frames if asked to.

    Args:
        data: What to train on; its videos must have captions.
        output: Folder for checkpoints and logs.
        task: What is trained; segmentation and others have options of their own.
        model: The network.
        words: The tokenizer, trained on the training captions.
        optim: Optimiser and schedule.
        loss: What is minimised: words, times and, for both tasks from one stack, frames.
        batches: What training sees of the captions.
        generation: How captions are chosen.
        score: What chooses the checkpoint: caption (SODA_c, of clips CIDEr) or loss.
        segmenter: Checkpoint of a segmentation model of the same stack to start from.
        language_model: Folder of a published Mamba or Mamba-2 language model to start from, in the
            Hugging Face format.
        trainer: Length, device and logs.
        seed: Seeds the weights and the order of the videos.
    """
    seed_everything(seed)
    labelled = load_data(data)
    module = make_captioning_task(
        labelled,
        model=model,
        words=words,
        optim=optim,
        loss=loss,
        batches=batches,
        generation=generation,
        score=score,
        segmenter=None if segmenter is None else load_task(segmenter),
        language_model=language_model,
        data_config=to_plain(data),
    )
    run = fit(module, labelled, trainer, seed=seed, output=output, collate=module.collate)
    if labelled.validation:
        best = load_captioning_task(run.best)
        scores = evaluate_captions(best, labelled, part="validation").scores
        Console().print(score_table({"validation": scores}))
    return _report(run)


TRAIN: dict[str, Callable[..., int]] = {
    "segmentation": train_segmentation,
    "classification": train_classification,
    "captioning": train_captioning,
}
"""What `vidmamba train --task NAME` calls."""


def _report(run: TrainedRun) -> int:
    print(f"checkpoint {run.best}\nlogs       {run.logs}")
    return 0
