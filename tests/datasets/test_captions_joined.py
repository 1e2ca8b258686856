"""Captioned videos meet features: parts, times, references, and whatever is missing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidmamba.datasets.captions import (
    MSRVTT_1K,
    AnnotatedVideos,
    CaptionedVideo,
    annotators,
    captioned_set,
    draw_references,
    events_of,
    find_npy_features,
    hold_out,
    keep_with_features,
    read_npz_features,
    read_packed_clips,
    split_by_number,
)
from vidmamba.datasets.records import UNLABELLED
from vidmamba.timeline import Caption


def _clip(name: str, **fields: object) -> CaptionedVideo:
    usual: dict[str, Any] = {"duration": 10.0, "references": ("one", "two", "two")}
    return CaptionedVideo(**{"name": name, "source": "f.json", "split": "train"} | usual | fields)


def _dense(name: str, duration: float = 10.0) -> CaptionedVideo:
    captions = (Caption(start=0.0, end=4.0, text="a"), Caption(start=2.0, end=9.0, text="b"))
    return CaptionedVideo(name=name, duration=duration, captions=captions, split="train")


def _features(frames: int = 5, width: int = 3, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.standard_normal((frames, width)).astype(np.float16)


def test_the_references_of_a_clip_all_span_it_and_are_one_event() -> None:
    (item,) = captioned_set([_clip("v")], {"v": _features()}).train
    assert [caption.text for caption in item.captions] == ["one", "two", "two"]
    assert {(caption.start, caption.end) for caption in item.captions} == {(0.0, 10.0)}
    assert events_of(item.captions) == (item.captions,)
    assert (item.labels == UNLABELLED).all()


def test_dense_captions_keep_their_times_and_are_an_event_each() -> None:
    video = _dense("v")
    (item,) = captioned_set([video], {"v": _features()}).train
    assert item.captions == video.captions
    assert [len(event) for event in events_of(item.captions)] == [1, 1]


def test_an_epoch_draws_every_reference_as_often_as_the_others() -> None:
    captions = _clip("v", references=("a", "b", "c", "d")).timed(10.0)
    captions = (*captions, Caption(start=3.0, end=4.0, text="event"))
    random = np.random.default_rng(0)
    drawn = [draw_references(captions, random) for _ in range(4000)]
    assert {len(epoch) for epoch in drawn} == {2}
    assert {epoch[1].text for epoch in drawn} == {"event"}
    counts = np.unique([epoch[0].text for epoch in drawn], return_counts=True)[1]
    # binomial(4000, 1/4) has a standard deviation of 27
    assert np.abs(counts - 1000).max() < 5 * 27


def test_features_spread_evenly_or_at_their_rate() -> None:
    spread = captioned_set([_clip("v")], {"v": _features(5)})
    assert spread.train[0].timestamps.tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]
    rated = captioned_set([_clip("v", duration=None)], {"v": _features(5)}, fps=2)
    assert rated.train[0].timestamps.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    # all that is known of the length is that of the features
    assert {caption.end for caption in rated.train[0].captions} == {2.5}
    with pytest.raises(ValueError, match=r"f\.json, v: no duration is known, so fps"):
        captioned_set([_clip("v", duration=None)], {"v": _features(5)})


def test_captions_after_the_features_end_are_refused() -> None:
    with pytest.raises(ValueError, match=r"v: 5 features at 5 a second end at 1\.0 s, but .* 2\.0"):
        captioned_set([_dense("v")], {"v": _features(5)}, fps=5)


def test_a_category_becomes_the_class_of_the_video() -> None:
    videos = [_clip("a", category="music"), _clip("b", category="food")]
    features = {"a": _features(), "b": _features()}
    data = captioned_set(videos, features)
    assert data.video_class_names == ("food", "music")
    assert [item.video_labels for item in data.train] == [(1,), (0,)]
    half = captioned_set([videos[0], _clip("b")], features)
    assert half.video_class_names == ()
    assert half.train[0].video_labels == ()


def test_the_feature_key_tells_other_features_apart() -> None:
    one, same, other = (
        captioned_set([_clip("v")], {"v": _features(seed=seed)}).feature_key for seed in (0, 0, 1)
    )
    assert one == same
    assert one != other
    assert captioned_set([_clip("v")], {"v": _features()}, fps=2).feature_key != one
    # of a folder's features, whoever is annotated: a checkpoint may be scored on other videos
    several = {"v": _features(), "w": _features(seed=1)}
    assert captioned_set([_clip("w")], several).feature_key == one


def test_missing_features_and_parts_are_named() -> None:
    with pytest.raises(ValueError, match=r"1 of 2 videos of f\.json have no features: b"):
        captioned_set([_clip("a"), _clip("b")], {"a": _features()})
    with pytest.raises(ValueError, match=r"f\.json, a: in no part"):
        captioned_set([_clip("a", split=None)], {"a": _features()})
    with pytest.raises(ValueError, match="fps must be above 0, got 0"):
        captioned_set([_clip("a")], {"a": _features()}, fps=0)
    with pytest.raises(ValueError, match="no video"):
        captioned_set([], {})


def test_an_annotation_without_video_and_a_video_without_annotation_are_noted() -> None:
    read = AnnotatedVideos(videos=(_clip("a"), _clip("b")))
    kept = keep_with_features(read, {"a": _features(), "c": _features()})
    assert [video.name for video in kept.videos] == ["a"]
    assert [str(issue) for issue in kept.issues] == [
        "f.json, b: 3 captions of a video without features: left out (no features)",
        "features, c: has no captions: left out (not annotated)",
    ]
    with pytest.raises(ValueError, match=r"none of 2 .* of 'a' and so on, features of 'v_a'"):
        keep_with_features(read, ["v_a", "v_b"])


def test_videos_are_split_by_the_number_of_their_name() -> None:
    numbers = (0, 799, 800, 899, 900, 999)
    read = AnnotatedVideos(videos=tuple(_clip(f"video{k}", split=None) for k in numbers))
    parts = [video.split for video in split_by_number(read, MSRVTT_1K).videos]
    assert parts == ["train", "train", "validation", "validation", "test", "test"]
    for name in ("video1000", "video"):
        with pytest.raises(ValueError, match=f"{name} must end in a number of one part"):
            split_by_number(AnnotatedVideos(videos=(_clip(name),)), MSRVTT_1K)


def test_held_out_videos_come_from_the_training_ones_by_name_and_seed() -> None:
    train = tuple(_clip(f"v{k}") for k in range(10))
    read = AnnotatedVideos(videos=(*train, _clip("t", split="test")))

    def chosen(read: AnnotatedVideos, share: float | int, seed: int = 0) -> set[str]:
        videos = hold_out(read, share, seed=seed).videos
        return {video.name for video in videos if video.split == "validation"}

    assert len(chosen(read, 0.3)) == len(chosen(read, 3)) == 3
    assert "t" not in chosen(read, 0.9)
    assert chosen(AnnotatedVideos(videos=read.videos[::-1]), 3) == chosen(read, 3)
    assert len({frozenset(chosen(read, 3, seed)) for seed in range(5)}) > 1
    for share in (0, 0.0, 10, 1.0):
        with pytest.raises(ValueError, match="cannot hold out"):
            hold_out(read, share)


def test_annotators_of_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="v and 0 more have no timed captions"):
        annotators(AnnotatedVideos(videos=(_clip("v"),)))


def test_an_npz_of_features_is_read_by_video(tmp_path: Path) -> None:
    arrays = {"video0": _features(5), "видео": _features(1, seed=1)}
    np.savez(tmp_path / "f.npz", **arrays)  # type: ignore[arg-type]
    read = read_npz_features(tmp_path / "f.npz")
    assert list(read) == ["video0", "видео"]
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize("frames_first", [True, False, None])
def test_an_npz_takes_a_stride_and_either_order_of_axes(
    tmp_path: Path, frames_first: bool | None
) -> None:
    arrays = {"a": _features(7), "b": _features(4, seed=1)}
    stored = {name: x if frames_first else x.T for name, x in arrays.items()}
    np.savez(tmp_path / "f.npz", **stored)  # type: ignore[arg-type]
    read = read_npz_features(tmp_path / "f.npz", frames_first=frames_first, stride=3)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array[::3])
    with pytest.raises(ValueError, match="stride must be 1 or more, got 0"):
        read_npz_features(tmp_path / "f.npz", stride=0)


def _one_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, _features())


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "is missing"),
        (lambda path: path.write_bytes(b"PK\x03\x04 half a file"), r"is no \.npz file"),
        (lambda path: path.write_bytes(b""), r"is no \.npz file"),
        (_one_array, "it holds one array"),
        (lambda path: np.savez(path), "holds no features"),
        (lambda path: np.savez(path, v=np.zeros(3)), r"v: expected floats \[T, D\], .* \[3\]"),
        (lambda path: np.savez(path, v=np.zeros((0, 3))), r"v: expected floats .* \[0, 3\]"),
        (lambda path: np.savez(path, v=np.zeros((2, 3), np.int64)), r"v: .* int64 of shape"),
        (lambda path: np.savez(path, v=np.full((2, 3), np.nan)), "v: has values that are not fin"),
        (lambda path: np.savez(path, v=np.array([{}])), r"is no \.npz file"),
        (
            lambda path: np.savez(path, v=np.zeros((2, 3)), w=np.zeros((2, 4))),
            "w has features of width 4, v of 3",
        ),
    ],
)
def test_a_damaged_npz_is_refused_by_name(
    tmp_path: Path, write: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "f.npz"
    write(path)
    with pytest.raises(ValueError, match=rf"f\.npz.*{message}"):
        read_npz_features(path)


@pytest.mark.parametrize("frames_first", [True, False, None])
def test_a_folder_of_npy_files_is_read_when_used(tmp_path: Path, frames_first: bool | None) -> None:
    stored = {"v_a": _features(7), "v_b": _features(1)}
    for name, array in stored.items():
        np.save(tmp_path / f"{name}.npy", array if frames_first else array.T)
    found = find_npy_features(tmp_path, frames_first=frames_first, stride=3)
    assert list(found) == ["v_a", "v_b"]
    data = captioned_set([_clip("v_a"), _clip("v_b")], found)
    for item in data.train:
        np.testing.assert_array_equal(item.read_features(), stored[item.name][::3])
        assert item.num_frames == len(item.timestamps)


def test_a_folder_that_does_not_fit_is_refused_by_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no features"):
        find_npy_features(tmp_path)
    np.save(tmp_path / "a.npy", np.zeros((4, 3)))
    with pytest.raises(ValueError, match="stride must be 1 or more, got 0"):
        find_npy_features(tmp_path, stride=0)
    np.save(tmp_path / "b.npy", np.zeros((4, 2)))
    with pytest.raises(ValueError, match="b has features of width 2, a of 3"):
        find_npy_features(tmp_path)
    np.save(tmp_path / "b.npy", np.zeros((4, 3, 1)))
    with pytest.raises(ValueError, match=r"b\.npy: expected 2 axes"):
        find_npy_features(tmp_path)
    (tmp_path / "b.npy").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"b\.npy is no \.npy file"):
        find_npy_features(tmp_path)


@pytest.mark.data
def test_the_real_msrvtt_clips_join_their_features(real_data: Path) -> None:
    folder = real_data / "captions"
    read = split_by_number(read_packed_clips(folder / "msrvtt_1k_captions.json"), MSRVTT_1K)
    features = read_npz_features(folder / "msrvtt_1k_features.npz")
    read = keep_with_features(read, features)
    assert len(read.issues) == 0
    data = captioned_set(read.videos, features)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [800, 100, 100]
    assert len(data.video_class_names) == 20
    for item in (*data.train, *data.validation, *data.test):
        assert item.features.shape == (50, 128)
        assert [len(event) for event in events_of(item.captions)] == [20]
