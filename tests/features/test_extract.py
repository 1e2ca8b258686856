"""Extraction from real, small video files: resumed, shared, repeated, and on bad files."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vidmamba.features import extract, parts
from vidmamba.features.embed import embed_frames, embed_video
from vidmamba.features.extract import ExtractionReport, extract_features
from vidmamba.features.store import FeatureStore
from vidmamba.models.backbone import BackboneConfig, FrozenBackbone
from vidmamba.video.reader import Frames, VideoReader
from vidmamba.video.writer import VideoWriter

CONFIG = BackboneConfig("resnet10t", "random", image_size=32)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def backbone() -> FrozenBackbone:
    return FrozenBackbone(CONFIG)


def _film(path: Path, *, frames: int = 20, seed: int = 0) -> Path:
    """A small H.264 file at 10 frames a second whose pictures all differ."""
    generator = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, width=64, height=48, fps=10) as writer:
        for _ in range(frames):
            colours = generator.integers(0, 256, (3, 4, 3), dtype=np.uint8)
            writer.write(colours.repeat(16, axis=0).repeat(16, axis=1))
    return path


def _run(
    videos: list[Path], backbone: FrozenBackbone, out: Path, *, fps: float | None = None
) -> ExtractionReport:
    return extract_features(
        videos, backbone=backbone, fps=fps, out=out, batch_size=8, progress=False
    )


def _assert_close(ours: Any, theirs: Any) -> None:
    # float16 has 11 bits, and a frame's place in its batch may change float32's last ones
    np.testing.assert_allclose(ours, theirs, rtol=2**-10, atol=2**-10)


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file's inode and time of change."""
    return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for p in [folder, *folder.rglob("*")]}


def test_stored_features_are_the_backbones_of_the_videos_frames(
    tmp_path: Path, backbone: FrozenBackbone
) -> None:
    video, out = _film(tmp_path / "a.mp4"), tmp_path / "store"
    report = _run([video], backbone, out)
    assert (report.done, report.frames) == ([video], 20)
    with VideoReader(video) as reader:
        (frames,) = reader.at_rate(None)
    stored = FeatureStore(out).load(video)
    np.testing.assert_array_equal(stored.timestamps, frames.timestamps)
    expected = backbone(torch.from_numpy(frames.pixels)).numpy()
    _assert_close(np.load(report.files[video]), expected)
    in_memory = embed_video(video, backbone, fps=None, batch_size=8)
    np.testing.assert_array_equal(in_memory.features, stored.features)
    assert in_memory.duration == stored.duration == pytest.approx(2.0)


def test_a_frame_shown_for_several_ticks_is_stored_for_each(
    tmp_path: Path, backbone: FrozenBackbone
) -> None:
    video = _film(tmp_path / "a.mp4", frames=5)
    at_rate = embed_video(video, backbone, fps=30.0)
    every = embed_video(video, backbone, fps=None)
    assert len(at_rate.features) == 15
    _assert_close(at_rate.features, every.features.repeat(3, axis=0))


def test_a_second_run_reads_no_video_and_writes_nothing(
    tmp_path: Path, backbone: FrozenBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = [_film(tmp_path / f"{name}.mp4", seed=ord(name)) for name in "ab"]
    _run(videos, backbone, tmp_path / "store")
    before = _state(tmp_path / "store")

    def refuse(*_args: object, **_options: object) -> None:
        raise AssertionError("a second run opens no video and hashes none")

    monkeypatch.setattr(extract, "FrameStream", refuse)
    monkeypatch.setattr("vidmamba.features.store.hash_file", refuse)
    report = _run(videos, backbone, tmp_path / "store")
    assert report.skipped == videos
    assert (report.done, report.frames, report.failed) == ([], 0, {})
    assert _state(tmp_path / "store") == before


def test_another_key_leaves_the_first_features_alone(
    tmp_path: Path, backbone: FrozenBackbone
) -> None:
    video, out = _film(tmp_path / "a.mp4"), tmp_path / "store"
    first = _run([video], backbone, out).files[video]
    before = first.read_bytes()
    second = _run([video], backbone, out, fps=5.0).files[video]
    other = FrozenBackbone(replace(CONFIG, image_size=40))
    third = _run([video], other, out).files[video]
    assert len({first, second, third}) == 3
    assert first.read_bytes() == before
    assert (len(np.load(first)), len(np.load(second))) == (20, 10)


def test_one_stem_in_two_folders_and_one_video_twice_are_all_served(
    tmp_path: Path, backbone: FrozenBackbone
) -> None:
    first, second = _film(tmp_path / "a" / "cam.mp4"), _film(tmp_path / "b" / "cam.mp4", seed=1)
    copy = tmp_path / "c" / "cam.mp4"
    copy.parent.mkdir()
    copy.write_bytes(first.read_bytes())
    report = _run([first, second, copy], backbone, tmp_path / "store")
    assert sorted(report.done) == [first, second]
    assert report.skipped == [copy]
    assert report.files[first] == report.files[copy] != report.files[second]
    rows = FeatureStore(tmp_path / "store").rows()
    assert sorted(row["video"] for row in rows) == sorted(map(str, [first, second, copy]))


def test_bad_videos_are_reported_and_the_good_go_on(
    tmp_path: Path, backbone: FrozenBackbone
) -> None:
    good = _film(tmp_path / "good.mp4")
    text, empty, gone = tmp_path / "text.mp4", tmp_path / "empty.mp4", tmp_path / "gone.mp4"
    text.write_text("not a video\n" * 100)
    empty.touch()
    report = _run([text, empty, good, gone, tmp_path], backbone, tmp_path / "store")
    assert report.done == [good]
    assert {*report.failed} == {text, empty, gone, tmp_path}
    for video, line in report.failed.items():
        assert str(video) in line
        assert "\n" not in line
    assert not [*(tmp_path / "store" / ".parts").glob("*.*/")]  # nothing half-done stays behind


def test_a_video_cut_off_keeps_the_frames_before_the_break(
    tmp_path: Path, backbone: FrozenBackbone
) -> None:
    whole = _film(tmp_path / "whole.mkv", frames=60)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    report = _run([cut], backbone, tmp_path / "store")
    assert report.done == [cut]
    assert report.damaged[cut]
    stored = FeatureStore(tmp_path / "store").load(cut)
    assert 20 < len(stored.features) < 60
    expected = embed_video(whole, backbone, fps=None, decoder="pyav").features
    _assert_close(stored.features, expected[: len(stored.features)])
    again = _run([cut], backbone, tmp_path / "store")
    assert (again.skipped, again.damaged) == ([cut], report.damaged)


KILLED = """
import sys, time, torch
from pathlib import Path
from vidmamba.features import extract, parts
from vidmamba.models.backbone import BackboneConfig, FrozenBackbone

torch.set_num_threads(1)
parts.PART_FRAMES = 16
embed = extract.embed_frames

def slowly(backbone, frames):
    time.sleep(0.2)
    return embed(backbone, frames)

extract.embed_frames = slowly
short, long, out = map(Path, sys.argv[1:])
backbone = FrozenBackbone(BackboneConfig("resnet10t", "random", image_size=32))
extract.extract_features([short, long], backbone=backbone, fps=None, out=out, batch_size=8)
"""


def test_a_run_killed_half_way_goes_on_where_it_was(
    tmp_path: Path, backbone: FrozenBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_FRAMES", 16)
    short, long = _film(tmp_path / "short.mp4"), _film(tmp_path / "long.mp4", frames=400, seed=1)
    out = tmp_path / "store"
    arguments = [sys.executable, "-c", KILLED, *map(str, (short, long, out))]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE) as process:
        while not [*out.glob(".parts/long.*/000001.npz")]:
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            time.sleep(0.02)
        process.kill()
    assert {path.name.split(".")[0] for path in out.glob("*.json")} == {"index", "short"}
    assert not [*out.glob("long.*")]
    report = _run([short, long], backbone, out)
    assert (report.skipped, report.done) == ([short], [long])
    assert 0 < report.frames <= 400 - 32  # the parts of the killed run are not made again
    expected = embed_video(long, backbone, fps=None, batch_size=8)
    stored = FeatureStore(out).load(long)
    _assert_close(stored.features, expected.features)
    np.testing.assert_array_equal(stored.timestamps, expected.timestamps)


def test_parts_whose_frames_were_other_ones_are_made_again(
    tmp_path: Path, backbone: FrozenBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, out = _film(tmp_path / "a.mp4"), tmp_path / "store"

    def stop(backbone: FrozenBackbone, frames: Frames) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(extract, "embed_frames", stop)
    with pytest.raises(KeyboardInterrupt):
        _run([video], backbone, out)
    monkeypatch.setattr(extract, "embed_frames", embed_frames)
    (folder,) = out.glob(".parts/a.*/")
    np.savez(folder / "000000.npz", features=np.ones((4, 512)), timestamps=np.arange(4.0))
    report = _run([video], backbone, out)
    assert (report.done, report.frames) == ([video], 20)
    expected = embed_video(video, backbone, fps=None).features
    _assert_close(FeatureStore(out).load(video).features, expected)


def test_two_runs_on_one_store_share_the_videos_out(
    tmp_path: Path, backbone: FrozenBackbone
) -> None:
    videos = [_film(tmp_path / f"{k}.mp4", frames=12, seed=k) for k in range(4)]
    # file locks hold between threads as between processes: each run opens its own
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(_run, videos, backbone, tmp_path / "store") for _ in range(2)]
        reports = [run.result() for run in runs]
    done = sorted(video for report in reports for video in report.done)
    assert done == videos  # each of them once
    for report in reports:
        assert sorted(report.done + report.skipped) == videos
    rows = FeatureStore(tmp_path / "store").rows()
    assert [row["video"] for row in rows] == [*map(str, videos)]


def test_features_beyond_float16_are_refused_and_not_stored(
    tmp_path: Path, backbone: FrozenBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = _film(tmp_path / "a.mp4")
    monkeypatch.setattr(
        FrozenBackbone, "forward", lambda self, frames: torch.full((len(frames), 512), 1e5)
    )
    report = _run([video], backbone, tmp_path / "store")
    assert "beyond float16's range" in report.failed[video]
    assert not [*(tmp_path / "store").glob("a.*")]


def test_no_videos_is_an_error(tmp_path: Path, backbone: FrozenBackbone) -> None:
    with pytest.raises(ValueError, match="no videos"):
        _run([], backbone, tmp_path / "store")
