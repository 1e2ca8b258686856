from collections.abc import Collection, Iterator
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import jaxtyping
import numpy as np
import pytest
import torch

from vidmamba.metrics import (
    SegmentationScore,
    edit_score,
    frame_accuracy,
    score_videos,
    segmental_f1,
)
from vidmamba.metrics.videos import COMPATS, CompatName

Pair = tuple[np.ndarray, np.ndarray]


def _frames(*stretches: tuple[int, int]) -> np.ndarray:
    """Labels of stretches (label, frames)."""
    return np.repeat([label for label, _ in stretches], [frames for _, frames in stretches])


def _video(random: np.random.Generator, classes: int = 4) -> Pair:
    def labels(frames: int) -> np.ndarray:
        stretches = random.integers(0, classes, frames), random.integers(1, 9, frames)
        return np.repeat(*stretches)[:frames]

    frames = int(random.integers(1, 60))
    predicted, true = labels(frames), labels(frames)
    keep = random.random() < 0.5  # half of the videos: a prediction that resembles the truth
    return (np.where(random.random(frames) < 0.2, predicted, true) if keep else predicted), true


VIDEOS = [_video(np.random.default_rng(seed)) for seed in range(60)]


def _segments(labels: np.ndarray, background: Collection[int]) -> list[tuple[int, set[int]]]:
    """The plain definition: (label, its frames) of each stretch that is not background."""
    stretches = groupby(range(len(labels)), key=lambda frame: int(labels[frame]))
    return [(label, set(frames)) for label, frames in stretches if label not in background]


def _edit_by_definition(predicted: np.ndarray, true: np.ndarray, background: set[int]) -> float:
    left = tuple(label for label, _ in _segments(predicted, background))
    right = tuple(label for label, _ in _segments(true, background))

    @cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        swap = distance(i - 1, j - 1) + (left[i - 1] != right[j - 1])
        return min(swap, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    longer = max(len(left), len(right))
    return 100 * (1 - distance(len(left), len(right)) / longer) if longer else 100.0


def _counts_by_definition(
    predicted: np.ndarray, true: np.ndarray, overlap: float, background: set[int]
) -> tuple[int, int, int]:
    found, wanted = _segments(predicted, background), _segments(true, background)
    used: set[int] = set()
    for label, frames in found:
        ratios = [
            len(frames & others) / len(frames | others) if other == label else 0.0
            for other, others in wanted
        ]
        if ratios and max(ratios) >= overlap:
            used.add(ratios.index(max(ratios)))
    return len(used), len(found) - len(used), len(wanted) - len(used)


def _f1(tp: int, fp: int, fn: int) -> float:
    return 200 * tp / (2 * tp + fp + fn) if tp + fp + fn else 100.0


@pytest.mark.parametrize("background", [set(), {0}, {0, 2}])
def test_scores_are_those_of_the_definitions(background: set[int]) -> None:
    for predicted, true in VIDEOS:
        right = sum(p == t for p, t in zip(predicted.tolist(), true.tolist(), strict=True))
        assert frame_accuracy(predicted, true) == pytest.approx(100 * right / len(true))
        assert edit_score(predicted, true, background=background) == pytest.approx(
            _edit_by_definition(predicted, true, background)
        )
        for overlap in (0.1, 0.25, 0.5, 1.0):
            counts = _counts_by_definition(predicted, true, overlap, background)
            f1 = segmental_f1(predicted, true, overlap, background=background)
            assert f1 == pytest.approx(_f1(*counts))


def test_one_video_worked_by_hand() -> None:
    true = _frames((0, 10), (1, 10), (2, 10), (0, 10))
    predicted = _frames((0, 10), (1, 5), (3, 1), (1, 4), (2, 20))
    # right: 10 of 0, 9 of 1, 10 of 2, and none of the last 10
    assert frame_accuracy(predicted, true) == pytest.approx(100 * 29 / 40)
    # 1 3 1 2 becomes 1 2 by two deletions; of all: 0 1 3 1 2 becomes 0 1 2 0 by three edits
    assert edit_score(predicted, true, background=(0,)) == pytest.approx(100 * (1 - 2 / 4))
    assert edit_score(predicted, true) == pytest.approx(100 * (1 - 3 / 5))
    # overlaps: the first 1 is 5 of 10, the second 4 of 10, and 2 is 10 of 20 frames; the true 1 is
    # found once, so 3 and the other 1 are wrong
    assert segmental_f1(predicted, true, 0.5, background=(0,)) == pytest.approx(_f1(2, 2, 0))
    assert segmental_f1(predicted, true, 0.51, background=(0,)) == pytest.approx(_f1(0, 4, 2))


def test_of_two_true_segments_overlapped_equally_the_first_is_found() -> None:
    true = _frames((1, 1), (0, 1), (1, 6))
    predicted = _frames((1, 4), (0, 1), (1, 3))
    # the first prediction shares 1 of 4 frames with the first, and 2 of 8 with the second, which is
    # thereby left to the second prediction
    assert segmental_f1(predicted, true, 0.25, background=(0,)) == 100.0


def test_background_between_two_segments_does_not_join_them() -> None:
    apart, joined = _frames((1, 3), (0, 2), (1, 3)), _frames((1, 8))
    assert edit_score(apart, joined, background=(0,)) == 50.0


def test_a_prediction_that_is_right_everywhere_scores_100() -> None:
    for _, true in VIDEOS:
        assert frame_accuracy(true, true) == 100.0
        assert edit_score(true, true, background=(0,)) == 100.0
        assert segmental_f1(true, true, 1.0, background=(0,)) == 100.0


def test_a_video_of_background_alone_is_perfect_only_when_left_empty() -> None:
    empty, something = np.zeros(6, dtype=np.int64), _frames((0, 3), (1, 3))
    for score in (
        edit_score(empty, empty, background=(0,)),
        segmental_f1(empty, empty, 0.5, background=(0,)),
    ):
        assert score == 100.0
    for predicted, true in ((empty, something), (something, empty)):
        assert edit_score(predicted, true, background=(0,)) == 0.0
        assert segmental_f1(predicted, true, 0.5, background=(0,)) == 0.0


def test_lists_arrays_and_tensors_score_alike() -> None:
    predicted, true = [1, 1, 2], [1, 2, 2]
    kinds: list[Any] = [list, np.array, torch.tensor, lambda x: np.array(x, dtype=np.uint8)]
    for kind in kinds:
        left, right = kind(predicted), kind(true)
        assert frame_accuracy(left, right) == pytest.approx(200 / 3)
        assert edit_score(left, right) == 100.0
        assert segmental_f1(left, right, 0.5) == 100.0
        assert segmental_f1(left, right, 50) == 100.0
        assert segmental_f1(left, right, 51) == 0.0


@pytest.mark.parametrize(
    ("predicted", "true", "message"),
    [
        ([1, 2, 3], [1, 2], r"shapes \[3\] and \[2\]"),
        ([], [], r"shapes \[0\] and \[0\]"),
        ([[1, 2]], [[1, 2]], r"shapes \[1, 2\] and \[1, 2\]"),
        ([0.5, 1.0], [1, 1], "float64 and int64"),
    ],
)
def test_labels_that_do_not_pair_up_are_refused(predicted: Any, true: Any, message: str) -> None:
    for score in (frame_accuracy, edit_score, partial(segmental_f1, overlap=0.5)):
        with pytest.raises(ValueError, match=message):
            score(predicted, true)
    with pytest.raises(ValueError, match=f"video 1: .*{message}"):
        score_videos([([0], [0]), (predicted, true)])


@pytest.mark.parametrize("overlap", [0.0, -0.1, 101.0, float("nan")])
def test_an_overlap_that_no_segment_can_have_is_refused(overlap: float) -> None:
    with pytest.raises(ValueError, match=r"percentage up to 100, got"):
        segmental_f1([1], [1], overlap)


def test_per_video_averages_each_videos_scores() -> None:
    scores = score_videos(VIDEOS, convention="per_video", background=(0,))
    assert [*scores] == ["accuracy", "edit", "f1@10", "f1@25", "f1@50"]
    expected = {
        "accuracy": np.mean([frame_accuracy(*video) for video in VIDEOS]),
        "edit": np.mean([edit_score(*video, background=(0,)) for video in VIDEOS]),
        **{
            f"f1@{percent}": np.mean(
                [segmental_f1(*video, percent / 100, background=(0,)) for video in VIDEOS]
            )
            for percent in (10, 25, 50)
        },
    }
    assert scores == pytest.approx(expected)


def test_pooled_counts_all_videos_segments_and_frames_together() -> None:
    scores = score_videos(
        VIDEOS, convention="pooled", background=(0,), last_segment_end="exact", overlaps=(0.25,)
    )
    counts = [_counts_by_definition(*video, 0.25, {0}) for video in VIDEOS]
    right = sum(int((predicted == true).sum()) for predicted, true in VIDEOS)
    assert scores == pytest.approx(
        {
            "accuracy": 100 * right / sum(len(true) for _, true in VIDEOS),
            "edit": np.mean([edit_score(*video, background=(0,)) for video in VIDEOS]),
            "f1@25": _f1(*(sum(column) for column in zip(*counts, strict=True))),
        }
    )


def test_a_last_segment_one_frame_short_can_lose_its_match() -> None:
    true = _frames((1, 8), (2, 4))
    predicted = _frames((1, 10), (2, 2))
    ends: list[tuple[Literal["exact", "one_short"] | None, float]] = [
        ("exact", 100.0),  # the last segment shares 2 of 4 frames
        ("one_short", 50.0),  # 1 of 3
        (None, 50.0),  # what MS-TCN++'s code does, which pools
    ]
    for end, expected in ends:
        scores = score_videos([(predicted, true)], convention="pooled", last_segment_end=end)
        assert scores["f1@50"] == expected
    assert score_videos([(predicted, true)], convention="per_video")["f1@50"] == 100.0


def test_a_last_segment_of_one_frame_is_never_found_when_one_short() -> None:
    video = _frames((1, 3), (2, 1))
    scores = score_videos([(video, video)], last_segment_end="one_short")
    assert scores["f1@10"] == pytest.approx(_f1(1, 1, 1))


# 12 stored frames of two videos, worked by hand; class 1 is called SIL, as in Breakfast
COMPAT_CLASSES = ("background", "SIL", "stir", "pour")
FIRST = _frames((2, 10), (3, 2)), _frames((2, 8), (3, 4))  # (predicted, true)
SECOND = _frames((1, 4), (2, 8)), _frames((1, 4), (0, 2), (2, 2), (3, 4))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # each video first: F1@50 of the first is 2 of 2, by 8/10 and 2/4; of the second, SIL is
        # declared background here, so stir alone was said and overlaps 2/8: none of 1 + 2
        ("lea", {"f1@50": (100 + 0) / 2, "f1@25": (100 + 200 / 3) / 2, "edit": (100 + 50) / 2}),
        # together, SIL an action: right are stir, pour; SIL; wrong stir; missed stir, pour
        ("mstcn", {"f1@50": _f1(3, 1, 2), "edit": (100 + 100 * 2 / 3) / 2}),
        ("ltcontext", {"f1@50": _f1(3, 1, 2), "edit": (100 + 100 * 2 / 3) / 2}),
        # a last segment one short: pour shares 1 of 3, stir of the second video 2 of 7
        ("mstcn2", {"f1@50": _f1(2, 2, 3), "f1@25": _f1(4, 0, 1)}),
        ("asformer", {"f1@50": _f1(2, 2, 3), "f1@25": _f1(4, 0, 1)}),
        ("asrf", {"f1@50": _f1(2, 2, 3), "f1@25": _f1(4, 0, 1)}),
        ("diffact", {"f1@50": _f1(2, 2, 3), "f1@25": _f1(4, 0, 1)}),
    ],
)
def test_each_published_evaluator_scores_two_videos_as_worked_by_hand(
    name: CompatName, expected: dict[str, float]
) -> None:
    scores = COMPATS[name].score([FIRST, SECOND], COMPAT_CLASSES, declared=(0, 1))
    assert {metric: scores[metric] for metric in expected} == pytest.approx(expected)
    accuracy = 100 * (10 / 12 + 6 / 12) / 2  # videos of one length: the same by either way
    assert scores["accuracy"] == pytest.approx(accuracy)


def test_frames_pooled_weigh_long_videos_more_than_videos_averaged() -> None:
    pairs = [([2], [2]), ([2, 2, 2], [3, 3, 3])]
    assert COMPATS["lea"].score(pairs, COMPAT_CLASSES)["accuracy"] == 50
    assert COMPATS["mstcn"].score(pairs, COMPAT_CLASSES)["accuracy"] == 25


def test_lea_scores_the_protocols_frames_and_the_others_every_one() -> None:
    strides = {name: compat.stride(5) for name, compat in COMPATS.items()}
    assert strides == {name: 5 if name == "lea" else 1 for name in COMPATS}


def test_a_background_of_another_name_is_an_action_to_the_mstcn_family() -> None:
    for name, compat in COMPATS.items():
        breakfast = compat.background(("SIL", "pour_milk"), declared=(0,))
        assert breakfast == ((0,) if name == "lea" else ())
        assert compat.background(("background", "close"), declared=(0,)) == (0,)


@pytest.fixture
def _as_in_production() -> Iterator[None]:
    """Without the checks of annotations that test runs add."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("_as_in_production")
def test_unknown_conventions_and_no_videos_are_refused() -> None:
    with pytest.raises(ValueError, match="got 'mean'"):
        score_videos(VIDEOS, convention="mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got 'long'"):
        score_videos(VIDEOS, last_segment_end="long")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one video or more, got none"):
        score_videos([])


def _batches(
    videos: list[Pair], size: int
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Padded batches; the padding is a wrong prediction of a real class."""
    batches = []
    for start in range(0, len(videos), size):
        rows = videos[start : start + size]
        longest = max(len(true) for _, true in rows) + 2
        predicted = torch.full((len(rows), longest), 1)
        labels = torch.full((len(rows), longest), 2)
        mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        for row, (video_predicted, video_true) in enumerate(rows):
            predicted[row, : len(video_true)] = torch.from_numpy(video_predicted)
            labels[row, : len(video_true)] = torch.from_numpy(video_true)
            mask[row, : len(video_true)] = True
        batches.append((predicted, labels, mask))
    return batches


@pytest.mark.parametrize("convention", ["per_video", "pooled"])
def test_the_module_scores_padded_batches_as_the_function_scores_videos(
    convention: Literal["per_video", "pooled"],
) -> None:
    score = SegmentationScore(convention=convention, background=(0,), stride=2)
    for batch in _batches(VIDEOS, 7):
        score.update(*batch)
    strided = [(predicted[::2], true[::2]) for predicted, true in VIDEOS]
    expected = score_videos(strided, convention=convention, background=(0,))
    assert {name: value.item() for name, value in score.compute().items()} == pytest.approx(
        expected, rel=1e-6
    )
    score.reset()
    score.update(torch.zeros(1, 3, dtype=torch.int64), torch.full((1, 3), -100))
    with pytest.raises(ValueError, match="got none"):
        score.compute()


def test_unlabelled_frames_do_not_count() -> None:
    score = SegmentationScore()
    labels = torch.tensor([[1, -100, -100, 2]])
    score.update(torch.tensor([[1, 3, 0, 2]]), labels, torch.ones(1, 4, dtype=torch.bool))
    assert all(value.item() == 100.0 for value in score.compute().values())


def test_processes_that_share_the_videos_agree_on_the_scores_of_all() -> None:
    shares = [SegmentationScore(convention="pooled", background=(0,)) for _ in range(2)]
    for share, videos in zip(shares, (VIDEOS[::2], VIDEOS[1::2]), strict=True):
        for batch in _batches(videos, 4):
            share.update(*batch)
    states = [share.total.clone() for share in shares]
    shares[0].dist_sync_fn = lambda *_, **__: states  # what an all_gather would return
    shares[0].distributed_available_fn = lambda: True
    scores = {name: value.item() for name, value in shares[0].compute().items()}
    assert scores == pytest.approx(score_videos(VIDEOS, convention="pooled", background=(0,)))


@pytest.mark.data
def test_the_released_predictions_of_ed_tcn_score_as_its_paper_says(real_data: Path) -> None:
    stored = np.load(real_data / "tas" / "50salads_mid" / "ed_tcn_predictions.npz")
    names = [name.removesuffix("/true") for name in stored.files if name.endswith("/true")]
    pairs = [(stored[f"{name}/pred"], stored[f"{name}/true"]) for name in names]
    assert len(pairs) == 50
    scores = score_videos(pairs, convention="per_video", background=(0,))
    # Lea et al., CVPR 2017, table 1, 50 Salads (mid)
    published = {"f1@10": 68.0, "f1@25": 63.9, "f1@50": 52.6, "edit": 59.8, "accuracy": 64.7}
    assert {name: round(score, 1) for name, score in scores.items()} == published
