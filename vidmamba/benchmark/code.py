"""Which code a result was made by: what another code may change is made again."""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
"""Folder of the package."""

LEARNING = (
    "benchmark/quick.py",
    "benchmark/runs.py",
    "data",
    "datasets",
    "kernels",
    "losses.py",
    "models",
    "nn",
    "tasks",
    "training.py",
)
"""Files, and folders of files, that decide what a run learns."""

PLACING = ("benchmark/weak.py", "decoding")
"""Those that decide it too, where training knows the order of actions alone."""

DECODING = ("decoding", "kernels/segment_search", "timeline/frames.py")
"""Those that decide which labels a decoder gives."""

SCORING = ("benchmark/choose.py", "metrics/video.py", "metrics/videos.py")
"""Those that decide what labels score."""


@cache
def code_key(names: Sequence[str], home: Path = HOME) -> str:
    """Return a hash of the Python source in some files and folders of the package.

    Of the bytes, so that it is the same on every machine; a comment makes another one, too.

    Raises:
        ValueError: there is no such file or folder.
    """
    digest = hashlib.sha256()
    for name in names:
        path = home / name
        files = [path] if path.is_file() else sorted(path.rglob("*.py"))
        if not files:
            raise ValueError(f"{path}: no Python source to tell versions of the code by")
        for file in files:
            digest.update(f"{file.relative_to(home).as_posix()}\n".encode())
            digest.update(file.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:16]
