"""Video files to feature files: resumable, and safe to run in several processes on one store."""

from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from vidmamba import __version__
from vidmamba.features.embed import Decoder, FrameStream, embed_frames, place_backbone
from vidmamba.features.key import feature_key, video_key
from vidmamba.features.parts import Parts
from vidmamba.features.progress import ExtractionProgress
from vidmamba.features.store import FeatureStore
from vidmamba.models.backbone import BackboneConfig, FrozenBackbone
from vidmamba.video.reader import Frames, VideoError, VideoInfo
from vidmamba.video.source import check_readable


@dataclass(frozen=True)
class ExtractionReport:
    """What an extraction did, by video."""

    done: list[Path] = field(default_factory=list)
    """Embedded by this run."""
    skipped: list[Path] = field(default_factory=list)
    """In the store already."""
    failed: dict[Path, str] = field(default_factory=dict)
    """One line each: why there are no features."""
    damaged: dict[Path, str] = field(default_factory=dict)
    """Done or skipped, from a file that is not whole: what is lost."""
    files: dict[Path, Path] = field(default_factory=dict)
    """The feature file of each video that is done or skipped."""
    frames: int = 0
    """Embedded by this run."""
    seconds: float = 0.0
    """That this run took, loading the backbone apart."""


def extract_features(
    videos: Iterable[str | Path],
    *,
    backbone: BackboneConfig | FrozenBackbone,
    fps: float | None,
    out: str | Path,
    decoder: Decoder = "auto",
    batch_size: int = 64,
    device: str = "auto",
    progress: bool = True,
) -> ExtractionReport:
    """Embed the frames of many videos into a store.

    Videos that the store holds under the same key are not read again. A killed run loses the
    frames since the last part of ``parts.PART_FRAMES``; the next run decodes that video from its
    start but embeds only what is missing. Several processes on one store share the videos out.

    Args:
        videos: Files; ``expand_videos`` makes them from folders and patterns.
        backbone: Embeds the frames; a config is built and moved to ``device``.
        fps: Frames a second; None for every frame.
        out: The store's folder.
        decoder: ``auto``, ``decord`` or ``pyav``.
        batch_size: Frames decoded at once.
        device: ``auto`` is CUDA where there is one; a built backbone stays where it is.
        progress: Draw a progress bar on stderr.

    Raises:
        ValueError: The backbone cannot be had, or no video is named. Bad videos do not raise:
            they are in the report.
    """
    paths = [*dict.fromkeys(Path(video) for video in videos)]
    if not paths:
        raise ValueError("no videos to extract features from")
    frozen = place_backbone(backbone, device)
    options = {"fps": fps, "decoder": decoder, "batch_size": batch_size}
    extraction = _Extraction(FeatureStore(out), frozen, options)
    with ExtractionProgress(len(paths), shown=progress) as bar:
        extraction.run(paths, bar)
        return replace(extraction.report, frames=bar.frames, seconds=bar.seconds)


@dataclass(frozen=True)
class _Job:
    """A video that this process has claimed; its decoder runs."""

    video: Path
    status: tuple[int, int]
    key: dict[str, Any]
    stem: str
    lock: FileLock
    stream: FrameStream

    def close(self) -> None:
        self.stream.close()
        self.lock.release()


class _Extraction:
    """One run over many videos: claims, embeds and stores them one after the other."""

    def __init__(
        self, store: FeatureStore, backbone: FrozenBackbone, options: dict[str, Any]
    ) -> None:
        self.report = ExtractionReport()
        self._store, self._backbone, self._options = store, backbone, options
        rate, decoder = options["fps"], options["decoder"]
        self._key = feature_key(backbone.identity, fps=rate, decoder=decoder)
        self._rows = store.rows()
        self._parts = store.root / ".parts"
        self._queue: deque[Path] = deque()
        self._elsewhere: deque[Path] = deque()  # another process is at them
        self._jobs: deque[_Job] = deque()  # two at most
        self._present: list[tuple[str, Path]] = []

    def run(self, videos: list[Path], bar: ExtractionProgress) -> None:
        self._queue.extend(videos)
        try:
            while self._claim(bar, wait=True):
                # its decoder starts beside the first one's embedding; a process that holds a
                # video never waits for another one, or two could wait for each other
                self._claim(bar, wait=False)
                self._process(self._jobs[0], bar)
                self._jobs.popleft().close()
        finally:
            for job in self._jobs:
                job.close()
            self._store.index(self._present)

    def _claim(self, bar: ExtractionProgress, *, wait: bool) -> bool:
        """Start on the next video that is neither stored nor in another process's hands.

        Args:
            bar: Counts the videos that need nothing, or cannot be read.
            wait: Where nothing is in hand, wait for the other processes; else claim one more.

        Returns:
            Whether anything is in hand.
        """
        if wait and self._jobs:
            return True
        while self._queue or (wait and self._elsewhere):
            patient = not self._queue
            video = (self._elsewhere if patient else self._queue).popleft()
            try:
                if job := self._open(video, patient):
                    self._jobs.append(job)
                    return True
            except Timeout:
                self._elsewhere.append(video)
                continue
            except (VideoError, OSError) as error:
                self._fail(video, error)
            bar.finish_video()
        return bool(self._jobs)

    def _open(self, video: Path, patient: bool) -> _Job | None:
        check_readable(video)
        status = _status(video)
        key = video_key(self._key, self._store.content_of(video, self._rows))
        stem = self._store.stem(video, key)
        if self._skip(video, stem):
            return None
        self._parts.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._parts / f"{stem}.lock")
        lock.acquire(timeout=-1 if patient else 0)
        if self._skip(video, stem):  # finished by another process in the meantime
            lock.release()
            return None
        return _Job(video, status, key, stem, lock, FrameStream(video, **self._options))

    def _process(self, job: _Job, bar: ExtractionProgress) -> None:
        parts = Parts(self._parts / job.stem)
        try:
            info = job.stream.info
            bar.start_video(job.video, _expected(info, self._options["fps"]))
            if not self._embed(job, parts, bar):
                parts.drop()
                self._queue.append(job.video)
                return
            self._commit(job, parts, info)
        except ValueError as error:  # VideoError, or features that cannot be stored
            parts.drop()
            self._fail(job.video, error)
        bar.finish_video()

    def _embed(self, job: _Job, parts: Parts, bar: ExtractionProgress) -> bool:
        """Embed what earlier runs have not; False if their frames were other ones."""
        known, position = parts.timestamps, 0
        for frames in job.stream:
            count = len(frames.timestamps)
            old = min(max(len(known) - position, 0), count)
            if not np.array_equal(known[position : position + old], frames.timestamps[:old]):
                return False  # another version of the decoder
            position += count
            bar.advance(old, new=False)
            if old < count:
                rest = Frames(frames.pixels[old:], frames.timestamps[old:])
                parts.append(*embed_frames(self._backbone, rest))
                bar.advance(count - old)
        return position >= len(known)

    def _commit(self, job: _Job, parts: Parts, info: VideoInfo) -> None:
        root, stem = self._store.root, job.stem
        frames, width = parts.join(root / f"{stem}.npy", root / f"{stem}.timestamps.npy")
        if _status(job.video) != job.status:
            raise VideoError(f"{job.video}: changed while it was being read; run again")
        meta = {
            "vidmamba": __version__,
            "video": str(job.video.resolve()),
            "size": job.status[0],
            "mtime_ns": job.status[1],
            "frames": frames,
            "width": width,
            "duration": info.duration,
            "damage": job.stream.damage,
            "backbone": asdict(self._backbone.config),
            "key": job.key,
        }
        self._store.record(stem, job.video, meta)
        parts.drop()
        self._note(job.video, stem)
        self.report.done.append(job.video)
        # whoever waits for this lock finds the features in the store
        (self._parts / f"{stem}.lock").unlink(missing_ok=True)

    def _skip(self, video: Path, stem: str) -> bool:
        if not self._store.holds(stem):
            return False
        self._note(video, stem)
        self.report.skipped.append(video)
        return True

    def _note(self, video: Path, stem: str) -> None:
        self._present.append((stem, video))
        self.report.files[video] = self._store.root / f"{stem}.npy"
        if damage := self._store.meta(stem)["damage"]:
            self.report.damaged[video] = damage

    def _fail(self, video: Path, error: Exception) -> None:
        line = " ".join(str(error).split())
        self.report.failed[video] = line if str(video) in line else f"{video}: {line}"


def _status(video: Path) -> tuple[int, int]:
    status = video.stat()
    return status.st_size, status.st_mtime_ns


def _expected(info: VideoInfo, fps: float | None) -> int:
    return round(info.duration * (fps or info.fps))
