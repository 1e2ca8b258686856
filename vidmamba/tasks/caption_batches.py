"""Captioned videos into batches: what a captioner is taught of each, in frames and in tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vidmamba.datasets.batching import Batch, collate
from vidmamba.datasets.captions import events_of
from vidmamba.datasets.records import VideoItem
from vidmamba.models.captioner import CaptionerConfig
from vidmamba.models.captioner_events import EventMaps, event_maps
from vidmamba.models.tokenizer import CaptionTokenizer


class CaptionBatch(NamedTuple):
    """Padded videos as in `Batch`, their E events, and R sentences about these."""

    features: Float[Tensor, "B T D"]
    labels: Int[Tensor, "B T"]
    mask: Bool[Tensor, "B T"]
    names: tuple[str, ...]
    events: EventMaps
    """The truth of the event head."""
    videos: Int[Tensor, " E"]
    """Which video each event is of; a video's lie together, in their order."""
    spans: Float[Tensor, "E 2"]
    """Start and end of each event, in frames; in training a little beside the truth."""
    about: Int[Tensor, " R"]
    """Which event each sentence is about."""
    tokens: Int[Tensor, "R S"]
    """Begin, times if there are time tokens, words, end, padding; a sentence that is told again
    starts with the end instead."""
    again: Bool[Tensor, " R"] | None
    """Whether a sentence is told again: it is of an event before the one that it is about; None
    where none is."""
    edges: tuple[Float64[np.ndarray, " edges"], ...]
    """When each video's frames begin and the last one ends, in seconds."""
    truth: tuple[tuple[tuple[float, float, str], ...], ...]
    """Each video's captions: start and end in seconds, text."""


def frame_edges(
    timestamps: Float64[np.ndarray, " T"], duration: float | None = None
) -> Float64[np.ndarray, " edges"]:
    """Return when each frame begins and the last one ends, in seconds.

    Without `duration` the last frame lasts as long as the median of the others, one alone for 1 s.
    """
    steps = np.diff(timestamps)
    step = float(np.median(steps)) if len(steps) and np.median(steps) > 0 else 1.0
    end = timestamps[-1] + step
    # a container may claim less than its frames last
    return np.append(timestamps, end if duration is None else max(duration, timestamps[-1] + 1e-3))


def to_frames(
    seconds: Float64[np.ndarray, "..."], edges: Float64[np.ndarray, " edges"]
) -> Float64[np.ndarray, "..."]:
    """Return times as frames, with their fractions: frame t lasts from t to t + 1."""
    return np.interp(seconds, edges, np.arange(len(edges), dtype=np.float64))


def to_seconds(
    frames: Float64[np.ndarray, "..."], edges: Float64[np.ndarray, " edges"]
) -> Float64[np.ndarray, "..."]:
    """Return frames, with their fractions, as times: the inverse of `to_frames`."""
    return np.interp(frames, np.arange(len(edges), dtype=np.float64), edges)


@dataclass(frozen=True, kw_only=True)
class CaptionBatchConfig:
    """What of the captions training sees at a time."""

    references: int = 1
    """Most sentences of one event in a batch, drawn anew each epoch where it has more."""

    most_words: int = 64
    """Most tokens of a sentence's words; those after them are left out."""

    jitter: float = 0.15
    """Most that an event's bounds are moved, as a share of it: as far as found ones are off."""

    again: int = 0
    """Sentences of earlier events that are to be told again at each told event of a video, drawn
    anew each epoch: what teaches to carry what was seen, wherever it will be asked for."""

    seed: int = 0
    """Fixes what is drawn."""

    def __post_init__(self) -> None:
        if min(self.references, self.most_words) < 1 or self.again < 0:
            raise ValueError(
                f"references and most_words must be at least 1 and again at least 0, got {self}"
            )
        if not 0 <= self.jitter < 0.5:
            raise ValueError(f"jitter must lie in [0, 0.5), got {self.jitter}")


class _Sentence(NamedTuple):
    """What is told of an event."""

    event: int
    tokens: list[int]
    again: bool = False


class _Drawn(NamedTuple):
    """What is taught of one video."""

    true: Float64[np.ndarray, "events 2"]
    """Bounds of its events, in frames."""
    spans: Float64[np.ndarray, "events 2"]
    """The same, moved."""
    sentences: list[_Sentence]


class CaptionCollator:
    """Makes a `CaptionBatch` of videos; a loader's worker can pickle it."""

    def __init__(
        self, tokenizer: CaptionTokenizer, model: CaptionerConfig, config: CaptionBatchConfig
    ) -> None:
        self.tokenizer = tokenizer
        self.lengths = model.events.lengths or ()
        self.middle, self.context = model.events.middle, model.context
        self.config = config
        self._random = np.random.default_rng(config.seed)

    def __call__(self, items: Sequence[VideoItem]) -> CaptionBatch:
        """Return a batch of these videos.

        Raises:
            ValueError: a caption begins after its video's last frame; the video is named.
        """
        base: Batch = collate(items)
        drawn = [self._draw(item) for item in items]
        maps = [
            self._maps(one.true, item.num_frames, base.mask.shape[1])
            for item, one in zip(items, drawn, strict=True)
        ]
        counts = torch.tensor([len(one.spans) for one in drawn], dtype=torch.long)
        first = (counts.cumsum(0) - counts).tolist()
        told = [
            sentence._replace(event=sentence.event + before)
            for one, before in zip(drawn, first, strict=True)
            for sentence in one.sentences
        ]
        told.sort(key=lambda sentence: sentence.again)  # those of a part lie together
        rows = [torch.tensor(sentence.tokens) for sentence in told]
        pad, empty = self.tokenizer.pad, torch.zeros(0, 2, dtype=torch.long)
        return CaptionBatch(
            *(base.features, base.labels, base.mask, base.names),
            events=EventMaps(
                *(torch.from_numpy(np.stack(each)) for each in zip(*maps, strict=True))
            ),
            videos=torch.arange(len(items)).repeat_interleave(counts),
            spans=torch.from_numpy(np.concatenate([one.spans for one in drawn])).float(),
            about=torch.tensor([sentence.event for sentence in told], dtype=torch.long),
            tokens=pad_sequence(rows, batch_first=True, padding_value=pad) if rows else empty,
            again=torch.tensor([sentence.again for sentence in told], dtype=torch.bool),
            edges=tuple(frame_edges(item.timestamps) for item in items),
            truth=tuple(tuple((c.start, c.end, c.text) for c in item.captions) for item in items),
        )

    def _maps(
        self, spans: Float64[np.ndarray, "events 2"], frames: int, padded: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the truth of the event head, padded to the batch's longest video."""
        scores, reach = event_maps(spans, frames, self.lengths, middle=self.middle)
        padding = (0, padded - frames)
        return (
            np.pad(scores, (padding, (0, 0))),
            np.pad(reach, (padding, (0, 0), (0, 0))),
        )

    def _draw(self, item: VideoItem) -> _Drawn:
        """Return a video's events, and which of their sentences are told."""
        events = events_of(item.captions)
        true = event_spans(item)
        spans = self._moved(true) if self.lengths else true
        told: dict[str, list[int]] = {}
        for place, event in enumerate(events):
            number = min(self.config.references, len(event))
            for index in sorted(self._random.permutation(len(event))[:number]):
                told.setdefault(event[index].text, []).append(place)
        # what is told alike of many events, such as waiting, would outweigh all that happens once
        once = [(places[self._random.integers(len(places))], text) for text, places in told.items()]
        sentences = [
            _Sentence(place, self._tokens(text, times=self._times(true[place], spans[place])))
            for place, text in sorted(once)
        ]
        for place in sorted({place for place, _ in once} - {0}):
            earlier = sorted({caption.text for event in events[:place] for caption in event})
            for _ in range(self.config.again):
                text = earlier[self._random.integers(len(earlier))]
                sentences.append(_Sentence(place, self._tokens(text, again=True), again=True))
        return _Drawn(true, spans, sentences)

    def _tokens(self, text: str, *, times: Sequence[int] = (), again: bool = False) -> list[int]:
        words = self.tokenizer.encode(text)[: self.config.most_words]
        first = self.tokenizer.end if again else self.tokenizer.begin
        return [first, *times, *words, self.tokenizer.end]

    def _moved(self, spans: Float64[np.ndarray, "events 2"]) -> Float64[np.ndarray, "events 2"]:
        jitter = self.config.jitter
        return spans + self._random.uniform(-jitter, jitter, spans.shape) * np.diff(spans)

    def _times(self, true: Float64[np.ndarray, " 2"], told: Float64[np.ndarray, " 2"]) -> list[int]:
        if not self.tokenizer.config.time_tokens:
            return []
        length = told[1] - told[0]
        first, width = told[0] - self.context * length, (1 + 2 * self.context) * length
        return [self.tokenizer.encode_time(float((bound - first) / width)) for bound in true]


def event_spans(item: VideoItem) -> Float64[np.ndarray, "events 2"]:
    """Return the bounds of a video's events in frames, cut off at the video's end.

    Raises:
        ValueError: an event begins after the last frame; the video is named.
    """
    bounds = [(event[0].start, event[0].end) for event in events_of(item.captions)]
    seconds = np.array(bounds, dtype=np.float64).reshape(-1, 2)
    edges = frame_edges(item.timestamps)
    if item.num_frames == 1:  # no other frame tells how long it lasts: as long as what is said
        edges[-1] = max(edges[-1], seconds.max(initial=0.0))
    if (late := seconds[seconds[:, 0] >= edges[-1], 0]).size:
        raise ValueError(
            f"{item.name}: a caption begins at {late[0]:g} s, but its {item.num_frames} frames end "
            f"at {edges[-1]:g} s"
        )
    frames = to_frames(seconds, edges)
    frames[:, 1] = np.maximum(frames[:, 1], frames[:, 0] + 1e-3)
    return frames
