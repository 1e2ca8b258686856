"""Short names for what results hang on: another content, another name."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from vidmamba.datasets.records import VideoItem


def hash_of(content: Any) -> str:
    """Return a short hash of something JSON-able."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def labels_key(items: Iterable[VideoItem]) -> str:
    """Return a hash of videos' names and frame labels, those of shifted views too."""
    digest = hashlib.sha256()
    for item in (view for video in items for view in video.views):
        digest.update(f"{item.name}\n".encode())
        digest.update(np.ascontiguousarray(item.labels, dtype="<i8").tobytes())
    return digest.hexdigest()[:16]
