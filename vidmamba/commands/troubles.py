"""What a command says of videos that were not whole, or not videos."""

import sys
from collections.abc import Mapping
from pathlib import Path


def report_troubles(damaged: Mapping[Path, str], failed: Mapping[Path, str]) -> int:
    """Write a line a video to stderr; return the exit code, 1 where a video failed."""
    for path, line in damaged.items():
        print(f"damaged: {path}: {line}", file=sys.stderr)
    for line in failed.values():
        print(f"failed: {line}", file=sys.stderr)
    return 1 if failed else 0
