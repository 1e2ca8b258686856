from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vidmamba.datasets.batching import LengthBuckets, collate, collate_of, make_loader
from vidmamba.datasets.feature_file import FeatureFile
from vidmamba.datasets.records import LabelledSet, VideoItem


def _items(*lengths: int) -> list[VideoItem]:
    random = np.random.default_rng(0)
    return [
        VideoItem(
            name=f"v{index}",
            features=random.standard_normal((length, 3)).astype(np.float16),
            labels=random.integers(-1, 4, length),
            timestamps=np.arange(length) / 10,
        )
        for index, length in enumerate(lengths)
    ]


def test_a_batch_holds_each_video_and_pads_the_rest() -> None:
    items = _items(5, 1, 3)
    batch = collate(items)
    assert batch.features.shape == (3, 5, 3)
    for row, item in enumerate(items):
        frames = item.num_frames
        np.testing.assert_array_equal(batch.features[row, :frames].numpy(), item.features)
        expected = [-100 if label == -1 else label for label in item.labels.tolist()]
        assert batch.labels[row].tolist() == expected + [-100] * (5 - frames)
        assert batch.mask[row].tolist() == [True] * frames + [False] * (5 - frames)
        assert batch.features[row, frames:].eq(0).all()
    assert batch.names == ("v0", "v1", "v2")


def test_videos_of_different_widths_are_refused() -> None:
    odd = VideoItem(
        name="odd",
        features=np.zeros((2, 7), dtype=np.float32),
        labels=np.zeros(2, dtype=np.int64),
        timestamps=np.arange(2.0),
    )
    with pytest.raises(ValueError, match="'v0': 3, 'odd': 7"):
        collate([*_items(2), odd])


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("videos", "batch_size"), [(1, 4), (7, 1), (23, 4), (100, 3)])
def test_every_video_comes_once_an_epoch(videos: int, batch_size: int, shuffle: bool) -> None:
    lengths = np.random.default_rng(1).integers(1, 1000, videos).tolist()
    buckets = LengthBuckets(lengths, batch_size=batch_size, shuffle=shuffle, seed=3)
    for _ in range(2):
        batches = [*buckets]
        assert sorted(index for batch in batches for index in batch) == [*range(videos)]
        assert len(batches) == len(buckets)


def test_an_epoch_has_one_view_of_each_video_and_many_epochs_have_all() -> None:
    views = [1, 3, 2, 5, 4]
    numbers = np.split(np.arange(sum(views)), np.cumsum(views)[:-1])
    buckets = LengthBuckets([9, 8, 7, 6, 5], batch_size=2, shuffle=True, views=views)
    seen = set()
    for _ in range(60):
        drawn = sorted(index for batch in buckets for index in batch)
        assert all(index in own for index, own in zip(drawn, numbers, strict=True))
        seen |= {*drawn}
    assert seen == {*range(sum(views))}
    first = LengthBuckets([9, 8, 7, 6, 5], batch_size=2, shuffle=False, views=views)
    assert [*first] == [[0, 1], [4, 6], [11]]


def test_a_loader_shows_the_views_that_were_drawn() -> None:
    shown, other, alone = _items(4, 3, 5)
    loader = make_loader([replace(shown, shifted=(other,)), alone], batch_size=1, shuffle=True)
    names = {name for _ in range(20) for batch in loader for name in batch.names}
    assert names == {"v0", "v1", "v2"}
    still = make_loader([replace(shown, shifted=(other,)), alone], batch_size=1, shuffle=False)
    assert [batch.names for batch in still] == [("v2",), ("v0",)]


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int | None = None) -> list[list[int]]:
        buckets = LengthBuckets(range(1, 41), batch_size=4, shuffle=True, seed=seed)
        if epoch is not None:
            buckets.set_epoch(epoch)
        return [*buckets]

    assert order(1) == order(1, epoch=0)
    assert order(1) != order(2)
    assert order(1, epoch=1) != order(1, epoch=0)
    counted = LengthBuckets(range(1, 41), batch_size=4, shuffle=True, seed=1)
    assert [[*counted], [*counted]] == [order(1, epoch=0), order(1, epoch=1)]


def test_buckets_pad_far_less_than_chance() -> None:
    lengths = np.random.default_rng(2).integers(100, 10_000, 200)

    def padded(batches: list[list[int]]) -> float:
        room = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
        return room / int(lengths.sum()) - 1

    chance = np.random.default_rng(3).permutation(200).reshape(50, 4).tolist()
    for shuffle in (True, False):
        buckets = LengthBuckets(lengths.tolist(), batch_size=4, shuffle=shuffle)
        assert padded([*buckets]) < padded(chance) / 4


def test_processes_share_the_batches_and_take_as_many_steps() -> None:
    shares = [
        [*LengthBuckets(range(1, 28), batch_size=4, shuffle=True, num_replicas=3, rank=rank)]
        for rank in range(3)
    ]
    assert {len(share) for share in shares} == {3}
    seen = {index for share in shares for batch in share for index in batch}
    assert seen == set(range(27))


def test_the_longest_videos_come_first_when_not_shuffled() -> None:
    names = [batch.names for batch in make_loader(_items(3, 9, 1), batch_size=2, shuffle=False)]
    assert names == [("v1", "v0"), ("v2",)]


def test_labels_of_whole_videos_become_a_row_of_zeros_and_ones() -> None:
    labels: list[tuple[int, ...]] = [(2,), (0, 3), ()]
    items = [
        replace(item, video_labels=own) for item, own in zip(_items(2, 4, 3), labels, strict=True)
    ]
    data = LabelledSet(
        class_names=("a", "b", "c", "d"),
        background=(),
        train=tuple(items),
        validation=(),
        test=(),
        feature_key={},
        video_class_names=("k", "l", "m", "n"),
        multi_label=True,
    )
    batch = collate_of(data)(items)
    assert batch.video_labels.tolist() == [[0, 0, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]]
    assert collate(items).video_labels.shape == (3, 0)
    with pytest.raises(ValueError, match=r"v1: 3 video classes, but labels \[3\]"):
        collate(items, num_video_classes=3)


def _names(items: Sequence[VideoItem]) -> list[str]:
    return [item.name for item in items]


def test_a_task_may_make_its_own_batches() -> None:
    loader = make_loader(_items(3, 9, 1), batch_size=2, shuffle=False, collate=_names)
    assert [*loader] == [["v1", "v0"], ["v2"]]


@pytest.mark.slow
def test_spawned_workers_give_the_same_batches(tmp_path: Path) -> None:
    items = []
    for item in _items(4, 6, 2, 5):
        np.save(tmp_path / f"{item.name}.npy", np.asarray(item.features).T)
        file = FeatureFile(
            path=tmp_path / f"{item.name}.npy",
            frames_first=False,
            num_frames=item.num_frames,
            width=3,
        )
        items.append(
            VideoItem(name=item.name, features=file, labels=item.labels, timestamps=item.timestamps)
        )
    here = [*make_loader(items, batch_size=2, shuffle=True, seed=5)]
    there = [*make_loader(items, batch_size=2, shuffle=True, seed=5, num_workers=1)]
    for ours, theirs in zip(here, there, strict=True):
        assert ours.names == theirs.names
        for left, right in zip(ours[:3], theirs[:3], strict=True):
            assert torch.equal(left, right)
