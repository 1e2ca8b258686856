"""Do many jobs, some side by side: short sequences leave a GPU waiting for its next launch."""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.sharedctypes import Synchronized
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

    Several have the GPUs in turn, one GPU each, and end when this process does, however it does.

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

    def do(self, jobs: Sequence[Job], what: str, *, until: float | None = None) -> None:
        """Do all jobs, with a bar of what they are on stderr; one that fails lets others go on.

        Args:
            jobs: started in this order.
            what: the bar's name.
            until: no job is started after this time, as `time.monotonic` tells it.

        Raises:
            OSError: a worker process died, most likely for want of memory.
            Exception: what the first job that failed raised, with a note of which one it was.
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

            do = self._do_here if self.count == 1 else self._do_apart
            do(jobs, tell, until)

    def _do_here(
        self, jobs: Sequence[Job], tell: Callable[[Job], None], until: float | None
    ) -> None:
        done, troubles = 0, []
        for job in jobs:
            try:
                if _do_by(until, job):
                    done += 1
                    tell(job)
            except Exception as error:  # whatever a job raised: kept till the others are done
                error.add_note(f"in {job.name}")
                troubles.append(error)
                if not done:  # they will all fail
                    break
        if troubles:
            raise troubles[0]

    def _do_apart(
        self, jobs: Sequence[Job], tell: Callable[[Job], None], until: float | None
    ) -> None:
        pool = self._pool = self._pool or self._start()
        pending = {pool.submit(_do_by, until, job): job for job in jobs}
        done, troubles = 0, []
        for future in as_completed(pending):
            job = pending[future]
            try:
                if future.result():
                    done += 1
                    tell(job)
            except CancelledError:
                continue
            except BrokenProcessPool as error:
                raise OSError(
                    f"a worker process died, most likely for want of memory: {self.count} at a "
                    "time may be too many; the same command with fewer jobs goes on from here"
                ) from error
            except Exception as error:  # whatever a job raised: kept till the others are done
                error.add_note(f"in {job.name}")
                troubles.append(error)
                if not done and len(troubles) >= self.count:  # they will all fail
                    for other in pending:
                        other.cancel()
        if troubles:
            raise troubles[0]

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # a fork would share this process's GPU
        gpus = visible_gpus()
        # launches of a GPU come from one thread; without it, the cores are shared out
        threads = 1 if gpus else max((os.cpu_count() or 1) // self.count, 1)
        return ProcessPoolExecutor(
            self.count,
            mp_context=context,
            initializer=_begin,
            initargs=(context.Value("i", 0), gpus, threads),
        )


def visible_gpus() -> list[str]:
    """Return the GPUs of this process, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = named.split(",") if named else [*map(str, range(torch.cuda.device_count()))]
    return names[: torch.cuda.device_count()]


def _begin(turn: "Synchronized[int]", gpus: Sequence[str], threads: int) -> None:
    """Prepare a worker: its GPU, before CUDA starts; its threads; and its end."""
    with turn.get_lock():
        number = turn.value
        turn.value += 1
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """End this process when another one has: killed, it could not say so."""
    wait([sentinel])
    os._exit(1)


def _do_by(until: float | None, job: Job) -> bool:
    """Do a job unless it is too late."""
    if until is not None and time.monotonic() >= until:
        return False
    job.function(*job.arguments)
    return True
