"""Which files a command line means by files, folders and patterns."""

import glob
from collections.abc import Iterable
from pathlib import Path

_KNOWN = "3gp asf avi flv m2ts m4v mkv mov mp4 mpeg mpg mts mxf ogv ts vob webm wmv"
SUFFIXES = frozenset(f".{name}" for name in _KNOWN.split())


def expand_videos(patterns: Iterable[str | Path]) -> list[Path]:
    """Turn files, folders and glob patterns into video files, each once, in order.

    A folder stands for the files with a known suffix in it and below it, hidden ones apart; a file
    named outright is taken whatever its suffix.

    Raises:
        ValueError: A name that is no file, folder or pattern that matches; a folder without videos.
    """
    videos: dict[Path, None] = {}
    for pattern in patterns:
        videos |= dict.fromkeys(_expand(Path(pattern).expanduser()))
    return [*videos]


def _expand(pattern: Path) -> list[Path]:
    if pattern.is_dir():
        found = _inside(pattern)
        if not found:
            known = " ".join(sorted(SUFFIXES))
            raise ValueError(f"no video in the folder {pattern} (known suffixes: {known})")
        return found
    if pattern.exists():
        return [pattern]
    matches = [Path(match) for match in sorted(glob.glob(str(pattern), recursive=True))]
    if not matches:
        kind = "nothing matches" if glob.has_magic(str(pattern)) else "no such file or folder:"
        raise ValueError(f"{kind} {pattern}")
    return [video for match in matches for video in (_inside(match) if match.is_dir() else [match])]


def _inside(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
