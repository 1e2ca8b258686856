"""Which spans of time are worth a sentence: an event head over the states, its targets, its loss.

Every frame says, for each of a few lengths, whether it is the middle of an event of about that
length, and how far before and after it the event reaches: CenterNet (Zhou et al., "Objects as
Points", 2019) in one dimension, with the lengths of ActionFormer's pyramid (Zhang et al., 2022) as
so many channels. A frame's cost is a constant, so hours of video cost what their frames cost; and
events may overlap, as sentences do and segments may not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class EventConfig:
    """How events are found."""

    lengths: tuple[float, ...] | None = None
    """Typical events, in frames: each event is looked for by the channel of the length nearest to
    its own. Null for `channels` quantiles of the training captions; none at all where each video is
    one event, as null is where each training video has one."""

    channels: int = 3
    """How many typical events there are where lengths is null."""

    middle: float = 0.15
    """How far from the middle, as a share of the event, frames learn its bounds."""

    least_score: float = 0.2
    """Least score, in 0..1, of an event that gets a sentence."""

    most_overlap: float = 0.5
    """Of two events with a temporal IoU above this, the one of the lower score is dropped."""

    def __post_init__(self) -> None:
        if self.lengths is not None and min(self.lengths, default=1.0) <= 0:
            raise ValueError(f"lengths must be numbers of frames above 0, got {self.lengths}")
        if self.channels < 1:
            raise ValueError(f"channels must be at least 1, got {self.channels}")
        if not 0 < self.middle < 0.5:
            raise ValueError(f"middle must lie in (0, 0.5), got {self.middle}")
        if not 0 <= self.least_score <= 1 or not 0 < self.most_overlap <= 1:
            raise ValueError(
                "least_score must lie in [0, 1] and most_overlap in (0, 1], got "
                f"{self.least_score}, {self.most_overlap}"
            )


class EventMaps(NamedTuple):
    """What a frame says of each typical length (L of them): predicted, or true."""

    scores: Float[Tensor, "B T L"]
    """Logits of being an event's middle; in the truth, 1 there and less beside it."""

    reach: Float[Tensor, "B T L 2"]
    """Frames from the middle of this frame to the event's start and to its end; in the truth, 0
    where there is nothing to learn."""


class EventHead(nn.Module):
    """Two layers on every state."""

    lengths: Tensor

    def __init__(self, width: int, lengths: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("lengths", torch.tensor([*lengths]), persistent=False)
        self.hidden = nn.Linear(width, width)
        self.score = nn.Linear(width, len(lengths))
        self.reach = nn.Linear(width, 2 * len(lengths))
        with torch.no_grad():
            self.score.bias.fill_(-3.0)  # middles are rare: begin with few, not with half
            self.reach.bias.zero_()

    def forward(self, states: Float[Tensor, "B T D"]) -> EventMaps:
        """Return what each frame says; its reach is positive and begins at half the lengths."""
        hidden = F.gelu(self.hidden(states))
        # clamped: an early step of training must not reach beyond all numbers
        factor = self.reach(hidden).unflatten(-1, (-1, 2)).clamp(-6, 6).exp()
        return EventMaps(self.score(hidden), factor * self.lengths[:, None] / 2)


def event_maps(
    spans: Float[np.ndarray, "events 2"],
    frames: int,
    lengths: Sequence[float],
    *,
    middle: float = 0.15,
) -> tuple[Float[np.ndarray, "T L"], Float[np.ndarray, "T L 2"]]:
    """Return the true scores and reach of one video's events, bounds in frames.

    Scores fall off as a Gaussian of a tenth of the event; where two meet, the higher one counts,
    and the shorter event's bounds are learned. Each event costs its own frames alone.

    Args:
        spans: start and end of each event, in frames.
        frames: T.
        lengths: the typical ones, L of them, none where no events are looked for.
        middle: how far from its middle, as a share of an event, its bounds are learned.
    """
    scores = np.zeros((frames, len(lengths)), dtype=np.float32)
    reach = np.zeros((frames, len(lengths), 2), dtype=np.float32)
    if not lengths:
        return scores, reach
    typical = np.log(lengths)
    for start, end in sorted(spans.tolist(), key=lambda span: span[0] - span[1]):
        length, centre = end - start, (start + end) / 2
        channel = int(np.abs(typical - np.log(length)).argmin())
        peak = min(max(int(centre), 0), frames - 1)
        deviation = max(length / 10, 0.5)
        first, last = max(int(centre - 3 * deviation), 0), int(centre + 3 * deviation) + 1
        distance = np.arange(first, min(last, frames)) + 0.5 - centre
        place = scores[first:last, channel]
        np.maximum(place, np.exp(-0.5 * (distance / deviation) ** 2), out=place)
        scores[peak, channel] = 1.0
        half = int(middle * length)
        near = np.arange(max(peak - half, 0), min(peak + half + 1, frames))
        # an event shorter than a frame may lie wholly beside the middle of its frame
        reach[near, channel, 0] = np.maximum(near + 0.5 - start, 0.1)
        reach[near, channel, 1] = np.maximum(end - near - 0.5, 0.1)
    return scores, reach


def event_loss(
    predicted: EventMaps, true: EventMaps, mask: Tensor
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the loss of the scores and that of the bounds, each a mean over events.

    Scores: the focal loss of CenterNet's equation 1 (alpha 2, beta 4). Bounds: 1 - temporal IoU
    (Yu et al., "UnitBox", 2016, without the logarithm), which is small and large events' alike.

    Args:
        predicted: of the frames.
        true: of the frames.
        mask: (B, T), True where a frame is real.
    """
    with torch.autocast(mask.device.type, enabled=False):
        logits = predicted.scores.float()
        share = logits.sigmoid()
        is_peak = true.scores == 1
        miss = F.logsigmoid(logits) * (1 - share).square()
        alarm = F.logsigmoid(-logits) * share.square() * (1 - true.scores) ** 4
        focal = -torch.where(is_peak, miss, alarm)
        scores = torch.where(mask.unsqueeze(-1), focal, 0.0).sum() / is_peak.sum().clamp(min=1)
        told = true.reach.sum(dim=-1) > 0
        reach, wanted = predicted.reach.float()[told], true.reach[told]
        shared = torch.minimum(reach, wanted).sum(dim=-1)
        either = torch.maximum(reach, wanted).sum(dim=-1)
        bounds = (1 - shared / either).sum() / told.sum().clamp(min=1)
    return scores, bounds


class FoundEvents(NamedTuple):
    """Events of one video, sorted by start; bounds in frames."""

    spans: Float[Tensor, "events 2"]
    scores: Float[Tensor, " events"]


def find_events(
    scores: Float[Tensor, "T L"], reach: Float[Tensor, "T L 2"], config: EventConfig
) -> FoundEvents:
    """Return the events of one video: the peaks of the scores, less what says the same twice.

    A peak is the highest of the frames within a tenth of its channel's length. With no score of
    `least_score` or more, there is no event.
    """
    frames = len(scores)
    shares = scores.float().sigmoid()
    spans, found = [], []
    for channel, length in enumerate(config.lengths or ()):
        radius = max(int(length / 10), 1)
        row = shares[:, channel]
        highest = F.max_pool1d(row[None, None], 2 * radius + 1, stride=1, padding=radius)[0, 0]
        peaks = torch.nonzero((row == highest) & (row >= config.least_score)).squeeze(-1)
        sides = reach[peaks, channel].float() * reach.new_tensor([-1.0, 1.0])
        spans.append((peaks[:, None] + 0.5 + sides).clamp(0, frames))
        found.append(row[peaks])
    every, each = torch.cat(spans).cpu(), torch.cat(found).cpu()
    kept = _suppress(every.numpy(), each.numpy(), config.most_overlap)
    order = sorted(kept, key=lambda index: (*every[index].tolist(), index))
    index = torch.tensor(order, dtype=torch.long)
    return FoundEvents(every[index], each[index])


def _suppress(
    spans: Float[np.ndarray, "events 2"], scores: Float[np.ndarray, " events"], most: float
) -> list[int]:
    """Return which events no better one overlaps by more than ``most``; the order is of no matter.

    Each event is held against those alone that begin near it: linear in the video's length.
    """
    by_start = np.argsort(spans[:, 0], kind="stable")
    starts, ends = spans[by_start].T
    longest = float((ends - starts).max(initial=0))
    rank = np.empty(len(spans), dtype=np.int64)
    rank[by_start] = np.arange(len(spans))
    alive = ends > starts
    kept = []
    for index in np.argsort(-scores, kind="stable"):
        here = rank[index]
        if not alive[here]:
            continue
        kept.append(int(index))
        start, end = starts[here], ends[here]
        near = slice(*np.searchsorted(starts, (start - longest, end)))
        shared = np.minimum(ends[near], end) - np.maximum(starts[near], start)
        either = np.maximum(ends[near] - starts[near] + end - start - shared, 1e-9)
        alive[near] &= shared / either <= most
        alive[here] = False
    return kept


def typical_lengths(lengths: Float[np.ndarray, " events"], number: int) -> tuple[float, ...]:
    """Return ``number`` lengths or fewer, in frames, that are typical of as many events each."""
    quantiles = np.quantile(np.log(lengths), (np.arange(number) + 0.5) / number)
    return tuple(dict.fromkeys(round(float(length), 2) for length in np.exp(quantiles)))
