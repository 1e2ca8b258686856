"""The config of a data set, and which options each format takes."""

import os
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from vidmamba.datasets.feature_file import Layout
from vidmamba.datasets.formats import Format, options_of
from vidmamba.datasets.joining import Gaps
from vidmamba.models.backbone import BackboneConfig

_OF_MSTCN = {
    "split",
    "stride",
    "average",
    "random_start",
    "validation",
    "validation_seed",
    "background",
    "fps",
}
_OF_MSTCN |= {"video_class_pattern"}
_OF_VIDEOS = {"videos", "backbone", "fps", "store"}
_OF_FEATURES = {"features", "layout", "fps", "stride"}
_OF_CAPTIONS = {"annotations", "numbers", "validation", "validation_seed", "test", "test_seed"}

CaptionFormat = Literal[
    "activitynet_captions",
    "youcook2",
    "msrvtt",
    "msvd_text",
    "msvd_csv",
    "coco_captions",
    "vid2seq",
    "packed_clips",
]
"""Files of sentences about videos."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """A data set: where it lies, how it is split, what its features are.

    In brackets stand the formats that take an option, where not all do; an option that is set for
    another format is refused. `videos` are all formats but mstcn and errands, as long as `features`
    names no folder.
    """

    root: str
    """Folder of the data set; `~` and `$VARIABLES` are filled in."""

    format: Literal["mstcn", "errands", Format, CaptionFormat] = "mstcn"
    """What lies in root. mstcn: feature files, groundTruth, mapping.txt and splits. errands: videos
    we rendered. Segments: breakfast, assembly101_coarse, assembly101_fine, activitynet (THUMOS and
    HACS too), coin, epic_kitchens, segments_csv (video,start,end,label). Labels of whole videos:
    class_folders, video_list (path,label), ucf101, kinetics, something_something. Sentences:
    activitynet_captions, youcook2 (its own files or PDVC's), msrvtt, msvd_text, msvd_csv,
    coco_captions, vid2seq, packed_clips."""

    annotations: tuple[str, ...] | None = None
    """Files or the folder of the annotations, in root; null for the names that the format gives
    them (all but mstcn, errands, class_folders). A file of sentences is named, with the part of the
    data set that it is before it where it does not say, and behind it the key of the object where
    it holds several: train=captions.json#train."""

    classes: str | None = None
    """File in root with a class a line, or `number class`; null for the classes that are found (all
    but mstcn, errands, epic_kitchens, ucf101, something_something)."""

    videos: str | None = None
    """Folder of the video files, in root; null for root itself (videos)."""

    features: str | None = None
    """Folder of `<video>.npy` files, in root, instead of videos; times stand in
    `<video>.timestamps.npy`, or follow from fps (all but mstcn, errands). For sentences also an
    .npz file of arrays; without fps, features are spread evenly over each video."""

    numbers: Literal["msrvtt_1k", "msvd"] | None = None
    """Parts by the numbers in the videos' names: MSR-VTT's video0 to video999 in 800, 100 and 100,
    or MSVD's usual split (sentences)."""

    layout: Layout = "auto"
    """Axes of the feature files: TD, DT, or auto where their lengths tell (features)."""

    split: int = 1
    """Number of the split (mstcn, breakfast, ucf101)."""

    stride: int = 1
    """Every how many stored frames the model sees one (mstcn, features)."""

    average: int = 1
    """Stored frames around each that the model sees whose mean it sees, an odd number; as many as
    the stride loses none (mstcn)."""

    random_start: bool = False
    """Whether training takes every `stride`-th stored frame from a first one that is drawn each
    time that it sees a video, so that it sees all of them in the end (mstcn)."""

    evaluation_stride: int | None = None
    """Every how many stored frames one is scored; null for what the data's protocol says."""

    validation: float = 0.2
    """Share of the training videos that is held back to choose by, where the format does not name
    them (all but errands)."""

    validation_seed: int = 0
    """Fixes which training videos are held back, whatever seed trains (all but errands)."""

    test: float = 0.2
    """Share of the videos to test on, where the format does not name them (all but mstcn, errands,
    breakfast, ucf101)."""

    test_seed: int = 0
    """Fixes which videos are tested on (the same)."""

    train_subsets: tuple[str, ...] | None = None
    """The format's subsets to train on; null for what their names say (the same)."""

    test_subsets: tuple[str, ...] | None = None
    """The format's subsets to test on; null for what their names say (the same)."""

    target: Literal["action", "verb", "noun"] = "action"
    """What the classes are (epic_kitchens, assembly101_fine)."""

    views: tuple[str, ...] | None = None
    """Cameras, such as C10095_rgb; null for all (assembly101_coarse, assembly101_fine)."""

    labels: str = "something-something-v2-labels.json"
    """The file of classes, in root (something_something)."""

    label_separator: str | None = None
    """What stands between several labels of one video (video_list)."""

    video_class_pattern: str | None = None
    """Regular expression with one group: finds the class of a whole video in its name (mstcn)."""

    gaps: Gaps | None = None
    """What frames in no segment are: background, or unlabelled, which breakfast's and
    assembly101_coarse's are by default (formats of segments)."""

    background: tuple[str, ...] | None = None
    """Classes that Edit and F1 leave out; null for those that the data set names, or that of the
    gaps (mstcn, formats of segments)."""

    backbone: BackboneConfig = BackboneConfig()
    """What embeds the frames (errands, videos)."""

    fps: float | None = None
    """Frames embedded a second, null for every frame (errands, videos); stored frames a second
    (mstcn, features)."""

    store: str | None = None
    """Folder for the features; by default `features` inside the root (errands, videos)."""

    def __post_init__(self) -> None:
        if min(self.stride, self.evaluation_stride or 1) < 1:
            raise ValueError(f"strides must be at least 1, got {self}")
        if self.random_start and self.stride == 1:
            raise ValueError("random_start draws below the stride, so it needs one above 1, got 1")
        if not 0 <= self.validation < 1 or not 0 <= self.test < 1:
            got = f"{self.validation}, {self.test}"
            raise ValueError(f"validation and test must lie in [0, 1), got {got}")
        if self.fps is not None and not self.fps > 0:
            raise ValueError(f"fps must be above 0, got {self.fps}")
        taken = self._options()
        set_for_others = [
            field.name
            for field in fields(self)
            if getattr(self, field.name) != field.default
            and field.name not in taken | {"root", "format", "evaluation_stride"}
        ]
        if set_for_others:
            source = " with features" if self.features is not None else ""
            raise ValueError(
                f"{', '.join(set_for_others)}: not an option of the format {self.format}{source}, "
                f"which takes {', '.join(sorted(taken))}"
            )

    def _options(self) -> set[str]:
        if self.format == "mstcn":
            return _OF_MSTCN
        if self.format == "errands":
            return {"backbone", "fps", "store"}
        if self.format in get_args(CaptionFormat):
            return _OF_CAPTIONS | (_OF_VIDEOS if self.features is None else _OF_FEATURES)
        own = options_of(self.format) | {"validation", "validation_seed"}
        return own | (_OF_VIDEOS if self.features is None else _OF_FEATURES)


def expand_folder(text: str) -> Path:
    """Fill in `~` and environment variables.

    Raises:
        ValueError: a variable is not set.
    """
    path = os.path.expandvars(os.path.expanduser(text))
    missing = re.search(r"\$\{?(\w+)", path)
    if missing:
        raise ValueError(f"{text}: the environment variable {missing[1]} is not set")
    return Path(path)
