"""What a caption may say next, and how likely it is."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Allowed = Callable[[Tensor], Tensor]
"""Which tokens may come next: (B, S) tokens so far, the start among them, to a (B, V) mask."""


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How a caption is chosen among all that a decoder could write."""

    kind: Literal["greedy", "beam", "sample", "consensus"] = "greedy"
    """The likeliest token each time, the likeliest caption of a beam search, chance, or of many
    captions by chance the one that is most like the others."""

    beams: int = 4
    """Captions that a beam search follows side by side."""

    candidates: int = 40
    """Captions that chance writes for a consensus."""

    temperature: float | int = 1.0
    """What logits are divided by before chance decides: below 1 the likely gets likelier."""

    top_p: float | int = 1.0
    """Share of probability, likeliest first, that chance may choose from (nucleus sampling)."""

    max_tokens: int = 40
    """Most tokens of a caption, its end not counted; a longer one is cut."""

    min_tokens: int = 0
    """Fewest tokens of a caption, its end not counted."""

    length_penalty: float | int = 1.0
    """A caption's score is its log-probability by its length to this power: more favours long."""

    no_repeat_ngram: int = 0
    """So many tokens in a row never occur twice in a caption; 0 lets them."""

    repetition_penalty: float | int = 1.0
    """What makes a token that was written already less likely; 1 leaves it as it is."""

    seed: int = 0
    """The same seed gives the same samples of the same batch."""

    def __post_init__(self) -> None:
        if self.kind not in ("greedy", "beam", "sample", "consensus"):
            raise ValueError(f"kind must be greedy, beam, sample or consensus, got {self.kind!r}")
        if min(self.beams, self.candidates) < 1 or self.no_repeat_ngram < 0:
            raise ValueError(
                "beams and candidates must be at least 1 and no_repeat_ngram at least 0, got "
                f"{self.beams}, {self.candidates}, {self.no_repeat_ngram}"
            )
        if not 0 < self.temperature < math.inf or not 0 < self.top_p <= 1:
            raise ValueError(
                "temperature must be a number above 0 and top_p in (0, 1], got "
                f"{self.temperature}, {self.top_p}"
            )
        if self.max_tokens < 1 or not 0 <= self.min_tokens <= self.max_tokens:
            raise ValueError(
                "max_tokens must be at least 1 and min_tokens between 0 and it, got "
                f"{self.max_tokens}, {self.min_tokens}"
            )
        if not 1 <= self.repetition_penalty < math.inf or not math.isfinite(self.length_penalty):
            raise ValueError(
                "repetition_penalty must be a number of at least 1 and length_penalty a number, "
                f"got {self.repetition_penalty}, {self.length_penalty}"
            )


class Generated(NamedTuple):
    """The captions of a batch, one a video."""

    tokens: list[list[int]]
    """Without what they started from and without the end."""

    scores: list[float]
    """The log-probability of the tokens, the end included, by their number to length_penalty."""


class Rules(NamedTuple):
    """What may be written, and how likely it is."""

    config: GenerationConfig
    end: int
    allowed: Allowed | None
    given: int
    """Tokens that a caption starts from; they do not count as written."""

    def log_probabilities(
        self, logits: Float[Tensor, "B V"], tokens: Int[Tensor, "B S"]
    ) -> Float[Tensor, "B V"]:
        """Return what the decoder gives each next token, -inf to those that are ruled out.

        The rest is not scaled up to one: a score stays what the decoder thinks of a caption.
        """
        written, logits = tokens[:, self.given :], logits.float()
        if self.config.repetition_penalty != 1 and written.shape[1]:
            logits = penalise_repetition(logits, written, self.config.repetition_penalty)
        found = logits.log_softmax(dim=-1)
        barred = torch.zeros_like(found, dtype=torch.bool)
        if self.config.no_repeat_ngram:
            barred |= repeated_ngrams(written, self.config.no_repeat_ngram, logits.shape[1])
        if written.shape[1] < self.config.min_tokens:
            barred[:, self.end] = True
        if self.allowed is not None:
            allowed = self.allowed(tokens)
            if allowed.shape != found.shape or allowed.dtype != torch.bool:
                raise ValueError(
                    f"allowed must return a bool mask of {[*found.shape]}, got "
                    f"{allowed.dtype} of {[*allowed.shape]}"
                )
            barred |= ~allowed
        barred[:, self.end] &= ~barred.all(dim=1)
        return found.masked_fill(barred, -torch.inf)

    def score(self, total: Tensor, length: int | Tensor) -> Tensor:
        """Return the score of captions of ``length`` tokens, their end among them."""
        return total / length**self.config.length_penalty

    def caption(self, row: list[int]) -> list[int]:
        """Return what was written in a row of tokens."""
        row = row[self.given :]
        return row[: row.index(self.end)] if self.end in row else row


def penalise_repetition(
    logits: Float[Tensor, "B V"], written: Int[Tensor, "B S"], penalty: float | int
) -> Float[Tensor, "B V"]:
    """Divide positive, multiply negative logits of written tokens (Keskar et al., "CTRL", 4.1)."""
    seen = torch.zeros_like(logits, dtype=torch.bool).scatter(1, written, value=True)
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def repeated_ngrams(written: Int[Tensor, "B S"], size: int, vocabulary: int) -> Bool[Tensor, "B V"]:
    """Return which tokens would end ``size`` tokens in a row that were written before."""
    counts = written.new_zeros(written.shape[0], vocabulary)
    if written.shape[1] < size:
        return counts > 0
    ngrams = written.unfold(1, size, 1)  # B S-size+1 size
    last = written[:, written.shape[1] - size + 1 :].unsqueeze(1)
    again = (ngrams[..., :-1] == last).all(dim=-1)
    return counts.scatter_add(1, ngrams[..., -1], again.long()) > 0
