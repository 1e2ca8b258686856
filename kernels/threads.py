"""Run compiled tasks on Python's threads.

Numba's own threading layers abort when two threads call them at once, or in a forked worker. The
CPU kernels let go of the interpreter lock instead and are called from a plain thread pool.
"""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch

# more pieces than threads, so that a thread slowed by other work holds up less
PIECES_PER_THREAD = 4


def run_tasks(work: Callable[[int, int], None], tasks: int) -> None:
    """Call ``work(first, last)`` over [0, tasks) on as many threads as PyTorch uses.

    Args:
        work: Must let go of the interpreter lock, and may run several times at once.
        tasks: How many tasks there are; their results must not depend on who runs them.
    """
    threads = min(torch.get_num_threads(), tasks)
    if threads <= 1:
        if tasks:
            work(0, tasks)
        return
    size = -(-tasks // (threads * PIECES_PER_THREAD))
    firsts = itertools.count(0, size)

    def drain() -> None:
        # next() on a count is atomic under the interpreter lock
        while (first := next(firsts)) < tasks:
            work(first, min(first + size, tasks))

    helpers = [_pool(os.getpid(), threads - 1).submit(drain) for _ in range(threads - 1)]
    drain()
    for helper in helpers:
        helper.result()


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """One pool a process, since a forked child inherits the pool but not its threads."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"vidmamba-{process}")
