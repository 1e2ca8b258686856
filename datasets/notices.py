"""What is lost where annotations and videos do not fit: counted, named, one warning each."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from vidmamba.datasets.annotations import BACKGROUND, AnnotatedVideo
from vidmamba.datasets.overlaps import Flattened
from vidmamba.datasets.parts import Part
from vidmamba.datasets.records import VideoItem

logger = logging.getLogger(__name__)


def shorten(names: Sequence[str], most: int = 3) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def warn_of_losses(
    videos: Sequence[AnnotatedVideo],
    last: Mapping[str, float],
    flat: Mapping[str, Flattened],
) -> None:
    """Say what of the segments no frame shows: covered by others, or after the video's end.

    Args:
        videos: as annotated.
        last: of each video that is there, the time of its last frame, in seconds.
        flat: its segments.
    """
    overlaid = {name: one for name, one in flat.items() if one.overlaid}
    if overlaid:
        logger.warning(
            "segments overlap in %d of %d videos (%s): a frame gets the class of the segment that "
            "starts last, so that %d segments are covered, %d of them whole, %.1f s in all",
            len(overlaid),
            len(flat),
            shorten([*overlaid]),
            sum(one.overlaid for one in overlaid.values()),
            sum(one.hidden for one in overlaid.values()),
            sum(one.seconds for one in overlaid.values()),
        )
    late = {
        video.name: sum(segment.start > last[video.name] for segment in video.segments)
        for video in videos
        if video.name in last
    }
    if count := sum(late.values()):
        logger.warning(
            "%d segments start after the last frame of their video and are lost (%s): is the "
            "rate of the features right?",
            count,
            shorten([name for name, number in late.items() if number]),
        )


def warn_of_parts(
    items: Mapping[Part, Sequence[VideoItem]],
    wanted: Sequence[Part],
    names: Sequence[str],
    whole: Sequence[str],
) -> None:
    """Say which parts are empty, and which classes no training video shows.

    Args:
        items: the videos of each part.
        wanted: parts that should have some.
        names: the classes of frames.
        whole: the classes of whole videos.
    """
    if empty := [part for part in wanted if not items[part]]:
        logger.warning("no video is left for %s", " and ".join(empty))
    seen = {int(label) for item in items["train"] for label in np.unique(item.labels)}
    unseen = [name for k, name in enumerate(names) if k not in seen and name != BACKGROUND]
    seen = {label for item in items["train"] for label in item.video_labels}
    unseen += [name for label, name in enumerate(whole) if label not in seen]
    if unseen:
        logger.warning("%d classes are in no training video: %s", len(unseen), shorten(unseen))
