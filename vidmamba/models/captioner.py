"""The captioner: frame features in; out come events, and the words of a sentence for each."""

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vidmamba.models.augment import AugmentConfig
from vidmamba.models.captioner_context import EventContext
from vidmamba.models.captioner_events import EventConfig, EventHead, EventMaps
from vidmamba.models.captioner_window import MeanWindow, Window
from vidmamba.models.decoder import DecoderConfig, TokenDecoder
from vidmamba.models.encoder import Encoder
from vidmamba.models.heads import FrameHead
from vidmamba.nn.stack import StackConfig


@dataclass(frozen=True, kw_only=True)
class CaptionerConfig:
    """Shape of a `Captioner`."""

    stack: StackConfig = StackConfig()
    """The temporal model."""

    augment: AugmentConfig = AugmentConfig()
    """How training changes the features."""

    events: EventConfig = field(default_factory=EventConfig)
    """How the spans of time that get a sentence are found."""

    decoder: DecoderConfig = field(
        default_factory=lambda: DecoderConfig(vocabulary=1, width=128, depth=2, dropout=0.1)
    )
    """What writes the words; its vocabulary and memory_width follow from tokenizer and stack,
    whatever stands here."""

    window: int = 32
    """States that a sentence is written from, however long its event or the video."""

    context: float = 0.25
    """How far the window reaches beyond its event at each end, as a share of the event."""

    pooled: bool = False
    """Whether a sentence is written from the mean of its event's states alone, instead of a
    window."""

    event_slots: int = 0
    """Slots that are carried from event to event and looked at beside each window, so that what
    was seen hundreds of events before has the name that it had then. 0 leaves each sentence its
    window."""

    event_stretch: float = 1.0
    """In training each event counts as up to so many equal ones, drawn a video, so that slots are
    kept for as many times the events that training videos have; 1 is off."""

    def __post_init__(self) -> None:
        if self.event_stretch < 1:
            raise ValueError(f"event_stretch must be at least 1, got {self.event_stretch}")
        if self.window < 1 or min(self.context, self.event_slots) < 0:
            raise ValueError(
                "window must be at least 1, context and event_slots not negative, got "
                f"{self.window}, {self.context}, {self.event_slots}"
            )


class CaptionerOutput(NamedTuple):
    """What training compares with the truth."""

    words: Float[Tensor, "R S V"]
    """Logits of the token after each of those given, a row each sentence."""

    mentions: Float[Tensor, "E V"]
    """Logits of what the whole sentence of an event mentions, read off its window at once."""

    events: EventMaps | None
    """Where events are; None where every video is one event."""

    frames: Float[Tensor, "B T C"] | None
    """Logits of the frames' classes; None without classes."""


class EventViews(NamedTuple):
    """What is known of events before a word is written."""

    memory: Float[Tensor, "E M D"]
    """What their sentences are written from."""

    mentions: Float[Tensor, "E V"]
    """Logits of what each sentence mentions."""


class Captioner(nn.Module):
    """Encode; find events; write each event's sentence from the states of a window around it.

    Why not one sequence of times and words for the whole video (Yang et al., "Vid2Seq", 2023): its
    attention sees every frame for every word, and the thousandth sentence stands behind all those
    before it. Here a sentence looks at `window` states whatever the video's length, sentences do
    not wait for each other's words, and what was seen minutes before is in those states, because
    the stack carried it there from frame to frame, and a second, small one from event to event: who
    is who, and what went into whose pocket.
    """

    def __init__(
        self, config: CaptionerConfig, *, num_features: int, num_classes: int, vocabulary: int
    ) -> None:
        """Build for features of this width; without classes (0) there is no frame head."""
        super().__init__()
        self.config = config
        width = config.stack.width
        self.encoder = Encoder(config.stack, config.augment, num_features=num_features)
        lengths = config.events.lengths
        if lengths is None:
            raise ValueError("events.lengths is made from training captions; here it must be set")
        self.events = EventHead(width, lengths) if lengths else None
        self.window: Window | MeanWindow
        if config.pooled:
            self.window = MeanWindow()
        else:
            self.window = Window(width, rows=config.window, context=config.context)
        shape = replace(config.decoder, vocabulary=vocabulary, memory_width=width)
        self.decoder = TokenDecoder(shape)
        self.mentions = nn.Linear(width, vocabulary)
        # ten words of all: from even odds, the first hundred steps would teach nothing but rarity
        nn.init.constant_(self.mentions.bias, -math.log(max(vocabulary / 10, 1.0)))
        self.carry: EventContext | None = None
        if config.event_slots:
            self.carry = EventContext(width, slots=config.event_slots, stretch=config.event_stretch)
        self.head = FrameHead(width, num_classes) if num_classes else None

    def forward(
        self,
        features: Float[Tensor, "B T F"],
        mask: Bool[Tensor, "B T"],
        *,
        videos: Int[Tensor, " E"],
        spans: Float[Tensor, "E 2"],
        about: Int[Tensor, " R"],
        tokens: Int[Tensor, "R S"],
    ) -> CaptionerOutput:
        """Return logits of all that training knows.

        Args:
            features: of padded videos.
            mask: True where a frame is real.
            videos: which video each of E events is of; a video's lie together, in their order.
            spans: start and end of each event, in frames.
            about: which event each of R sentences is about.
            tokens: its words so far, all given (teacher forcing).
        """
        states = self.encoder(features, mask)
        seen = self.view(states, mask.sum(dim=1), videos, spans)
        # a batch without a sentence still has frames and events to learn from
        nothing = states.new_zeros(*tokens.shape, self.decoder.config.vocabulary)
        return CaptionerOutput(
            self.decoder(tokens, memory=seen.memory[about]) if len(tokens) else nothing,
            seen.mentions,
            self.events(states) if self.events else None,
            self.head(states) if self.head else None,
        )

    def view(
        self,
        states: Float[Tensor, "B T D"],
        lengths: Int[Tensor, " B"],
        videos: Int[Tensor, " E"],
        spans: Float[Tensor, "E 2"],
    ) -> EventViews:
        """Return what the sentences of events are written from, whatever their words.

        Args:
            states: of padded videos.
            lengths: real frames of each.
            videos: which video each event is of; a video's lie together, in their order.
            spans: start and end of each event, in frames.
        """
        windows = self.window(states, lengths, videos, spans)
        mentions = self.mentions(windows.mean(dim=1))
        if self.carry is None:
            return EventViews(windows, mentions)
        return EventViews(self.carry(windows, videos, number=len(lengths)), mentions)
