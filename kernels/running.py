"""What a thread is at, for those who compile ahead or remember."""

import threading
from collections.abc import Callable
from typing import Any


class _Running(threading.local):
    """What a thread is at."""

    call: Callable[[], Any] | None = None
    """Does once more what runs now, and will be asked for after it: see `jit.compile_ahead`."""

    compiles_ahead: bool = False
    """Whether launches are left out."""

    watch: Any = None
    """Who is told of launches: see `replay`."""


RUNNING = _Running()
