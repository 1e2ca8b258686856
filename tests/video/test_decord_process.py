"""decord's process: it may hang, die or be forgotten, and nothing stays behind."""

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from torch.utils.data import DataLoader

from vidmamba.video import decord_decoder
from vidmamba.video.decord_decoder import DecordDecoder
from vidmamba.video.errors import DecoderFailed, VideoError
from vidmamba.video.index import scan
from vidmamba.video.reader import VideoReader

Pixels = npt.NDArray[np.uint8]
Shoot = Callable[[Any], Path]
Numbers = Callable[[Pixels], list[int]]

pytestmark = pytest.mark.skipif(not decord_decoder.installed(), reason="decord is not installed")

# stands in for decord: right until frame 20, then as the test wants
_STAND_IN = """
import ctypes, os, sys
import numpy as np
class logging:
    ERROR = 0
    set_level = staticmethod(lambda level: None)
def cpu(number): return number
class Frame:
    def __init__(self, pixels): self.pixels = pixels
    def asnumpy(self): return self.pixels
class VideoReader:
    def __init__(self, path, context, width, height): self.place = 0
    def __len__(self): return 50
    def get_key_indices(self): return [0]
    def get_frame_timestamp(self, places): return np.stack([places / 25, places / 25], 1)
    def skip_frames(self, count): self.place += count
    def next(self):
        if self.place == 20:
            {trouble}
        self.place += 1
        return Frame(np.full((120, 160, 3), 7, np.uint8))
"""
_TROUBLES = {
    "hangs-with-the-gil": "ctypes.PyDLL(None).sleep(1000)",
    "dies": "os._exit(3)",
    "raises": "raise RuntimeError('no more')",
    "complains": "print('[h264] error while decoding MB 3 4', file=sys.stderr, flush=True)",
}


@pytest.fixture(autouse=True)
def _no_spare() -> Iterator[None]:
    """Start and end without a process that waits."""
    _forget_spares()
    yield
    gc.collect()
    _forget_spares()
    assert _children() == []


def _forget_spares() -> None:
    while decord_decoder._SPARES:
        decord_decoder._SPARES.pop().kill()


def _children() -> list[str]:
    """Command lines of this process's children, zombies too, that run decord."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
            command = (status.parent / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # ended meanwhile
        if int(fields[1]) == os.getpid() and ("decord_child" in command or fields[0] == "Z"):
            found.append(command)
    return found


@pytest.mark.parametrize("trouble", _TROUBLES)
def test_pyav_goes_on_where_decord_fails(
    films: dict[str, Any],
    shoot: Shoot,
    numbers_on: Numbers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
) -> None:
    (tmp_path / "decord.py").write_text(_STAND_IN.replace("{trouble}", _TROUBLES[trouble]))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(decord_decoder, "_SLOT_BYTES", 4 * 160 * 120 * 3)
    monkeypatch.setattr(decord_decoder, "_PATIENCE", 2.0)
    with VideoReader(shoot(films["h264"])) as reader:
        batches = list(reader.at_rate(batch=10))
        assert reader.damage is None
    pixels = np.concatenate([frames.pixels for frames in batches])
    seconds = np.concatenate([frames.timestamps for frames in batches])
    assert (pixels[:20] == 7).all()
    assert numbers_on(pixels[20:]) == [*range(20, 50)]
    np.testing.assert_allclose(seconds, np.arange(50) / 25, atol=1e-6)


def test_decord_alone_says_that_it_fails(
    films: dict[str, Any], shoot: Shoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "decord.py").write_text(_STAND_IN.replace("{trouble}", _TROUBLES["raises"]))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        VideoReader(shoot(films["h264"]), decoder="decord") as reader,
        pytest.raises(VideoError, match=r"h264\.mp4: decord fails: RuntimeError: no more"),
    ):
        list(reader.at_rate())


def test_decord_refuses_a_file_whose_frames_it_counts_otherwise(
    films: dict[str, Any], shoot: Shoot
) -> None:
    one, other = scan(shoot(films["h264"])), scan(shoot(films["vfr"]))
    for false in ({"seconds": one.seconds[:-1]}, {"seconds": other.seconds}):
        with pytest.raises(DecoderFailed, match="decord"):
            DecordDecoder(type(one)(**{**vars(one), **false}), size=None)


def test_one_process_serves_file_after_file_and_leaves_no_descriptors(
    films: dict[str, Any], shoot: Shoot, numbers_on: Numbers
) -> None:
    open_files = 0
    processes = set()
    for turn in range(6):
        name = ("h264", "vp9", "mpeg4-avi")[turn % 3]
        with VideoReader(shoot(films[name]), size=(96 + 16 * turn, 80)) as reader:
            (frames,) = reader.at_rate(batch=50)
            assert numbers_on(frames.pixels) == [*range(50)]
        processes.add(decord_decoder._SPARES[0]._child.pid)
        if turn == 1:
            open_files = len(os.listdir("/proc/self/fd"))
    assert len(processes) == 1
    assert len(_children()) == 1
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_a_dropped_iterator_ends_its_process(films: dict[str, Any], shoot: Shoot) -> None:
    reader = VideoReader(shoot(films["h264"]))
    frames = reader.at_rate(batch=1)
    next(frames)
    assert len(_children()) == 1
    del frames, reader
    gc.collect()
    assert _children() == []


def test_an_exception_while_reading_ends_the_process(films: dict[str, Any], shoot: Shoot) -> None:
    def fail(reader: VideoReader) -> None:
        for _ in reader.at_rate(batch=1):
            raise KeyError

    with VideoReader(shoot(films["h264"])) as reader:
        with pytest.raises(KeyError):
            fail(reader)
        gc.collect()
        assert _children() == []


_SCRIPT = """
import signal, sys, time
# whoever runs the tests in the background may have had it ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
from vidmamba.video.reader import VideoReader
from vidmamba.video import decord_decoder
reader = VideoReader(sys.argv[1])
frames = reader.at_rate(batch=1)
next(frames)
print(reader._index.info.num_frames, flush=True)
from pathlib import Path
me = Path("/proc/self/task")
print(*[p for t in me.iterdir() for p in (t / "children").read_text().split()], flush=True)
{end}
"""


@pytest.mark.parametrize(
    ("end", "stop"),
    [
        ("time.sleep(60)", signal.SIGINT),
        ("time.sleep(60)", signal.SIGKILL),
        ("time.sleep(60)", signal.SIGTERM),
        ("sys.exit(0)", None),
        ("raise ValueError", None),
    ],
)
def test_the_process_ends_with_its_parent(
    films: dict[str, Any], shoot: Shoot, end: str, stop: signal.Signals | None
) -> None:
    script = _SCRIPT.replace("{end}", end)
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(shoot(films["h264"]))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "50\n"
    (child,) = parent.stdout.readline().split()
    if stop is signal.SIGINT:
        os.killpg(parent.pid, stop)  # as a terminal does: to parent and child alike
    elif stop is not None:
        parent.send_signal(stop)
    parent.communicate(timeout=30)
    deadline = time.monotonic() + 20
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(process: str) -> bool:
    """Whether it is there and no zombie: whose parent is gone waits for init."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


class _Clips:
    """A map-style data set of clips: the numbers on their frames."""

    def __init__(self, path: Path, read: Numbers) -> None:
        self.path, self.read = path, read
        self.reader = VideoReader(path)
        self.reader.at_times([0.0])  # its process is not the workers'

    def __len__(self) -> int:
        return 4

    def __getitem__(self, place: int) -> list[int]:
        ours = self.reader.at_times([place / 2])
        with VideoReader(self.path) as reader:
            theirs = reader.at_times([place / 2])
        return self.read(ours.pixels) + self.read(theirs.pixels)


def test_readers_work_in_the_workers_of_a_data_loader(
    films: dict[str, Any], shoot: Shoot, numbers_on: Numbers
) -> None:
    clips: Any = _Clips(shoot(films["h264"]), numbers_on)
    loader = DataLoader(
        clips, batch_size=None, num_workers=2, multiprocessing_context="fork", collate_fn=list
    )
    assert list(loader) == [[0, 0], [12, 12], [25, 25], [37, 37]]
    assert numbers_on(clips.reader.at_times([1.0]).pixels) == [25]
    clips.reader.close()
