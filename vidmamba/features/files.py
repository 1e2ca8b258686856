"""Writing files that are whole or not there: temporary name, fsync, rename."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

TEMPORARY = ".tmp-"  # how the name of a file starts that is still being written


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that takes its name only when all of it is on the disk.

    A process that dies in between leaves a file whose name starts with ``.tmp-``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    try:
        with open(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())  # mkstemp's files are for their owner alone
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON that a person can read, whole or not at all."""
    with written_whole(path) as file:
        file.write(json.dumps(value, indent=1, allow_nan=False).encode() + b"\n")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
