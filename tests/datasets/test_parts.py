import logging
from collections import Counter

import numpy as np
import pytest

from vidmamba.datasets.annotations import AnnotatedVideo
from vidmamba.datasets.parts import PartRule, assign_parts, hold_out
from vidmamba.timeline import Segment

SEGMENT = Segment(start=0.0, end=1.0, label="a")


def _videos(subset: str | None, count: int, *, labelled: bool = True) -> list[AnnotatedVideo]:
    return [
        AnnotatedVideo(
            name=f"{subset}{k}",
            where=f"list.csv:{k}",
            files=("x",),
            subset=subset,
            segments=(SEGMENT,) if labelled else (),
        )
        for k in range(count)
    ]


def _counts(videos: list[AnnotatedVideo], **rule: object) -> dict[str, dict[str, int]]:
    """How many videos of each subset are in each part."""
    parts = assign_parts(videos, PartRule(**rule))  # type: ignore[arg-type]
    table: dict[str, dict[str, int]] = {}
    for video in videos:
        if video.name in parts:
            row = table.setdefault(str(video.subset), {})
            row[parts[video.name]] = row.get(parts[video.name], 0) + 1
    return table


def test_the_formats_own_three_subsets_stay_as_they_are() -> None:
    videos = _videos("training", 5) + _videos("Val", 4) + _videos("TEST", 3)
    assert _counts(videos) == {
        "training": {"train": 5},
        "Val": {"validation": 4},
        "TEST": {"test": 3},
    }


def test_without_annotated_test_videos_the_validation_subset_is_tested_on() -> None:
    videos = _videos("training", 10) + _videos("validation", 4)
    withheld = _videos("testing", 3, labelled=False)
    expected = {"training": {"train": 8, "validation": 2}, "validation": {"test": 4}}
    assert _counts(videos + withheld) == _counts(videos) == expected


def test_without_training_videos_the_validation_subset_is_trained_on() -> None:
    videos = _videos("Validation", 10) + _videos("Test", 5)
    assert _counts(videos) == {"Validation": {"train": 8, "validation": 2}, "Test": {"test": 5}}


def test_one_subset_or_none_is_cut_by_shares() -> None:
    for subset in ("train", "validation", None):
        videos = _videos(subset, 50)
        counts = Counter(assign_parts(videos, PartRule(test=0.2, validation=0.25)).values())
        assert counts == {"test": 10, "validation": 10, "train": 30}


def test_subsets_can_be_chosen() -> None:
    videos = _videos("fold1", 4) + _videos("fold2", 4) + _videos("fold3", 4)
    chosen = _counts(videos, train_subsets=("fold1", "fold3"), test_subsets=("fold2",))
    assert chosen["fold2"] == {"test": 4}
    assert sum(chosen[fold].get("validation", 0) for fold in ("fold1", "fold3")) == 2


@pytest.mark.parametrize(
    ("subsets", "rule", "message"),
    [
        (("train", "fold2"), {}, r"list\.csv:0: subset 'fold2' is none of train, .*test_subsets"),
        (("train", None), {}, r"list\.csv:0: no subset is named here, but \['train'\] elsewhere"),
        (("test", "testing"), {}, r"list\.csv:0: of subsets, only \['test', 'testing'\] are anno"),
        (("a", "b"), {"train_subsets": ("c",)}, r"no annotated subset is called \['c'\]"),
        (("a", "b"), {"train_subsets": ("a",), "test_subsets": ("a",)}, "trained and tested on"),
        (("a", "b"), {"test_subsets": ("a",)}, "train_subsets must name some"),
        ((None, None), {"test_subsets": ("a",)}, r"list\.csv:0: no video has a subset"),
        (("train", "test"), {"validation": 3}, "must leave one or more of 3 training videos"),
    ],
)
def test_what_cannot_be_cut_is_refused(
    subsets: tuple[str | None, str | None], rule: dict[str, object], message: str
) -> None:
    videos = _videos(subsets[0], 3) + _videos(subsets[1], 3)
    with pytest.raises(ValueError, match=message):
        _counts(videos, **rule)


def test_what_each_subset_is_for_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        _counts(
            _videos("training", 5) + _videos("validation", 4) + _videos("odd", 1, labelled=False)
        )
    assert caplog.messages == [
        "subsets: training for train, validation for test; left out: odd",
        "validation: 1 of 5 videos, drawn by name",
    ]


def test_the_drawn_videos_follow_from_names_and_seed_alone() -> None:
    names = [f"v{k}" for k in range(30)]
    drawn = hold_out(names, 0.2, seed=1)
    assert drawn == hold_out(names[::-1], 0.2, seed=1) != hold_out(names, 0.2, seed=2)
    assert len(drawn) == 6
    # as every version so far has drawn them
    order = np.random.default_rng(1).permutation(30)
    assert drawn == {sorted(names)[index] for index in order[:6]}


def test_every_class_gives_as_large_a_share() -> None:
    groups = {f"v{k}": "abc"[k % 3] for k in range(60)} | {f"w{k}": "d" for k in range(20)}
    for seed in range(5):
        drawn = hold_out([*groups], 0.25, seed=seed, groups=groups)
        assert Counter(groups[name] for name in drawn) == {"a": 5, "b": 5, "c": 5, "d": 5}
