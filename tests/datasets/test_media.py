from pathlib import Path

import pytest

from vidmamba.datasets.annotations import AnnotatedVideo
from vidmamba.datasets.media import find_media

VIDEOS = frozenset({".mp4", ".avi"})


def _video(*files: str, span: tuple[float, float] | None = None) -> AnnotatedVideo:
    return AnnotatedVideo(name=files[0], where=f"list.csv:{len(files)}", files=files, span=span)


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_a_path_is_that_file_and_a_name_alone_lies_at_any_depth(tmp_path: Path) -> None:
    _touch(tmp_path, "a/x.mp4", "b/deep/v_1.5.avi", "c/x.AVI", "c/.y.mp4", ".d/y.mp4", "c/y.txt")
    videos = [_video("a/x"), _video("c/x.AVI"), _video("v_1.5"), _video("nowhere", "a/gone")]
    found = find_media(videos, tmp_path, VIDEOS)
    assert found == {
        "a/x": tmp_path / "a/x.mp4",
        "c/x.AVI": tmp_path / "c/x.AVI",
        "v_1.5": tmp_path / "b/deep/v_1.5.avi",
    }


def test_the_first_place_that_holds_a_file_counts(tmp_path: Path) -> None:
    _touch(tmp_path, "P01/videos/P01_01.mp4", "old/P01_02.mp4")
    videos = [_video(f"P01/videos/{name}", name) for name in ("P01_01", "P01_02")]
    assert [*find_media(videos, tmp_path, VIDEOS).values()] == [
        tmp_path / "P01/videos/P01_01.mp4",
        tmp_path / "old/P01_02.mp4",
    ]


def test_features_of_a_listed_video_are_found_without_its_suffix(tmp_path: Path) -> None:
    _touch(tmp_path, "a/x.npy", "a/x.timestamps.npy", "a/y.1.npy")
    videos = [_video("a/x.mp4"), _video("a/y.1"), _video("a/y.2")]
    found = find_media(videos, tmp_path, frozenset({".npy"}), dropped=VIDEOS)
    assert found == {"a/x.mp4": tmp_path / "a/x.npy", "a/y.1": tmp_path / "a/y.1.npy"}


def test_missing_videos_are_counted_and_the_first_named_in_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _touch(tmp_path, "a.mp4")
    find_media([_video(name) for name in "abcdef"], tmp_path, VIDEOS)
    assert caplog.messages == [
        f"5 of 6 annotated videos are not in {tmp_path} and left out: b, c, d and 2 more"
    ]


def test_no_video_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gone: no such folder"):
        find_media([_video("b")], tmp_path / "gone", VIDEOS)
    with pytest.raises(ValueError, match=r"holds no file that ends in \.avi \.mp4"):
        find_media([_video("b")], tmp_path, VIDEOS)
    _touch(tmp_path, "a.mp4")
    with pytest.raises(ValueError, match="holds none of the 2 annotated videos, such as b, c"):
        find_media([_video("b"), _video("c")], tmp_path, VIDEOS)


def test_a_name_that_several_files_or_videos_share_is_refused(tmp_path: Path) -> None:
    _touch(tmp_path, "a/x.mp4", "b/x.mp4", "a/x.avi")
    with pytest.raises(ValueError, match=r"list\.csv:1: x may be any of .*a/x\.avi, .*a/x\.mp4"):
        find_media([_video("x")], tmp_path, VIDEOS)
    with pytest.raises(ValueError, match=r"list\.csv:1: a/x may be any of"):
        find_media([_video("a/x")], tmp_path, VIDEOS)
    with pytest.raises(ValueError, match=r"list\.csv:2: .*a/x\.mp4 is a/x\.mp4 already \(list"):
        find_media([_video("a/x.mp4"), _video("other", "a/x.mp4")], tmp_path, VIDEOS)
    halves = [
        _video("first", "a/x.mp4", span=(0.0, 5.0)),
        _video("second", "a/x.mp4", span=(5.0, 9.0)),
    ]
    assert len(find_media(halves, tmp_path, VIDEOS)) == 2
