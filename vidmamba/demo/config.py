"""The demonstration's size."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Size of the demonstration; the defaults take under five minutes on two cores."""

    videos: int = 260
    """Videos rendered, for training, validation and test together."""

    validation: float = 0.04
    """Share of the videos to choose by."""

    test: float = 0.06
    """Share of the videos to test on."""

    gap: tuple[int, int] = (200, 240)
    """Fewest and most frames between what a person does and the leaving that depends on it, in the
    videos for validation and test."""

    train_gap: tuple[int, int] = (20, 220)
    """The same in the training videos: where short gaps stand among the long ones, remembering is
    learned sooner."""

    image_size: int = 112
    """Pixels across, of the frames that the backbone sees."""

    fps: float = 5.0
    """Frames embedded a second, half of those that there are: more videos in the same time."""

    epochs: int = 12
    """Passes over the training videos of the models that name frames."""

    caption_epochs: int = 22
    """Passes of those that write sentences."""

    seed: int = 7
    """Seeds the videos, the weights and the order."""

    wandb: Literal["offline", "online", "off"] = "offline"
    """Where the W&B log goes."""

    pages: int = 3
    """Test videos that get HTML pages: one of segments, one of sentences."""
