"""The store's promises, with arrays made up here: whole files, keys, the index."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vidmamba.features.files import written_whole
from vidmamba.features.key import feature_key, hash_file, short, video_key
from vidmamba.features.parts import PART_FRAMES, Parts
from vidmamba.features.store import FeatureStore

IDENTITY = {"name": "net", "weights": "abc", "pooling": "average", "transform": {"image_size": 32}}


def _video(path: Path, content: bytes = b"a video") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _put(store: FeatureStore, video: Path, *, fps: float = 5.0, frames: int = 7) -> str:
    """Store made-up features of a video, the way an extraction does."""
    content = store.content_of(video)
    key = video_key(feature_key(IDENTITY, fps=fps, decoder="auto"), content)
    stem = store.stem(video, key)
    parts = Parts(store.root / ".parts" / stem)
    features = np.arange(frames * 3, dtype=np.float16).reshape(frames, 3)
    parts.append(features, np.arange(frames) / fps)
    parts.join(store.root / f"{stem}.npy", store.root / f"{stem}.timestamps.npy")
    status = video.stat()
    meta: dict[str, Any] = {
        "video": str(video.resolve()),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "frames": frames,
        "width": 3,
        "duration": frames / fps,
        "damage": None,
        "key": key,
    }
    store.record(stem, video, meta)
    parts.drop()
    return stem


def test_numpy_and_pandas_alone_read_the_store(tmp_path: Path) -> None:
    store, video = FeatureStore(tmp_path / "store"), _video(tmp_path / "stairs.mp4")
    _put(store, video)
    table = pd.read_json(tmp_path / "store" / "index.json")
    row = table.iloc[0]
    assert row["video"] == str(video)
    assert (row["frames"], row["width"], row["fps"], row["duration"]) == (7, 3, 5.0, 1.4)
    features = np.load(tmp_path / "store" / row["file"])
    timestamps = np.load(tmp_path / "store" / row["timestamps"])
    assert features.dtype == np.float16
    np.testing.assert_array_equal(features, np.arange(21).reshape(7, 3))
    np.testing.assert_allclose(timestamps, np.arange(7) / 5)


def test_any_change_of_the_key_is_another_file() -> None:
    base: dict[str, Any] = {"identity": IDENTITY, "fps": 5.0, "decoder": "auto"}
    changes: list[dict[str, Any]] = [
        {},
        {"fps": 6.0},
        {"fps": None},
        {"decoder": "pyav"},
        {"identity": IDENTITY | {"weights": "abd"}},
        {"identity": IDENTITY | {"transform": {"image_size": 33}}},
    ]
    keys = [feature_key(**(base | change)) for change in changes]
    names = {short(video_key(key, content)) for key in keys for content in ("00", "01")}
    assert len(names) == 2 * len(changes)
    same = feature_key({**IDENTITY}, fps=5.0, decoder="auto")
    assert short(same) == short(keys[0])


def test_videos_of_one_stem_in_two_folders_do_not_collide(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "store")
    first = _video(tmp_path / "a" / "cam.mp4", b"one")
    second = _video(tmp_path / "b" / "cam.mp4", b"two")
    assert _put(store, first, frames=4) != _put(store, second, frames=5)
    assert len(store.load(first).features) == 4
    assert len(store.load(second).features) == 5


def test_two_keys_of_one_video_must_be_told_apart(tmp_path: Path) -> None:
    store, video = FeatureStore(tmp_path / "store"), _video(tmp_path / "cam.mp4")
    stems = [_put(store, video, fps=fps) for fps in (5.0, 10.0)]
    with pytest.raises(ValueError, match=f"2 feature files of .*{stems[0]}"):
        store.load(video)
    assert store.load(f"{stems[1]}.npy").fps == 10.0


def test_a_video_that_changed_is_not_mistaken_for_its_old_self(tmp_path: Path) -> None:
    store, video = FeatureStore(tmp_path / "store"), _video(tmp_path / "cam.mp4", b"old")
    _put(store, video, frames=4)
    _video(video, b"newer")
    _put(store, video, frames=5)
    assert len(store.load(video).features) == 5


def test_nothing_stored_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no features of cam\.mp4"):
        FeatureStore(tmp_path).load("cam.mp4")


@pytest.mark.parametrize("suffix", [".npy", ".timestamps.npy", ".json"])
@pytest.mark.parametrize("harm", ["missing", "cut"])
def test_files_that_are_not_whole_do_not_count(tmp_path: Path, suffix: str, harm: str) -> None:
    store, video = FeatureStore(tmp_path / "store"), _video(tmp_path / "cam.mp4")
    stem = _put(store, video)
    file = store.root / f"{stem}{suffix}"
    if harm == "missing" or suffix == ".json":  # which is written last, by one rename
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-2])
    assert not store.holds(stem)
    with pytest.raises(ValueError, match="missing or damaged"):
        store.read(stem)


def test_a_write_that_breaks_off_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write() -> None:
        with written_whole(path) as file:
            file.write(b"half")
            file.flush()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"


def test_a_lost_index_is_made_again_from_the_files(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "store")
    for name in "ab":
        _put(store, _video(tmp_path / f"{name}.mp4", name.encode()))
    rows = store.rows()
    (store.root / "index.json").unlink()
    store.index([])
    assert store.rows() == rows
    for path in store.root.glob("a.*"):
        path.unlink()
    store.index([])
    assert store.rows() == rows[1:]


def test_the_index_is_not_written_when_it_says_it_all(tmp_path: Path) -> None:
    store, video = FeatureStore(tmp_path / "store"), _video(tmp_path / "cam.mp4")
    stem = _put(store, video)
    before = (store.root / "index.json").stat()
    store.index([(stem, video)])
    assert (store.root / "index.json").stat().st_mtime_ns == before.st_mtime_ns
    assert (store.root / "index.json").stat().st_ino == before.st_ino


def test_a_hash_is_not_computed_again_while_size_and_time_stand(tmp_path: Path) -> None:
    store, video = FeatureStore(tmp_path / "store"), _video(tmp_path / "cam.mp4")
    _put(store, video)
    rows = store.rows()
    assert rows[0]["content"] == hash_file(video)
    rows[0]["content"] = "remembered"
    assert store.content_of(video, rows) == "remembered"
    _video(video, b"changed")
    assert store.content_of(video, rows) == hash_file(video)


def test_parts_of_a_killed_run_are_found_and_joined_to_plain_arrays(tmp_path: Path) -> None:
    total = 2 * PART_FRAMES + 5
    features = np.random.default_rng(0).normal(size=(total, 4)).astype(np.float16)
    seconds = np.arange(total) / 30
    killed = Parts(tmp_path / "parts")
    for start in range(0, 1500, 100):  # no chance to say goodbye: 1100 frames are on the disk
        killed.append(features[start : start + 100], seconds[start : start + 100])
    (tmp_path / "parts" / ".tmp-half").write_bytes(b"half a part")
    resumed = Parts(tmp_path / "parts")
    done = len(resumed.timestamps)
    assert 1500 - PART_FRAMES < done <= 1500
    np.testing.assert_array_equal(resumed.timestamps, seconds[:done])
    resumed.append(features[done:], seconds[done:])
    assert resumed.join(tmp_path / "f.npy", tmp_path / "t.npy") == (total, 4)
    np.testing.assert_array_equal(np.load(tmp_path / "f.npy"), features)
    np.testing.assert_array_equal(np.load(tmp_path / "t.npy"), seconds)
    resumed.drop()
    assert not (tmp_path / "parts").exists()


def test_meta_is_json_that_says_what_the_features_are(tmp_path: Path) -> None:
    store, video = FeatureStore(tmp_path / "store"), _video(tmp_path / "cam.mp4")
    stem = _put(store, video)
    meta = json.loads((store.root / f"{stem}.json").read_text())
    assert meta["key"]["backbone"] == IDENTITY
    assert meta["key"]["content"] == hash_file(video)
    assert store.load(video).meta == meta
