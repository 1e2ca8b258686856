"""The video classifier: frame features in, one vector of class logits a video out."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor, nn

from vidmamba.models.augment import AugmentConfig
from vidmamba.models.encoder import Encoder
from vidmamba.models.heads import AttentionPool
from vidmamba.nn.stack import StackConfig


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """Shape of a `Classifier`."""

    stack: StackConfig = StackConfig()
    """The temporal model."""

    augment: AugmentConfig = AugmentConfig()
    """How training changes the features."""

    attention_width: int = 64
    """Width of the layer that weighs the frames."""

    def __post_init__(self) -> None:
        if self.attention_width < 1:
            raise ValueError(f"attention_width must be at least 1, got {self.attention_width}")


class Classifier(nn.Module):
    """Encode, weigh the frames, name the video."""

    def __init__(self, config: ClassifierConfig, *, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.encoder = Encoder(config.stack, config.augment, num_features=num_features)
        self.pool = AttentionPool(config.stack.width, config.attention_width)
        self.classify = nn.Linear(config.stack.width, num_classes)

    def forward(
        self, features: Float[Tensor, "B T F"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B L"]:
        """Return one logit a video and class; padding (mask False) changes nothing."""
        return self.classify(self.pool(self.encoder(features, mask), mask))
