"""The progress bar of an extraction: videos, frames a second, time left; on stderr."""

import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ExtractionProgress:
    """A bar for all videos and one for the video in work.

    Args:
        num_videos: All of them.
        shown: False draws nothing.
    """

    def __init__(self, num_videos: int, *, shown: bool) -> None:
        self._bar = Progress(
            TextColumn("[progress.description]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=Console(stderr=True),
            disable=not shown,
        )
        self._all = self._bar.add_task("extract", total=num_videos, unit="videos")
        self._one = self._bar.add_task("", total=None, unit="frames", visible=False)
        self.frames = 0  # embedded by this run
        self._started = time.monotonic()

    def __enter__(self) -> "ExtractionProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.update(self._one, visible=False)
        self._bar.stop()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def start_video(self, video: Path, num_frames: int) -> None:
        """Show another video, of so many frames as far as is known."""
        self._bar.reset(self._one, total=num_frames, visible=True, description=video.name)

    def advance(self, frames: int, *, new: bool = True) -> None:
        """Count frames; those of an earlier run are not new."""
        self.frames += frames if new else 0
        rate = self.frames / max(self.seconds, 1e-9)
        self._bar.update(self._one, advance=frames, unit=f"frames, {rate:.0f}/s")

    def finish_video(self) -> None:
        """Count a video, done or not."""
        self._bar.update(self._all, advance=1)
        self._bar.update(self._one, visible=False)
