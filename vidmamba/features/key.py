"""What a feature file was made from, as a key: another key is another file."""

import hashlib
import json
from pathlib import Path
from typing import Any

FORMAT = 1  # raised when the same key would give other numbers


def feature_key(identity: dict[str, Any], *, fps: float | None, decoder: str) -> dict[str, Any]:
    """What features depend on beside the video; equal for all videos of one data set.

    Args:
        identity: `FrozenBackbone.identity`: name, weights' hash, pooling, transform.
        fps: Frames a second; None for every frame.
        decoder: `auto`, `decord` or `pyav`, as asked for.
    """
    rate = None if fps is None else float(fps)
    return {"format": FORMAT, "backbone": identity, "fps": rate, "decoder": decoder}


def video_key(key: dict[str, Any], content: str) -> dict[str, Any]:
    """The key of one video's features: `feature_key` and the SHA-256 of the video file."""
    return key | {"content": content}


def short(key: dict[str, Any]) -> str:
    """Sixteen hexadecimal digits that stand for a key in file names."""
    text = json.dumps(key, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
