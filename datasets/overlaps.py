"""Segments that overlap, made to follow one another: a frame has one class."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from vidmamba.timeline import Segment


class Flattened(NamedTuple):
    """Segments without overlaps, and what was laid over what."""

    segments: tuple[Segment, ...]
    """Sorted; a segment that others interrupt is there in pieces."""
    overlaid: int
    """Of the given segments, how many others cover in part or whole."""
    hidden: int
    """How many of them whole."""
    seconds: float
    """Of their time, how much."""


def flatten_segments(segments: Sequence[Segment]) -> Flattened:
    """Let the later start win; of segments that start together the shorter, then the first.

    So a long segment is seen around the short ones inside it, and of two that run into each other
    the first gives way when the second starts.
    """
    edges = sorted({edge for segment in segments for edge in (segment.start, segment.end)})
    place = {edge: k for k, edge in enumerate(edges)}
    owner = [-1] * max(len(edges) - 1, 0)
    # each is painted over those before it
    for k in sorted(range(len(segments)), key=lambda k: (segments[k].start, -segments[k].end, -k)):
        first, last = place[segments[k].start], place[segments[k].end]
        owner[first:last] = [k] * (last - first)
    pieces: list[tuple[int, float, float]] = []
    for k, start, end in zip(owner, edges[:-1], edges[1:], strict=True):
        if k >= 0 and pieces and pieces[-1][0] == k and pieces[-1][2] == start:
            pieces[-1] = k, pieces[-1][1], end
        elif k >= 0:
            pieces.append((k, start, end))
    whole = {*pieces}
    given = sum(segment.end - segment.start for segment in segments)
    return Flattened(
        segments=tuple(replace(segments[k], start=start, end=end) for k, start, end in pieces),
        overlaid=sum((k, s.start, s.end) not in whole for k, s in enumerate(segments)),
        hidden=len(segments) - len({k for k, _, _ in pieces}),
        seconds=given - sum(end - start for _, start, end in pieces),
    )
