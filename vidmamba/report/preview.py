"""What of a video a page can carry: the file as it is, a smaller copy of it, or a link."""

import base64
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from vidmamba.video.errors import VideoError
from vidmamba.video.reader import VideoInfo, VideoReader, probe
from vidmamba.video.writer import VideoWriter

MEBIBYTE = 2**20
# half a minute of a camera's video as it comes; what is larger gains from a smaller copy
_AS_IT_IS = 24 * MEBIBYTE
# browsers keep a page's text, its bytes and the decoded file in memory: some 4 times this
_LARGEST = 64 * MEBIBYTE
_WIDTH = 640
_RATE = 30.0
# some three minutes of work on two cores; what is longer gets fewer frames a second
_FRAMES = 20_000
_LEAST_RATE = 5.0
# seconds: at some 400 kbit/s no copy of a longer video fits into a page
_LONGEST = 1500.0
_TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm"}
_CODECS = {"h264", "vp8", "vp9", "av1"}


@dataclass(frozen=True)
class Media:
    """The source of a page's video element, and what the viewer should know of it."""

    source: str | None
    """A data: URL, or a URL relative to the page; None where there is nothing to play."""
    note: str = ""
    """One sentence or more, empty where the page plays the file as it is."""


def media_for(
    video: Path, page: Path, *, as_it_is: int = _AS_IT_IS, largest: int = _LARGEST
) -> Media:
    """Choose how `page` shows `video`, transcoding it to H.264 where browsers need that.

    Args:
        video: any file; what cannot be read gives a note instead of a source.
        page: the HTML file that will show it; a copy too large to embed is put beside it.
        as_it_is: bytes up to which a file that browsers play is embedded unchanged.
        largest: bytes up to which a transcoded copy is embedded.
    """
    try:
        info = probe(video)
        playable = plays_in_browsers(video, info)
        if playable and video.stat().st_size <= as_it_is:
            return Media(_data_url(video))
        if playable and info.duration > _LONGEST:
            # relative, so that folder and page can be moved together
            link = os.path.relpath(video.resolve(), page.resolve().parent)
            return Media(
                quote(link), f"The video is not part of this page: it plays from {link}, if there."
            )
        return _copy(video, page, largest)
    except (VideoError, OSError) as error:
        return Media(None, f"The video cannot be shown: {error}")


def plays_in_browsers(video: Path, info: VideoInfo) -> bool:
    """Whether browsers play the file: container, codec and, for H.264, profile."""
    if video.suffix.lower() not in _TYPES or info.codec not in _CODECS:
        return False
    return info.codec != "h264" or _h264_profile(video) in _H264_PROFILES


# Baseline, Main, Extended, High: 8 bits, 4:2:0. ISO/IEC 14496-10, annex A
_H264_PROFILES = {66, 77, 88, 100}


def _h264_profile(video: Path) -> int | None:
    """profile_idc of an mp4's first avcC box (ISO/IEC 14496-15, 5.3.3.1), None without one."""
    with video.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        # the index stands at either end of the file
        for offset in (0, max(size - 8 * MEBIBYTE, 0)):
            file.seek(offset)
            piece = file.read(8 * MEBIBYTE)
            place = piece.find(b"avcC")
            if 0 <= place < len(piece) - 5:
                return piece[place + 5]
    return None


def _copy(video: Path, page: Path, largest: int) -> Media:
    page.parent.mkdir(parents=True, exist_ok=True)
    # beside the page, on the same disk, so that a large copy can be moved into place
    with tempfile.TemporaryDirectory(dir=page.parent, prefix=".preview-") as folder:
        draft = Path(folder) / "preview.mp4"
        damage = transcode_preview(video, draft)
        note = f"{video.name}: {damage}. " if damage else ""
        if draft.stat().st_size <= largest:
            return Media(
                _data_url(draft), f"{note}Shown as a small copy of {video.name}, without sound."
            )
        beside = page.with_suffix(".preview.mp4")
        draft.replace(beside)
    return Media(
        quote(beside.name),
        f"{note}Too large to be part of this page: it plays {beside.name}, kept beside it.",
    )


def transcode_preview(video: Path, out: Path) -> str | None:
    """Write `video` as H.264 at most 640 pixels wide, each frame at its own time.

    It is thinned to 30 frames a second, beyond eleven minutes to fewer, but never below 5.
    Returns what the reader says of damage.

    Raises:
        VideoError: nothing in `video` can be decoded.
    """
    shape = probe(video)
    shrink = min(_WIDTH / shape.width, 1.0)
    # 4:2:0 needs even sizes
    width, height = (max(2 * round(side * shrink / 2), 2) for side in (shape.width, shape.height))
    with (
        VideoReader(video, size=(width, height)) as reader,
        VideoWriter(
            out, width=width, height=height, fps=_RATE, crf=28, preset="veryfast"
        ) as writer,
    ):
        end, last = reader.info.duration, -1.0
        rate = max(min(_RATE, _FRAMES / max(end, 1.0)), _LEAST_RATE)
        for frames in reader.at_rate(rate if reader.info.fps > 1.01 * rate else None):
            for frame, time in zip(frames.pixels, frames.timestamps, strict=True):
                # a frame that stays for two ticks comes twice
                if time > last + 1e-3:
                    last = float(time)
                    writer.write(frame, time=last)
        # a file's last frame has no length of its own: shown again, it lasts to the end
        if last + 0.02 < end:
            writer.write(frame, time=end - 0.01)
        return reader.damage


def _data_url(video: Path) -> str:
    kind = _TYPES[video.suffix.lower()]
    return f"data:{kind};base64,{base64.b64encode(video.read_bytes()).decode('ascii')}"
