"""Captions without learning: those of the training videos whose pictures are most alike."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import log, sqrt

import numpy as np
from jaxtyping import Float

from vidmamba.datasets.records import VideoItem
from vidmamba.metrics.captions import tokenize

LONGEST = 4
"""Words of the longest n-grams that captions are compared by."""


class NearestNeighbours:
    """The caption that the neighbours' captions agree on most.

    Devlin et al., "Exploring Nearest Neighbor Approaches for Image Captioning" (2015): neighbours
    by the cosine of mean features (standardised over the training videos), and of all their
    captions the one that is most like the others, by the cosine of n-grams weighted as CIDEr's.
    """

    def __init__(self, train: Sequence[VideoItem]) -> None:
        """Keep the training videos' mean features and captions."""
        means = np.stack([_mean(item) for item in train])
        self.centre, self.scale = means.mean(axis=0), means.std(axis=0) + 1e-6
        self.known = self._directions(means)
        self.captions = [[caption.text for caption in item.captions] for item in train]
        texts = [text for own in self.captions for text in own]
        words = {text: tokenize(text) for text in texts}
        counts = [{n for text in own for n in _ngrams(words[text])} for own in self.captions]
        frequency = Counter(ngram for own in counts for ngram in own)
        self.rarity = {ngram: log(len(train) / count) for ngram, count in frequency.items()}
        self.vectors = {text: self._vector(own) for text, own in words.items()}

    def caption(self, items: Sequence[VideoItem], *, neighbours: int) -> dict[str, str]:
        """Return a caption for each video by its name, of so many neighbours' captions."""
        found = self._directions(np.stack([_mean(item) for item in items])) @ self.known.T
        nearest = np.argsort(-found, axis=1, kind="stable")[:, :neighbours]
        return {
            item.name: self._consensus([text for index in row for text in self.captions[index]])
            for item, row in zip(items, nearest, strict=True)
        }

    def _directions(self, means: Float[np.ndarray, "V D"]) -> Float[np.ndarray, "V D"]:
        moved = (means - self.centre) / self.scale
        return moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-9)

    def _consensus(self, texts: Sequence[str]) -> str:
        total: Counter[tuple[str, ...]] = Counter()
        for text in texts:
            total.update(self.vectors[text])
        # cosines with the sum of unit vectors are sums of cosines
        agreed = [sum(w * total[n] for n, w in self.vectors[text].items()) for text in texts]
        return texts[int(np.argmax(agreed))]

    def _vector(self, words: Sequence[str]) -> Mapping[tuple[str, ...], float]:
        weights = {n: count * self.rarity[n] for n, count in Counter(_ngrams(words)).items()}
        norm = sqrt(sum(weight * weight for weight in weights.values())) or 1.0
        return {ngram: weight / norm for ngram, weight in weights.items()}


def _mean(item: VideoItem) -> Float[np.ndarray, " D"]:
    return item.read_features().mean(axis=0)


def _ngrams(words: Sequence[str]) -> list[tuple[str, ...]]:
    return [
        tuple(words[start : start + size])
        for size in range(1, LONGEST + 1)
        for start in range(len(words) - size + 1)
    ]
