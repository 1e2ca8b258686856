"""Videos of any length into padded batches: similar lengths together, in an order a seed fixes."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vidmamba.datasets.records import UNLABELLED, LabelledSet, VideoItem

IGNORED = -100
"""The label of a frame that no loss sees: padded, or unlabelled. PyTorch's own `ignore_index`."""

POOL_BATCHES = 16
"""Batches whose videos are sorted by length together; more of them pad less and shuffle less."""


class Batch(NamedTuple):
    """Videos padded to the longest of them; `mask` is True where a frame is real.

    `video_labels` holds 1 where a video belongs to a class of whole videos, else 0.
    """

    features: Float[Tensor, "B T D"]
    labels: Int[Tensor, "B T"]
    mask: Bool[Tensor, "B T"]
    names: tuple[str, ...]
    video_labels: Float[Tensor, "B L"]


Collate = Callable[[Sequence[VideoItem]], Any]
"""Makes a batch of some videos; a loader's workers must be able to pickle it."""


def collate_of(data: LabelledSet) -> Collate:
    """Return the `collate` that knows how many classes of whole videos the set has."""
    return partial(collate, num_video_classes=len(data.video_class_names))


def collate(items: Sequence[VideoItem], *, num_video_classes: int = 0) -> Batch:
    """Read the features of some videos and pad them: features with 0, labels with `IGNORED`.

    Args:
        items: the videos.
        num_video_classes: L; 0 leaves the videos' own labels out, whatever they are.

    Raises:
        ValueError: there is no video, or their features differ in width, or a video's own label is
            not below `num_video_classes`.
    """
    if not items:
        raise ValueError("a batch needs one video or more, got none")
    widths = {item.name: item.features.shape[1] for item in items}
    if len(set(widths.values())) > 1:
        raise ValueError(f"features of one batch must have one width, got {widths}")
    longest = max(item.num_frames for item in items)
    features = torch.zeros(len(items), longest, items[0].features.shape[1])
    labels = torch.full((len(items), longest), IGNORED)
    mask = torch.zeros(len(items), longest, dtype=torch.bool)
    for row, item in enumerate(items):
        features[row, : item.num_frames] = torch.from_numpy(item.read_features())
        known = np.where(item.labels == UNLABELLED, IGNORED, item.labels).astype(np.int64)
        labels[row, : item.num_frames] = torch.from_numpy(known)
        mask[row, : item.num_frames] = True
    video_labels = _video_labels(items, num_video_classes)
    return Batch(features, labels, mask, tuple(item.name for item in items), video_labels)


def _video_labels(items: Sequence[VideoItem], num_classes: int) -> Float[Tensor, "B L"]:
    rows = torch.zeros(len(items), num_classes)
    if num_classes == 0:
        return rows
    for row, item in enumerate(items):
        if beyond := [label for label in item.video_labels if label >= num_classes]:
            raise ValueError(f"{item.name}: {num_classes} video classes, but labels {beyond}")
        rows[row, list(item.video_labels)] = 1
    return rows


class VideoDataset(Dataset[VideoItem]):
    """Videos by index; their features stay on disk until `collate` reads them, in the worker."""

    def __init__(self, items: Sequence[VideoItem]) -> None:
        self.items = tuple(items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> VideoItem:
        return self.items[index]


class LengthBuckets(Sampler[list[int]]):
    """Batches of indices of videos of similar length.

    Shuffled, each epoch has its own order, fixed by (seed, epoch). Not shuffled, the longest come
    first, so that a batch that does not fit in memory fails at once.

    Args:
        lengths: frames of each video.
        batch_size: videos a batch; the last batch may be smaller.
        shuffle: whether the order changes from epoch to epoch.
        seed: fixes the order, and which views are drawn.
        views: how many views each video has, 1 by default. Indices are then those of all views,
            video after video; an epoch has one of each video, its first where nothing is shuffled.
        num_replicas, rank: of several processes, this one; each gets as many batches as the others.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        views: Sequence[int] | None = None,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, got {batch_size}")
        if not 0 <= rank < num_replicas:
            raise ValueError(f"rank must lie in 0..{num_replicas - 1}, got {rank}")
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self.views = np.ones_like(self.lengths) if views is None else np.asarray(views)
        self.first_views = np.cumsum(self.views) - self.views
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.num_replicas = num_replicas
        self.rank = rank
        self.epoch = 0
        self.sampler = self  # where Lightning looks for set_epoch

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass the one of this epoch; without it, passes count themselves."""
        self.epoch = epoch

    def __len__(self) -> int:
        batches = -(-len(self.lengths) // self.batch_size)
        return -(-batches // self.num_replicas)

    def __iter__(self) -> Iterator[list[int]]:
        batches = self._shuffled(self.epoch) if self.shuffle else self._by_length()
        self.epoch += 1
        share = [*batches[self.rank :: self.num_replicas]]
        # every process must take as many steps: the ones that came short repeat a batch
        yield from share + [batches[self.rank % len(batches)]] * (len(self) - len(share))

    def _by_length(self) -> list[list[int]]:
        batches = self._split(np.argsort(-self.lengths, kind="stable"))
        return [self.first_views[batch].tolist() for batch in batches]

    def _shuffled(self, epoch: int) -> list[list[int]]:
        random = np.random.default_rng((self.seed, epoch))
        order = random.permutation(len(self.lengths))
        pool = self.batch_size * POOL_BATCHES
        pools = [order[start : start + pool] for start in range(0, len(order), pool)]
        batches = [
            batch
            for pool_indices in pools
            for batch in self._split(pool_indices[np.argsort(self.lengths[pool_indices])])
        ]
        shuffled = [batches[index] for index in random.permutation(len(batches))]
        drawn = self.first_views + random.integers(self.views)
        return [drawn[batch].tolist() for batch in shuffled]

    def _split(self, order: np.ndarray) -> list[list[int]]:
        step = self.batch_size
        return [order[start : start + step].tolist() for start in range(0, len(order), step)]


def make_loader(
    items: Sequence[VideoItem],
    *,
    batch_size: int,
    shuffle: bool,
    seed: int = 0,
    num_workers: int = 0,
    num_replicas: int = 1,
    rank: int = 0,
    collate: Collate = collate,
) -> DataLoader[VideoItem]:
    """Return a loader of batches; workers are spawned, so that no thread or GPU is forked.

    `collate` makes each batch: without the videos' own labels unless it is `collate_of(data)`; a
    task may have one of its own. The other arguments are those of `LengthBuckets` and `DataLoader`.

    Raises:
        ValueError: there is no video, or a size is out of range.
    """
    if not items:
        raise ValueError("a loader needs one video or more, got none")
    buckets = LengthBuckets(
        [item.num_frames for item in items],
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        views=[len(item.views) for item in items],
        num_replicas=num_replicas,
        rank=rank,
    )
    return DataLoader(
        VideoDataset([view for item in items for view in item.views]),
        batch_sampler=buckets,
        collate_fn=collate,
        num_workers=num_workers,
        multiprocessing_context="spawn" if num_workers else None,
        persistent_workers=num_workers > 0,
    )
