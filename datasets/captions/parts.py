"""Which captioned video goes into which part: by number, or held out of the training videos."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from vidmamba.datasets.captions.records import AnnotatedVideos, CaptionedVideo, Part
from vidmamba.timeline import Caption

MSRVTT_1K: dict[Part, range] = {
    "train": range(800),
    "validation": range(800, 900),
    "test": range(900, 1000),
}
"""Parts of MSR-VTT's video0 to video999, all of which are training videos in its own split."""

MSVD_SPLIT: dict[Part, range] = {
    "train": range(1, 1201),
    "validation": range(1201, 1301),
    "test": range(1301, 1971),
}
"""MSVD's usual split, by the numbers of youtube_mapping.txt: vid1 to vid1970."""


def split_by_number(read: AnnotatedVideos, numbers: Mapping[Part, range]) -> AnnotatedVideos:
    """Put each video into the part that has the number at the end of its name.

    Raises:
        ValueError: a name does not end in a number of exactly one of the parts.
    """

    def part_of(video: CaptionedVideo) -> Part:
        match = re.search(r"(\d+)$", video.name)
        parts = [part for part, own in numbers.items() if match and int(match[1]) in own]
        if len(parts) != 1:
            raise ValueError(f"{video.name} must end in a number of one part of {dict(numbers)}")
        return parts[0]

    return _assign(read, part_of)


def hold_out(read: AnnotatedVideos, share: float | int, *, seed: int = 0) -> AnnotatedVideos:
    """Make some of the training videos validation videos, chosen by name and seed.

    Args:
        read: the videos, the training ones among them.
        share: how many, as a count (int) or a share of the training videos.
        seed: fixes which.

    Raises:
        ValueError: it would leave no training video, or hold out none.
    """
    train = sorted(video.name for video in read.videos if video.split == "train")
    count = share if isinstance(share, int) else round(share * len(train))
    if not 0 < count < len(train):
        raise ValueError(f"cannot hold out {share} of {len(train)} training videos")
    order = np.random.default_rng(seed).permutation(len(train))
    chosen = {train[index] for index in order[:count]}
    return _assign(read, lambda video: "validation" if video.name in chosen else video.split)


def annotators(*reads: AnnotatedVideos) -> dict[str, tuple[tuple[Caption, ...], ...]]:
    """Return, of each video of any of the files, the captions in each file: a tuple a file.

    A file without the video gives an empty tuple. So val_1 and val_2 of ActivityNet Captions become
    the two sets of references that its protocol scores against.

    Raises:
        ValueError: a video has sentences for the whole clip, not timed captions.
    """
    names = dict.fromkeys(video.name for read in reads for video in read.videos)
    captions: list[dict[str, tuple[Caption, ...]]] = []
    for read in reads:
        if clips := [video.name for video in read.videos if video.references]:
            raise ValueError(f"{clips[0]} and {len(clips) - 1} more have no timed captions")
        captions.append({video.name: video.captions for video in read.videos})
    return {name: tuple(own.get(name, ()) for own in captions) for name in names}


def _assign(
    read: AnnotatedVideos, part_of: Callable[[CaptionedVideo], Part | None]
) -> AnnotatedVideos:
    videos = tuple(replace(video, split=part_of(video)) for video in read.videos)
    return replace(read, videos=videos)
