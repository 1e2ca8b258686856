"""How like each other captions are, for all captions of a batch at once: CIDEr-D over tokens."""

from collections.abc import Iterable, Sequence
from math import log

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

LONGEST = 4
"""Tokens of the longest n-grams that are compared."""

SIGMA = 6.0
"""How many tokens longer or shorter a caption may be before it counts as another."""

AT_ONCE = 2**27
"""Pairs of n-grams that are compared at a time: what a comparison takes in memory is bounded."""


class TokenCider(nn.Module):
    """CIDEr-D in 0..1 of captions that are tokens, beside every reference of its own.

    Vedantam, Zitnick and Parikh, "CIDEr" (2015), with coco-caption's clipping and length penalty,
    as `metrics.captions` has them; but rarities are counted once, among the training captions, so
    that one caption's score does not hang on the captions beside it. Nothing waits for a GPU.
    """

    keys: Tensor
    """Known n-grams, sorted."""

    rarities: Tensor

    rarest: Tensor
    """The rarity of an n-gram that no training caption has."""

    def __init__(self, *, vocabulary: int, end: int, ngrams: int = 0) -> None:
        """Make room for so many n-grams, for `learn` or a checkpoint to fill.

        Args:
            vocabulary: tokens that exist.
            end: what ends a caption; what stands behind it is no part of it.
            ngrams: with none, all n-grams are equally rare.
        """
        super().__init__()
        self.base, self.end = vocabulary + 1, end
        has = ngrams > 0  # without any, a checkpoint is as those of older versions
        self.register_buffer("keys", torch.zeros(ngrams, dtype=torch.long), persistent=has)
        self.register_buffer("rarities", torch.zeros(ngrams), persistent=has)
        self.register_buffer("rarest", torch.ones(()), persistent=has)

    def forward(
        self, captions: Int[Tensor, "V K S"], references: Int[Tensor, "V M L"]
    ) -> Float[Tensor, "V K M"]:
        """Return how like each of its video's references each caption is."""
        pairs = captions[0].numel() * references[0].numel() if len(captions) else 1
        some = max(AT_ONCE // max(pairs, 1), 1)
        pieces = zip(captions.split(some), references.split(some), strict=True)
        return torch.cat([self._compare(own, other) for own, other in pieces])

    def _compare(self, captions: Tensor, references: Tensor) -> Tensor:
        own, other = _Captions(captions, self.end), _Captions(references, self.end)
        similarity = torch.zeros((), device=captions.device)
        pairs = zip(own.ngrams(self.base), other.ngrams(self.base), strict=True)
        for (keys, seen), (other_keys, other_seen) in pairs:
            count = _occurrences(keys, keys, seen).clamp(min=1)
            square = self._rarity(keys).square() * seen
            norm = (count * square).sum(-1).sqrt()  # each n-gram stands `count` times in the sum
            other_count = _occurrences(other_keys, other_keys, other_seen)
            other_square = self._rarity(other_keys).square() * other_seen
            other_norm = (other_count * other_square).sum(-1).sqrt()
            there = _occurrences(keys[:, :, None], other_keys[:, None], other_seen[:, None])
            clipped = torch.minimum(count.unsqueeze(2), there) * there  # V K M S
            product = (clipped * (square / count).unsqueeze(2)).sum(-1)
            norms = norm.unsqueeze(2) * other_norm.unsqueeze(1)
            similarity = similarity + product / norms.clamp(min=1e-12)
        gap = own.lengths.unsqueeze(2) - other.lengths.unsqueeze(1)
        return similarity / LONGEST * torch.exp(-gap.square() / (2 * SIGMA**2))

    def _rarity(self, keys: Tensor) -> Tensor:
        if not len(self.keys):
            return torch.ones_like(keys, dtype=torch.float32)
        place = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[place] == keys, self.rarities[place], self.rarest)


def learn_rarities(
    videos: Sequence[Iterable[Sequence[int]]], *, vocabulary: int, end: int
) -> TokenCider:
    """Return a `TokenCider` that knows in how many of the videos' captions each n-gram occurs."""
    found = []
    for captions in videos:
        rows = [torch.tensor([*caption, end]) for caption in captions]
        if rows:
            tokens = pad_sequence(rows, batch_first=True, padding_value=end).unsqueeze(0)
            own = _Captions(tokens, end).ngrams(vocabulary + 1)
            found.append(torch.cat([keys[seen] for keys, seen in own]).unique())
    nothing = torch.zeros(0, dtype=torch.long)
    keys, counts = torch.cat([nothing, *found]).unique(return_counts=True)
    cider = TokenCider(vocabulary=vocabulary, end=end, ngrams=len(keys))
    cider.keys.copy_(keys)
    cider.rarest.fill_(log(max(len(found), 2)))
    cider.rarities.copy_(cider.rarest - counts.log())
    return cider


class _Captions:
    """Tokens up to each caption's end."""

    def __init__(self, tokens: Int[Tensor, "V K S"], end: int) -> None:
        self.tokens = tokens
        self.real: Bool[Tensor, "V K S"] = (tokens == end).cumsum(-1) == 0
        self.lengths = self.real.sum(-1)

    def ngrams(self, base: int) -> list[tuple[Int[Tensor, "V K S"], Bool[Tensor, "V K S"]]]:
        """Return, for each size, the n-gram from each token on as a number, and if there is one.

        Of one number each up to 55,000 tokens; with more, integers wrap around, as a hash does.
        """
        keys, found = torch.zeros_like(self.tokens), []
        for size in range(LONGEST):
            token = F.pad(self.tokens[..., size:] + 1, (0, min(size, self.tokens.shape[-1])))
            seen = F.pad(self.real[..., size:], (0, min(size, self.tokens.shape[-1])))
            keys = keys * base + token
            found.append((keys, seen))
        return found


def _occurrences(
    keys: Int[Tensor, "... S"], among: Int[Tensor, "... L"], seen: Bool[Tensor, "... L"]
) -> Int[Tensor, "... S"]:
    """Return how often each n-gram is among others."""
    return ((keys.unsqueeze(-1) == among.unsqueeze(-2)) & seen.unsqueeze(-2)).sum(-1)
