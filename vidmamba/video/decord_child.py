"""The process in which decord runs, so that it can be killed: it may hang holding the GIL.

Started by its file's name, not as a module: it imports nothing of vidmamba, and works from any
process, a daemonic DataLoader worker too. It talks over its own pipes (JSON lines; numbers as raw
int64 or float64), hands frames over in shared memory without a name, and ends with its parent:
an end of input ends it, and so does the alarm that each call to decord runs under.

    parent                                     child
    {"path", "width", "height", "frames", "slots", "patience"} + seconds
                                               {"ready": 1}, or it ends
    {"wanted"} + numbers                       {"slot", "count"} for each slot that it filled
    one byte for each slot read
"""

import json
import mmap
import os
import signal
import sys
from typing import Any, BinaryIO

import decord
import numpy as np
import numpy.typing as npt


def main(memory: int) -> None:
    """Serve frames of one file after another until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends this process
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints lands in the error log, never between the answers
    decord.logging.set_level(decord.logging.ERROR)
    source: _Source | None = None
    while line := requests.readline():
        asked = json.loads(line)
        if "path" in asked:
            source = None  # let the last file go first
            stamps = _read_array(requests, asked["frames"], "<f8")
            source = _Source(asked, stamps, memory)
            _answer(answers, {"ready": 1})
        elif source is not None:
            wanted = _read_array(requests, asked["wanted"], "<i8").astype(int)
            _serve(source, wanted, requests, answers)


def _serve(
    source: "_Source",
    wanted: npt.NDArray[np.int_],
    requests: BinaryIO,
    answers: BinaryIO,
) -> None:
    slots = source.slots
    a_slot = slots.shape[1]
    unread = 0
    for turn, begin in enumerate(range(0, len(wanted), a_slot)):
        if unread == len(slots):
            if not requests.read(1):
                sys.exit()
            unread -= 1
        numbers = wanted[begin : begin + a_slot]
        for place, number in enumerate(numbers):
            slots[turn % len(slots), place] = source.frame(int(number))
        # FFmpeg's complaints: the picture is concealed, or frames have been made up
        if os.fstat(2).st_size > source.quiet:
            sys.exit("decord's FFmpeg reports damage")
        _answer(answers, {"slot": turn % len(slots), "count": len(numbers)})
        unread += 1
    for _ in range(unread):
        requests.read(1)


class _Source:
    """One file: decord's reader, the place at which it stands, and the memory for its frames."""

    def __init__(self, asked: dict[str, Any], stamps: npt.NDArray[np.float64], memory: int) -> None:
        size = int(np.prod(asked["slots"]))
        shared = np.frombuffer(mmap.mmap(memory, size), dtype=np.uint8)
        self.slots = shared.reshape(asked["slots"])
        self.quiet = os.fstat(2).st_size  # bytes in the error log as long as nothing is wrong
        self.patience = asked["patience"]
        self.next = 0
        _alarm(self.patience, 0)
        self.reader = decord.VideoReader(
            asked["path"], decord.cpu(0), asked["width"], asked["height"]
        )
        _check(self.reader, stamps)
        self.keys = np.asarray(self.reader.get_key_indices())
        _alarm(0, 0)

    def frame(self, number: int) -> npt.NDArray[np.uint8]:
        """Frame `number` [H, W, 3]; by decoding on, unless a key frame lies on the way."""
        key = int(self.keys[max(0, int(np.searchsorted(self.keys, number, side="right")) - 1)])
        jump = number < self.next or key > self.next
        _alarm(self.patience, number - (key if jump else self.next))
        if jump:
            self.reader.seek_accurate(number)
        elif number > self.next:
            self.reader.skip_frames(number - self.next)
        pixels: npt.NDArray[np.uint8] = self.reader.next().asnumpy()
        _alarm(0, 0)
        self.next = number + 1
        # at widths such as 96 decord takes the padding of the rows for a fourth channel
        height, width = pixels.shape[:2]
        return pixels.reshape(height, -1)[:, : 3 * width].reshape(height, width, 3)


def _check(reader: Any, stamps: npt.NDArray[np.float64]) -> None:
    """End here unless decord knows the same frames at the same times as the packets say."""
    if len(reader) != len(stamps):
        sys.exit(f"decord counts {len(reader)} frames, the packets say {len(stamps)}")
    theirs = reader.get_frame_timestamp(np.arange(len(stamps)))[:, 0].astype(np.float64)
    # decord keeps seconds as float32
    far = np.abs((theirs - theirs[0]) - (stamps - stamps[0])) > 2e-3 + 1e-6 * np.abs(theirs)
    if far.any():
        sys.exit(f"decord's time stamps differ from the packets', first at frame {far.argmax()}")


def _alarm(seconds: float, frames: int) -> None:
    """Be killed after so many seconds, and more for frames to decode on the way; 0: never."""
    signal.setitimer(signal.ITIMER_REAL, seconds * (1 + frames / 60))


def _read_array(file: BinaryIO, count: int, dtype: str) -> npt.NDArray[Any]:
    data = file.read(8 * count)
    if len(data) < 8 * count:
        sys.exit("the parent is gone")
    return np.frombuffer(data, dtype=dtype)


def _answer(file: BinaryIO, message: dict[str, int]) -> None:
    file.write(json.dumps(message).encode() + b"\n")
    file.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
