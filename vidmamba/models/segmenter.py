"""The action segmenter: frame features in, class logits for every frame out."""

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor, nn

from vidmamba.models.augment import AugmentConfig
from vidmamba.models.encoder import Encoder
from vidmamba.models.heads import BoundaryHead, FrameHead
from vidmamba.nn.packing import hold_last, pack, unpack
from vidmamba.nn.stack import Stack, StackConfig


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """Shape of a `Segmenter`."""

    stack: StackConfig = StackConfig()
    """The temporal model."""

    augment: AugmentConfig = AugmentConfig()
    """How training changes the features."""

    standardize_videos: bool = False
    """Whether each video's features are standardised once more, by its own frames, so that what a
    room or a person adds to all of them goes; a video's frames must be known before the first is
    named."""

    lookahead: int = 0
    """Frames to come that a causal stack waits for before it names a frame."""

    refinements: int = 0
    """Further stages; each reads the probabilities of the one before (MS-TCN)."""

    refinement: StackConfig = StackConfig(width=64, depth=2)
    """The temporal model of each further stage."""

    see_states: bool = False
    """Whether each further stage also reads the states that the first stage named the frames by, so
    that it can tell anew what was named wrongly."""

    boundaries: bool = False
    """Whether a second head tells where segments begin."""

    def __post_init__(self) -> None:
        if min(self.lookahead, self.refinements) < 0:
            raise ValueError(f"lookahead and refinements must not be negative, got {self}")
        if self.see_states and not self.refinements:
            raise ValueError(
                "see_states: there is no further stage that could; set refinements to 1 or more, "
                "or leave it off"
            )
        if self.lookahead and self.stack.direction != "causal":
            raise ValueError(
                f"a lookahead of {self.lookahead} frames is for causal stacks: a bidirectional one "
                "sees the whole video"
            )
        if self.standardize_videos and self.stack.direction == "causal":
            raise ValueError(
                "a causal model cannot know a whole video's mean: leave standardize_videos off"
            )
        if self.refinements and self.refinement.direction != self.stack.direction:
            raise ValueError(
                "a causal model has causal stages alone: stack and refinement must have one "
                f"direction, got {self.stack.direction} and {self.refinement.direction}"
            )


class FrameScores(NamedTuple):
    """What a segmenter says of each frame; zeros in padding."""

    logits: Float[Tensor, "B T C"]
    """Of the classes, from the last stage."""

    stages: tuple[Float[Tensor, "B T C"], ...]
    """The logits of the stages before it, first to last."""

    boundaries: Float[Tensor, "B T"] | None
    """Logits of a segment's beginning at a frame; None without that head."""


class Segmenter(nn.Module):
    """Encode, name every frame, and, with refinements, name them again by what was said."""

    def __init__(self, config: SegmenterConfig, *, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.lookahead = config.lookahead
        self.encoder = Encoder(
            config.stack,
            config.augment,
            num_features=num_features,
            each_video=config.standardize_videos,
        )
        self.head = FrameHead(config.stack.width, num_classes)
        self.boundary_head = BoundaryHead(config.stack.width) if config.boundaries else None
        seen = config.stack.width if config.see_states else 0
        self.refinements = nn.ModuleList(
            Refinement(config.refinement, num_classes, seen=seen) for _ in range(config.refinements)
        )

    def forward(self, features: Float[Tensor, "B T F"], mask: Bool[Tensor, "B T"]) -> FrameScores:
        """Return the logits of every stage; those of padding (mask False) are zeros."""
        states, offsets = pack(self.encoder(features, mask), mask)
        if self.lookahead:
            states = hold_last(states, self.lookahead, offsets)
        stages = [self.head(states)]
        for refinement in self.refinements:
            stages.append(refinement(stages[-1], states, offsets=offsets))
        *earlier, logits = (unpack(stage, mask) for stage in stages)
        boundaries = None
        if self.boundary_head is not None:
            boundaries = unpack(self.boundary_head(states), mask).squeeze(-1)
        return FrameScores(logits, tuple(earlier), boundaries)


class Refinement(nn.Module):
    """Name frames again by what was said of them and their neighbours.

    A further stage of Farha and Gall, "MS-TCN" (CVPR 2019), section 3.2: it reads probabilities, so
    that it learns which orders and durations are likely. With ``seen`` above 0 it reads that many
    channels of the first stage's states, too; they flow past what the stages between have said.
    """

    def __init__(self, config: StackConfig, num_classes: int, *, seen: int = 0) -> None:
        super().__init__()
        self.embed = nn.Linear(num_classes, config.width)
        self.see = nn.Linear(seen, config.width) if seen else None
        self.stack = Stack(config)
        self.head = FrameHead(config.width, num_classes)

    def forward(
        self, logits: Float[Tensor, "1 P C"], states: Float[Tensor, "1 P D"], *, offsets: Tensor
    ) -> Float[Tensor, "1 P C"]:
        """Return new logits for packed videos."""
        x = self.embed(logits.softmax(dim=-1))
        if self.see is not None:
            x = x + self.see(states)
        return self.head(self.stack(x, offsets=offsets))
