"""From one video's features to its sentences and their times: the captioner at work."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vidmamba.models.captioner import Captioner
from vidmamba.models.captioner_events import FoundEvents, find_events
from vidmamba.models.generation import Generated, GenerationConfig, generate
from vidmamba.models.token_cider import TokenCider
from vidmamba.models.tokenizer import CaptionTokenizer

AT_ONCE = 256
"""Sentences that are written side by side: what an hour's take in memory is bounded."""

CANDIDATES_AT_ONCE = 16_384
"""Those of which a consensus is made."""


class Told(NamedTuple):
    """What was said of one video, sorted by start."""

    spans: Float[Tensor, "events 2"]
    """Start and end of each event, in frames."""

    texts: list[str]

    scores: list[float]
    """The event's score times the mean probability of the words, in 0..1."""

    frames: Float[Tensor, "T C"] | None
    """Logits of the frames' classes; None without a head for them."""


def tell(
    captioner: Captioner,
    features: Float[Tensor, "T F"],
    tokenizer: CaptionTokenizer,
    config: GenerationConfig,
    likeness: TokenCider | None = None,
) -> Told:
    """Find the events of a video, and write a sentence for each; the same seed, the same words.

    The stack runs once over the video; a sentence costs the same wherever it stands.
    """
    mask = torch.ones(1, len(features), dtype=torch.bool, device=features.device)
    return tell_all(captioner, features.unsqueeze(0), mask, tokenizer, config, likeness)[0]


@torch.no_grad()
def tell_all(
    captioner: Captioner,
    features: Float[Tensor, "B T F"],
    mask: Bool[Tensor, "B T"],
    tokenizer: CaptionTokenizer,
    config: GenerationConfig,
    likeness: TokenCider | None = None,
) -> list[Told]:
    """Do what `tell` does for padded videos, whose sentences are written side by side."""
    states = captioner.encoder(features, mask)
    lengths = mask.sum(dim=1)
    frames = lengths.tolist()
    found = [_events(captioner, states[b : b + 1, :number]) for b, number in enumerate(frames)]
    counts = torch.tensor([len(each.spans) for each in found])
    videos = torch.arange(len(found)).repeat_interleave(counts).to(states.device)
    spans = torch.cat([each.spans for each in found])
    written = Generated([], [])
    memory = captioner.view(states, lengths, videos, spans.to(states.device)).memory
    for some in memory.split(_at_once(config)):
        if len(some):  # not one event: torch splits nothing into one piece of nothing
            new = _write(captioner, some, tokenizer, config, likeness)
            written.tokens.extend(new.tokens)
            written.scores.extend(new.scores)
    told = []
    ends = counts.cumsum(0).tolist()
    for row, (each, end, number) in enumerate(zip(found, ends, frames, strict=True)):
        own = slice(end - len(each.spans), end)
        said = Generated(written.tokens[own], written.scores[own])
        bounds = _retimed(each.spans, said.tokens, tokenizer, captioner.config.context)
        sure = zip(each.scores.tolist(), _probabilities(said, config), strict=True)
        told.append(
            Told(
                bounds.clamp(0, number),
                [tokenizer.decode(tokens) for tokens in said.tokens],
                [event * probability for event, probability in sure],
                captioner.head(states[row : row + 1, :number])[0] if captioner.head else None,
            )
        )
    return told


def _at_once(config: GenerationConfig) -> int:
    if config.kind != "consensus":
        return AT_ONCE
    return max(min(AT_ONCE, CANDIDATES_AT_ONCE // config.candidates), 1)


def _write(
    captioner: Captioner,
    memory: Float[Tensor, "R M D"],
    tokenizer: CaptionTokenizer,
    config: GenerationConfig,
    likeness: TokenCider | None,
) -> Generated:
    """Write a sentence for each of some events."""
    return generate(
        captioner.decoder,
        captioner.decoder.begin(len(memory), memory=memory),
        start=tokenizer.begin,
        end=tokenizer.end,
        config=config,
        allowed=Sayable(tokenizer, memory.device),
        likeness=likeness,
    )


def _probabilities(written: Generated, config: GenerationConfig) -> list[float]:
    """Return the mean probability, geometrically, of each sentence's tokens, its end among them."""
    # one that was cut at its most has no end
    lengths = [min(len(row) + 1, config.max_tokens) for row in written.tokens]
    return [
        math.exp(min(score * length ** (config.length_penalty - 1), 0.0))
        for score, length in zip(written.scores, lengths, strict=True)
    ]


def _events(captioner: Captioner, states: Float[Tensor, "B T D"]) -> FoundEvents:
    """Return the events of one video: those of the head, or the whole of it."""
    if captioner.events is None:
        return FoundEvents(torch.tensor([[0.0, states.shape[1]]]), torch.ones(1))
    maps = captioner.events(states)
    return find_events(maps.scores[0], maps.reach[0], captioner.config.events)


class Sayable:
    """Which tokens may come next: two times if there are any, then words, of which one at least."""

    def __init__(self, tokenizer: CaptionTokenizer, device: torch.device) -> None:
        self.times = 2 if tokenizer.config.time_tokens else 0
        number = torch.arange(len(tokenizer), device=device)
        self.time = number >= tokenizer.first_time
        self.first = number < tokenizer.num_words
        self.later = self.first | (number == tokenizer.end)

    def __call__(self, tokens: Tensor) -> Bool[Tensor, "B V"]:
        """Return a mask for rows of tokens (B, S), the first of which is where they begin."""
        written = tokens.shape[1] - 1
        if written < self.times:
            return self.time.expand(len(tokens), -1)
        return (self.first if written == self.times else self.later).expand(len(tokens), -1)


def _retimed(
    spans: Float[Tensor, "events 2"],
    written: list[list[int]],
    tokenizer: CaptionTokenizer,
    context: float,
) -> Float[Tensor, "events 2"]:
    """Return the spans that time tokens give, the found ones where they give none."""
    told = spans.tolist()
    for row, tokens in enumerate(written):
        shares = [tokenizer.decode_time(token) for token in tokens[:2]]
        if len(shares) < 2 or shares[0] is None or shares[1] is None or shares[0] >= shares[1]:
            continue
        start, end = told[row]
        length = end - start
        first, width = start - context * length, (1 + 2 * context) * length
        told[row] = [first + share * width for share in shares]
    return torch.tensor(told).view(-1, 2)
