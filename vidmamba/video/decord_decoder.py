"""Frames by decord, in a process of its own that can be killed (see `decord_child`)."""

import atexit
import contextlib
import importlib.util
import json
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vidmamba.video.errors import DecoderFailed
from vidmamba.video.index import FrameIndex, Shown

_CHILD = Path(__file__).with_name("decord_child.py")
_NUM_SLOTS = 2  # one is filled while the other is read
_SLOT_BYTES = 8 * 2**20
_PATIENCE = 30.0  # seconds that a call may take, and half a second more for each frame on the way

# measured with decord2 3.4.0 against frames that carry their numbers (tests/video)
_RIGHT = {
    "mov,mp4,m4a,3gp,3g2,mj2": ("h264", "vp9", "av1", "mpeg4"),
    "matroska,webm": ("h264", "vp9", "av1", "mpeg4"),
    "avi": ("mpeg4", "msmpeg4v3", "mjpeg"),
}
_SUBSAMPLED = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p")
_FULL = ("yuv444p", "yuvj444p")


def installed() -> bool:
    """Whether decord can be imported, and the system has what its process needs."""
    return importlib.util.find_spec("decord") is not None and hasattr(os, "memfd_create")


def is_right_for(index: FrameIndex) -> bool:
    """Whether decord is known to give the right frames of this file.

    Known to be wrong: MPEG transport and program streams (frames shift); HEVC, and H.264 with open
    groups of pictures (off by some frames after a jump, and skipping frames jumps too); H.264 in
    AVI, and anything with B-frames there (no time stamps to jump by); damaged files. Unlike PyAV by
    more than rounding: ten bits and odd sizes (chroma is placed otherwise), scaled pictures that
    are turned as well.
    """
    width, height = index.coded_size
    odd = width % 2 == 1 or height % 2 == 1
    return (
        index.info.codec in _RIGHT.get(index.info.container, ())
        and index.closed
        and index.whole
        and index.loss is None
        and not index.counted
        and index.pixel_format in (_FULL if odd else _SUBSAMPLED + _FULL)
        and index.turn.quarters == 0
        and not index.turn.mirrored
        and index.num_streams == 1  # decord may choose another one
    )


class DecordDecoder:
    """One file, open in a child process; for one reader at a time.

    A process takes a third of a second of CPU time to start, as much as hundreds of frames: closing
    keeps one that is well for the next file. It ends with this process, however that ends.

    Args:
        index: of the file.
        size: width and height to scale to, by bicubic interpolation while decoding.

    Raises:
        DecoderFailed: from here or from `frames`: decord refuses, fails, hangs, or finds damage.
    """

    def __init__(self, index: FrameIndex, *, size: tuple[int, int] | None) -> None:
        width, height = size or (index.info.width, index.info.height)
        a_slot = min(64, max(1, _SLOT_BYTES // (width * height * 3)))
        shape = (_NUM_SLOTS, a_slot, height, width, 3)
        opening = {
            "path": str(index.info.path),
            "width": size[0] if size else -1,
            "height": size[1] if size else -1,
            "frames": len(index.seconds),
            "slots": shape,
            "patience": _PATIENCE,
        }
        self._process = _spare() or _Process()
        self._busy = True
        try:
            self._slots = self._process.share(shape)
            self._process.send(opening, index.seconds.astype("<f8").tobytes())
            self._process.receive()
        except BaseException:
            self.close()
            raise
        self._busy = False

    @property
    def is_ours(self) -> bool:
        """False in a fork: its copy of the pipes is not to be used."""
        return self._process.owner == os.getpid()

    def frames(self, wanted: npt.NDArray[np.int64]) -> Iterator[Shown]:
        """The frame of each number, increasing."""
        self._busy = True
        self._process.send({"wanted": len(wanted)}, wanted.astype("<i8").tobytes())
        place = 0
        while place < len(wanted):
            filled = self._process.receive()
            for pixels in self._slots[filled["slot"], : filled["count"]]:
                number = int(wanted[place])
                yield Shown(number, number, pixels)
                place += 1
            self._process.write(b"\0")
        self._busy = False

    def close(self) -> None:
        """Keep the process for another file, or kill it where it is in the middle of something."""
        if not self.is_ours:
            return
        if self._busy or _SPARES:
            self._process.kill()
        else:
            _SPARES.append(self._process)
        self._busy = True  # not to be kept twice


class _Process:
    """A child that runs decord, the pipes to it, and the memory that both see."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._log = os.memfd_create("vidmamba-decord-log")
        self._memory = os.memfd_create("vidmamba-decord-frames")  # nameless: goes with its users
        # -P: the script's own folder is no place to import from
        command = [sys.executable, "-P", str(_CHILD), str(self._memory)]
        try:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                pass_fds=[self._memory],
            )
        except OSError as error:
            os.close(self._log)
            os.close(self._memory)
            raise DecoderFailed(f"decord's process does not start: {error}") from error
        atexit.register(self.kill)

    def share(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """The shared memory in this shape."""
        size = int(np.prod(shape))
        os.ftruncate(self._memory, size)
        return np.frombuffer(mmap.mmap(self._memory, size), dtype=np.uint8).reshape(shape)

    def alive(self) -> bool:
        return self._child.poll() is None

    def send(self, message: Mapping[str, object], data: bytes) -> None:
        self.write(json.dumps(message).encode() + b"\n" + data)

    def write(self, data: bytes) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(data)
            self._child.stdin.flush()
        except OSError as error:
            raise DecoderFailed(self._last_words()) from error

    def receive(self) -> dict[str, int]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise DecoderFailed(self._last_words())
        message: dict[str, int] = json.loads(line)
        return message

    def kill(self) -> None:
        """End the process; it may hang, so it is not asked. Does nothing in a fork."""
        if self.owner != os.getpid():
            return
        atexit.unregister(self.kill)
        if self._child.returncode is None:
            self._child.kill()
            self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # it had not read all: it is dead
                    pipe.close()
        if self._log >= 0:
            os.close(self._log)
            os.close(self._memory)
        self._log = self._memory = -1

    def _last_words(self) -> str:
        words = os.pread(self._log, 2**16, 0).decode(errors="replace").strip().splitlines()
        return words[-1] if words else "decord hung or died"


_SPARES: list[_Process] = []  # at most one; lists are safe between threads


def _spare() -> _Process | None:
    """The process that waits, if it is well."""
    try:
        process = _SPARES.pop()
    except IndexError:
        return None
    if process.owner != os.getpid():
        return None  # a fork's copy of its parent's
    if not process.alive():
        process.kill()
        return None
    return process
