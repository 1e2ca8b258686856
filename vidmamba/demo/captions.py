"""The demonstration's sentences: a captioner with the temporal stack, and the same without."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from vidmamba.caption_evaluation import CaptionEvaluation, evaluate_captions
from vidmamba.config import to_plain
from vidmamba.data import DataConfig
from vidmamba.datasets.records import LabelledSet
from vidmamba.demo.config import DemoConfig
from vidmamba.evaluation import score_table
from vidmamba.models.augment import AugmentConfig
from vidmamba.models.captioner import CaptionerConfig
from vidmamba.models.decoder import DecoderConfig
from vidmamba.models.tokenizer import TokenizerConfig
from vidmamba.nn.stack import StackConfig
from vidmamba.tasks.caption_batches import CaptionBatchConfig
from vidmamba.tasks.caption_losses import CaptionLossConfig
from vidmamba.tasks.caption_setup import make_captioning_task
from vidmamba.tasks.checkpoints import load_captioning_task
from vidmamba.tasks.optim import OptimConfig
from vidmamba.training import TrainedRun, TrainerConfig, fit, seed_everything

CAPTIONER = CaptionerConfig(
    stack=StackConfig(width=64, depth=2),
    augment=AugmentConfig(channel_dropout=0.1, noise=0.3, offset=0.5),
    decoder=DecoderConfig(vocabulary=1, width=96, depth=1, dropout=0.1),
    event_slots=4,
)
"""As in configs/errands_captioning.yaml; chosen on the validation part."""

WITHOUT = replace(CAPTIONER, stack=replace(CAPTIONER.stack, depth=0), event_slots=0)
"""The same with nothing that is carried, from frame to frame or from event to event."""

BATCHES = CaptionBatchConfig(again=1)
LOSS = CaptionLossConfig()
WORDS = TokenizerConfig(words=500)
OPTIM = OptimConfig(lr=3e-3)
BATCH_SIZE = 4

SHOWN = ("sentence", "subject", "verb", "object", "place")


class Described(NamedTuple):
    """A trained captioner, and what it is worth."""

    run: TrainedRun
    scores: CaptionEvaluation

    def as_dict(self) -> dict[str, Any]:
        """Return scores and who did what, in percent."""
        return {**self.scores.scores, "who_did_what": self.scores.who_did_what}


def describe(
    output: Path,
    data: LabelledSet,
    data_config: DataConfig,
    config: DemoConfig,
    *,
    model: CaptionerConfig = CAPTIONER,
) -> Described:
    """Train a captioner, and score its checkpoint on the test videos."""
    seed_everything(config.seed)
    task = make_captioning_task(
        data,
        model=model,
        optim=OPTIM,
        loss=LOSS,
        # where nothing can be carried, what was before is not asked for
        batches=BATCHES if model.stack.depth else replace(BATCHES, again=0),
        words=WORDS,
        data_config=to_plain(data_config),
    )
    epochs = config.caption_epochs
    trainer = TrainerConfig(
        epochs=epochs, batch_size=BATCH_SIZE, validate_every=epochs, wandb=config.wandb
    )
    run = fit(task, data, trainer, seed=config.seed, output=output, collate=task.collate)
    return Described(run, evaluate_captions(load_captioning_task(run.best), data, part="test"))


def print_captions(with_stack: Described, without: Described) -> None:
    """Print who did what, all sentences and those that need memory, and the field's scores."""
    both = {"Mamba, bidirectional": with_stack.scores, "without what is carried": without.scores}
    console = Console()
    for prefix, title in (
        ("", "Who did what, sentences of held-out errands: right, %"),
        ("memory_", "The same of leaving: with which thing, or without, only memory tells"),
    ):
        rows = {
            name: {
                part: scores.who_did_what[prefix + part]
                for part in SHOWN
                if prefix + part in scores.who_did_what
            }
            for name, scores in both.items()
        }
        console.print(score_table(rows, title=title))
    shown = ("soda_c", "cider_d", "bleu4")
    rows = {name: {score: s.scores[score] for score in shown} for name, s in both.items()}
    console.print(score_table(rows, title="Dense captions, ActivityNet's protocol"))
