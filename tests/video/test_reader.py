from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from vidmamba.video.decord_decoder import DecordDecoder
from vidmamba.video.index import Shown
from vidmamba.video.reader import Frames, VideoReader, probe

Pixels = npt.NDArray[np.uint8]
Shoot = Callable[[Any], Path]
Numbers = Callable[[Pixels], list[int]]


@pytest.fixture(params=["auto", "pyav"])
def decoder(request: pytest.FixtureRequest) -> Literal["auto", "pyav"]:
    which: Literal["auto", "pyav"] = request.param
    return which


def _all(reader: VideoReader, fps: float | None = None, batch: int = 17) -> Frames:
    batches = list(reader.at_rate(fps, batch=batch))
    assert all(len(frames.timestamps) == batch for frames in batches[:-1])
    return Frames(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))


def _upright(frames: Frames, rotation: int) -> Pixels:
    """The frames as they were painted, before the file's rotation."""
    return np.rot90(frames.pixels, -rotation // 90, axes=(1, 2))


def _decoded(path: Path) -> list[Pixels]:
    """Every frame, by PyAV's plainest loop."""
    with av.open(str(path)) as container:
        return [np.asarray(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


def test_every_frame_comes_once_in_order_at_its_own_time(
    film: Any, shoot: Shoot, numbers_on: Numbers, decoder: Literal["auto", "pyav"]
) -> None:
    with VideoReader(shoot(film), decoder=decoder) as reader:
        frames = _all(reader)
        rotation = reader.info.rotation
        assert reader.damage is None
        assert reader.info.num_frames == film.num_frames
        assert frames.pixels.shape[1:] == (reader.info.height, reader.info.width, 3)
    assert rotation == film.options.get("rotation", 0)
    assert numbers_on(_upright(frames, rotation)) == [*range(film.num_frames)]
    # the coarsest clock of the matrix is FLV's, 1 ms
    np.testing.assert_allclose(frames.timestamps, film.seconds, atol=5.1e-4)


def test_random_access_gives_the_frame_on_screen(
    film: Any, shoot: Shoot, numbers_on: Numbers, decoder: Literal["auto", "pyav"]
) -> None:
    random = np.random.default_rng(7)
    wanted = random.integers(0, film.num_frames, 25)
    stay = np.diff(film.seconds, append=film.seconds[-1] + 1 / float(film.fps))
    with VideoReader(shoot(film), decoder=decoder) as reader:
        for part in (wanted[:1], wanted[1:20], wanted[20:]):
            # late enough for a clock of 1 ms, and before the next frame
            frames = reader.at_times(film.seconds[part] + 0.6 * stay[part])
            assert numbers_on(_upright(frames, reader.info.rotation)) == part.tolist()
            np.testing.assert_allclose(frames.timestamps, film.seconds[part], atol=5.1e-4)


@pytest.mark.parametrize("fps", [3.0, 40.0])
def test_each_tick_of_a_rate_gets_the_frame_on_screen(
    film: Any, shoot: Shoot, numbers_on: Numbers, fps: float
) -> None:
    with VideoReader(shoot(film)) as reader:
        frames = _all(reader, fps)
        end = reader.info.duration
    # what the container's clock rounds: to milliseconds in Matroska and FLV
    rounding = 2e-5 if film.file.endswith((".mp4", ".ts", ".avi")) else 5e-4
    expected: list[int] = []
    while not expected or len(expected) / fps < end - 1e-3 / fps:
        now = len(expected) / fps + rounding
        expected.append(max(n for n in range(film.num_frames) if film.seconds[n] <= now))
    assert numbers_on(_upright(frames, reader.info.rotation)) == expected
    np.testing.assert_allclose(frames.timestamps, film.seconds[expected], atol=5.1e-4)


def test_frames_are_pixel_for_pixel_those_of_a_plain_decode(film: Any, shoot: Shoot) -> None:
    path = shoot(film)
    with VideoReader(path) as reader:
        frames = _all(reader)
        ours = _upright(frames, reader.info.rotation)
    for mine, plain in zip(ours, _decoded(path), strict=True):
        assert np.abs(mine.astype(int) - plain).max() <= 1


@pytest.mark.parametrize("size", [(112, 96), (96, 60)])  # decord makes four channels of 96
@pytest.mark.parametrize("name", ["h264", "turned-90", "ten-bits", "odd-mpeg4"])
def test_scaling_keeps_number_and_colours(
    films: dict[str, Any], shoot: Shoot, numbers_on: Numbers, name: str, size: tuple[int, int]
) -> None:
    path = shoot(films[name])
    with VideoReader(path, size=size) as reader:
        frames = _all(reader, 5)
        rotation = reader.info.rotation
        assert not reader._distrusted
    assert frames.pixels.shape[1:] == (size[1], size[0], 3)
    turned = [np.rot90(frame, rotation // 90) for frame in _decoded(path)]
    if rotation == 0:
        assert numbers_on(frames.pixels) == [*range(0, 50, 5)]
    for mine, plain in zip(frames.pixels, turned[::5], strict=True):
        picture = Image.fromarray(np.ascontiguousarray(plain))
        other = picture.resize(size, Image.Resampling.BICUBIC)
        assert np.abs(mine.astype(int) - np.asarray(other)).mean() < 2


@pytest.mark.parametrize("name", ["h264", "h264-mkv", "vp9", "av1", "mpeg4-avi", "vfr", "ntsc"])
def test_decord_serves_the_files_it_is_right_for(
    films: dict[str, Any], shoot: Shoot, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    served = []
    frames = DecordDecoder.frames

    def noted(self: DecordDecoder, wanted: npt.NDArray[np.int64]) -> Iterator[Shown]:
        served.append(wanted)
        return frames(self, wanted)

    monkeypatch.setattr(DecordDecoder, "frames", noted)
    with VideoReader(shoot(films[name])) as reader:
        list(reader.at_rate())
        reader.at_times([0.5])
    assert len(served) == 2


@pytest.mark.parametrize("name", ["h264", "vp9", "hevc", "ts"])
def test_two_iterators_of_one_reader_do_not_disturb_each_other(
    films: dict[str, Any], shoot: Shoot, numbers_on: Numbers, name: str
) -> None:
    with VideoReader(shoot(films[name])) as reader:
        seen: tuple[list[int], list[int]] = ([], [])
        for one, two in zip(reader.at_rate(batch=5), reader.at_rate(5, batch=1), strict=True):
            seen[0].extend(numbers_on(one.pixels))
            seen[1].extend(numbers_on(two.pixels))
    assert seen == ([*range(50)], [*range(0, 50, 5)])


def test_times_may_repeat_and_come_in_any_order(
    films: dict[str, Any], shoot: Shoot, numbers_on: Numbers
) -> None:
    with VideoReader(shoot(films["h264"])) as reader:
        frames = reader.at_times([1.5, 0.0, 1.5, 2.0, 0.039])
        assert reader.at_times([]).pixels.shape == (0, 120, 160, 3)
    assert numbers_on(frames.pixels) == [37, 0, 37, 49, 0]
    np.testing.assert_allclose(frames.timestamps, [1.48, 0, 1.48, 1.96, 0], atol=1e-6)


def test_sound_that_starts_before_the_picture_starts_the_timeline(
    tmp_path: Path, films: dict[str, Any], shoot: Shoot
) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(shoot(films["vfr-late"]))) as film, av.open(str(path), "w") as out:
        picture = out.add_stream_from_template(film.streams.video[0])
        sound = out.add_stream("aac", 8000)
        for place in range(0, 32_000, 1000):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), "fltp", "mono")
            samples.sample_rate, samples.pts = 8000, place
            out.mux(sound.encode(samples))
        out.mux(sound.encode(None))
        for packet in film.demux(video=0):
            if packet.dts is not None:
                packet.stream = picture
                out.mux(packet)
    with VideoReader(path) as reader:
        seconds = _all(reader).timestamps
        assert reader.damage is None
    np.testing.assert_allclose(seconds, films["vfr-late"].seconds + 1.5, atol=1e-3)


def test_probe_tells_what_the_header_says(films: dict[str, Any], shoot: Shoot) -> None:
    info = probe(shoot(films["turned-90"]))
    assert (info.width, info.height, info.rotation) == (120, 160, 90)
    assert (info.codec, info.num_frames, info.fps, info.duration) == ("h264", 50, 25.0, 2.0)
    with VideoReader(shoot(films["turned-90"])) as reader:
        assert reader.info == info


@pytest.mark.parametrize("times", [[-0.1], [2.1], [float("nan")]])
def test_times_outside_the_video_are_refused(
    films: dict[str, Any], shoot: Shoot, times: list[float]
) -> None:
    with (
        VideoReader(shoot(films["h264"])) as reader,
        pytest.raises(ValueError, match="no frame at"),
    ):
        reader.at_times(times)


def test_senseless_arguments_are_refused_with_their_value(
    films: dict[str, Any], shoot: Shoot
) -> None:
    path = shoot(films["h264"])
    with VideoReader(path) as reader:
        for fps, batch in ((0.0, 1), (-5, 1), (float("inf"), 1), (5, 0)):
            with pytest.raises(ValueError, match=f"got {fps} and {batch}"):
                reader.at_rate(fps, batch=batch)
    with pytest.raises(ValueError, match="size"):
        VideoReader(path, size=(0, 10))


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_frames_are_recounted_where_the_packets_stamps_mislead(
    films: dict[str, Any], shoot: Shoot, numbers_on: Numbers, decoder: Literal["auto", "pyav"]
) -> None:
    film = films["hevc"]
    with VideoReader(shoot(film), decoder=decoder) as reader:
        stamps = reader._index.stamps.copy()
        stamps[10:] += 1  # as if the decoder gave others from frame 10 on
        reader._index = replace(reader._index, stamps=stamps)
        frames = _all(reader)
        assert numbers_on(frames.pixels) == [*range(50)]
        assert numbers_on(reader.at_times(film.seconds[[30, 5]]).pixels) == [30, 5]
    np.testing.assert_allclose(frames.timestamps, film.seconds, atol=1e-4)


@pytest.mark.parametrize(("across", "down"), [(True, False), (False, True)])
def test_a_mirrored_file_is_mirrored_back(
    tmp_path: Path,
    films: dict[str, Any],
    shoot: Shoot,
    numbers_on: Numbers,
    across: bool,
    down: bool,
) -> None:
    path = tmp_path / "mirrored.mp4"
    with av.open(str(shoot(films["h264"]))) as film, av.open(str(path), "w") as out:
        picture = out.add_stream_from_template(film.streams.video[0])
        picture.set_display_rotation(0, hflip=across, vflip=down)
        for packet in film.demux(video=0):
            if packet.dts is not None:
                packet.stream = picture
                out.mux(packet)
    with VideoReader(path) as reader:
        pixels = next(reader.at_rate()).pixels
    assert numbers_on(pixels[:, :: -1 if down else 1, :: -1 if across else 1]) == [*range(50)]


@pytest.mark.slow
@pytest.mark.data
def test_real_files_give_the_frames_of_a_plain_decode(real_data: Path) -> None:
    paths = sorted(p for p in (real_data / "videos").iterdir() if p.suffix in (".avi", ".mp4"))
    assert paths
    for path in paths:
        plain = _decoded(path)
        with VideoReader(path) as reader:
            count = 0
            seconds = []
            for frames in reader.at_rate():
                for mine, second in zip(*frames, strict=True):
                    assert np.abs(mine.astype(int) - plain[count]).max() <= 1, (path, count)
                    seconds.append(float(second))
                    count += 1
            assert count == len(plain) == reader.info.num_frames
            assert reader.damage is None
            wanted = np.random.default_rng(0).integers(0, count, 12)
            for place, mine in zip(
                wanted, reader.at_times(np.asarray(seconds)[wanted]).pixels, strict=True
            ):
                assert np.abs(mine.astype(int) - plain[place]).max() <= 1, (path, place)
