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
    """Padded videos as in `Batch`, and R sentences about them."""

    features: Float[Tensor, "B T D"]
    labels: Int[Tensor, "B T"]
    mask: Bool[Tensor, "B T"]
    names: tuple[str, ...]
    events: EventMaps
    """The truth of the event head."""
    videos: Int[Tensor, " R"]
    """Which video each sentence is about."""
    spans: Float[Tensor, "R 2"]
    """Start and end of what it is about, in frames; in training a little beside the truth."""
    tokens: Int[Tensor, "R S"]
    """Begin, times if there are time tokens, words, end, padding; a sentence that is told again
    starts with the end instead."""
    again: Bool[Tensor, " R"] | None
    """Whether a sentence is told again: it is of an event before the one that the span is of; None
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
    """Sentences of earlier events that are to be told again at each event of a video, drawn anew
    each epoch: what teaches the states to carry what was seen, wherever it will be asked for."""

    seed: int = 0
    """Fixes what is drawn."""

    def __post_init__(self) -> None:
        if min(self.references, self.most_words) < 1 or self.again < 0:
            raise ValueError(
                f"references and most_words must be at least 1 and again at least 0, got {self}"
            )
        if not 0 <= self.jitter < 0.5:
            raise ValueError(f"jitter must lie in [0, 0.5), got {self.jitter}")


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
        maps = [self._maps(item, base.mask.shape[1]) for item in items]
        told = [
            (number, *sentence)
            for number, item in enumerate(items)
            for sentence in self._sentences(item)
        ]
        again = [
            (number, *sentence)
            for number, item in enumerate(items)
            for sentence in self._told_again(item)
        ]
        number_told = len(told)
        told += again
        rows = [torch.tensor(tokens) for _, _, tokens in told]
        pad, empty = self.tokenizer.pad, torch.zeros(0, 2, dtype=torch.long)
        return CaptionBatch(
            *(base.features, base.labels, base.mask, base.names),
            events=EventMaps(
                *(torch.from_numpy(np.stack(each)) for each in zip(*maps, strict=True))
            ),
            videos=torch.tensor([number for number, _, _ in told], dtype=torch.long),
            spans=torch.tensor([span for _, span, _ in told], dtype=torch.float32).view(-1, 2),
            tokens=pad_sequence(rows, batch_first=True, padding_value=pad) if rows else empty,
            again=torch.arange(len(told)) >= number_told,
            edges=tuple(frame_edges(item.timestamps) for item in items),
            truth=tuple(tuple((c.start, c.end, c.text) for c in item.captions) for item in items),
        )

    def _maps(self, item: VideoItem, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the truth of the event head, padded to the batch's longest video."""
        spans = [
            caption_span(item, event[0].start, event[0].end) for event in events_of(item.captions)
        ]
        scores, reach = event_maps(
            np.array(spans).reshape(-1, 2), item.num_frames, self.lengths, middle=self.middle
        )
        padding = (0, frames - item.num_frames)
        return (
            np.pad(scores, (padding, (0, 0))),
            np.pad(reach, (padding, (0, 0), (0, 0))),
        )

    def _sentences(self, item: VideoItem) -> list[tuple[tuple[float, float], list[int]]]:
        """Return span and tokens of the sentences that are drawn."""
        found = []
        for event in events_of(item.captions):
            true = caption_span(item, event[0].start, event[0].end)
            number = min(self.config.references, len(event))
            for index in sorted(self._random.permutation(len(event))[:number]):
                start, end = self._move(true) if self.lengths else true
                words = self.tokenizer.encode(event[index].text)[: self.config.most_words]
                times = self._times(true, (start, end))
                tokens = [self.tokenizer.begin, *times, *words, self.tokenizer.end]
                found.append(((start, end), tokens))
        return found

    def _told_again(self, item: VideoItem) -> list[tuple[tuple[float, float], list[int]]]:
        """Return spans of events, each with the tokens of a sentence of an event before it."""
        found = []
        events = events_of(item.captions)
        for place, event in enumerate(events):
            for _ in range(self.config.again if place else 0):
                earlier = events[self._random.integers(place)]
                text = earlier[self._random.integers(len(earlier))].text
                words = self.tokenizer.encode(text)[: self.config.most_words]
                true = caption_span(item, event[0].start, event[0].end)
                tokens = [self.tokenizer.end, *words, self.tokenizer.end]
                found.append((self._move(true) if self.lengths else true, tokens))
        return found

    def _move(self, span: tuple[float, float]) -> tuple[float, float]:
        length = span[1] - span[0]
        moved = self._random.uniform(-self.config.jitter, self.config.jitter, 2) * length
        return span[0] + float(moved[0]), span[1] + float(moved[1])

    def _times(self, true: tuple[float, float], told: tuple[float, float]) -> list[int]:
        if not self.tokenizer.config.time_tokens:
            return []
        length = told[1] - told[0]
        first, width = told[0] - self.context * length, (1 + 2 * self.context) * length
        return [self.tokenizer.encode_time((bound - first) / width) for bound in true]


def caption_span(item: VideoItem, start: float, end: float) -> tuple[float, float]:
    """Return a caption's bounds in frames, cut off at the video's end."""
    edges = frame_edges(item.timestamps)
    if start >= edges[-1]:
        raise ValueError(
            f"{item.name}: a caption begins at {start:g} s, but its {item.num_frames} frames end "
            f"at {edges[-1]:g} s"
        )
    first, last = to_frames(np.array([start, end]), edges)
    return float(first), max(float(last), float(first) + 1e-3)
