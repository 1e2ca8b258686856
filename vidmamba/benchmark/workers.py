"""Do many jobs, some side by side: short sequences leave a GPU waiting for its next launch."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


@dataclass(frozen=True, kw_only=True)
class Job:
    """A call of a function in a process of any kind, and what to call it while it is done."""

    name: str
    """For people."""

    function: Callable[..., object]
    """What is called; it must pickle, and leaves its result in a file."""

    arguments: tuple[Any, ...]
    """With what."""


class Workers:
    """Processes that live from one list of jobs to the next; a single one is this process.

    Args:
        count: how many jobs are done at a time.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def do(self, jobs: Sequence[Job], what: str) -> None:
        """Do all jobs, with a bar of what they are on stderr.

        Raises:
            OSError: a worker process died, most likely for want of memory.
        """
        if not jobs:
            return
        with Progress(
            TextColumn(f"{what:7}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[at]}"),
            # the stream of now: a run sends what goes to stderr into its log
            console=Console(file=sys.stderr),
        ) as bar:
            line = bar.add_task(what, total=len(jobs), at="")

            def tell(job: Job) -> None:
                bar.update(line, advance=1, at=job.name)

            if self.count == 1:
                for job in jobs:
                    job.function(*job.arguments)
                    tell(job)
            else:
                self._do_apart(jobs, tell)

    def _do_apart(self, jobs: Sequence[Job], tell: Callable[[Job], None]) -> None:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.count,
                # a fork would share this process's GPU
                mp_context=multiprocessing.get_context("spawn"),
                initializer=torch.set_num_threads,
                initargs=(max((os.cpu_count() or 1) // self.count, 1),),
            )
        try:
            pending = {self._pool.submit(job.function, *job.arguments): job for job in jobs}
            for future in as_completed(pending):
                future.result()
                tell(pending[future])
        except BrokenProcessPool as error:
            raise OSError(
                f"a worker process died, most likely for want of memory: {self.count} at a time "
                "may be too many; the same command with fewer jobs goes on from here"
            ) from error
