"""The clips of the memory test: errands with many gaps, rendered, embedded and labelled."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float16, Float32, Int
from torch import Tensor

from vidmamba.datasets.errands.config import ErrandsConfig
from vidmamba.datasets.errands.grammar import write_script
from vidmamba.datasets.errands.plan import plan_clips
from vidmamba.datasets.errands.render import render
from vidmamba.datasets.errands.script import (
    CLASS_NAMES,
    MEMORY_CLASSES,
    Script,
    frame_labels,
)
from vidmamba.datasets.records import UNLABELLED, LabelledSet, VideoItem
from vidmamba.device import device_of
from vidmamba.features.embed import place_backbone
from vidmamba.features.files import written_whole
from vidmamba.models.backbone import BackboneConfig, FrozenBackbone

SHORTEST_GAP = 20
LABELLED_FRAMES = 200
"""Of a gap, in training."""
MOST_CLIPS = 1000
"""Of a set; the numbers of its clips begin at as many times its gap."""
MIXED = 256
"""Channels that models see."""
PICTURES = 256
"""Rendered before they are embedded."""
PIXELS = 126
"""Across what the backbone sees: pictures of errands, cut, and not resized."""


class Clip(NamedTuple):
    """One clip: its number, which draws all that its script leaves open, and what happens in it."""

    number: int
    script: Script


def errands_of(longest: int, videos: int, clips_seed: int = 0) -> ErrandsConfig:
    """Return the dials of as many training clips; with one seed, all clips show one room."""
    gap = (min(SHORTEST_GAP, longest), longest + longest // 10)
    return ErrandsConfig(videos=videos, gap=gap, seed=clips_seed, validation=0.0, test=0.0)


def reach_of(config: ErrandsConfig) -> int:
    """Return how far the last frame of leaving is from the first one of dealing with the thing."""
    return config.gap[1] + 64


def training_clips(config: ErrandsConfig) -> list[Clip]:
    """Write the clips to train on; their gaps grow from clip to clip."""
    shortest, longest = config.gap
    clips = []
    for number, plan in enumerate(plan_clips(config)):
        share = number / max(config.videos - 1, 1)
        gap = (round(shortest * (longest / shortest) ** share),) * 2
        clips.append(Clip(number, write_script(config, number, plan.outcomes, gap)))
    return clips


def clips_at(config: ErrandsConfig, gap: int, count: int) -> list[Clip]:
    """Write other clips, in which `gap` frames or some more lie before leaving."""
    plans = plan_clips(replace(config, videos=count, seed=config.seed + gap))
    return [
        Clip(number, write_script(config, number, plan.outcomes, (gap, gap + gap // 10)))
        for number, plan in enumerate(plans, start=gap * MOST_CLIPS)
    ]


@lru_cache(maxsize=1)
def placed(backbone: BackboneConfig) -> FrozenBackbone:
    """Return the backbone, once a process."""
    return place_backbone(backbone)


def embed_clip(config: ErrandsConfig, clip: Clip, backbone: BackboneConfig, folder: Path) -> None:
    """Render one clip and leave its features, float16 [T, D], in a file."""
    pictures, found = render(config, *clip), []
    frozen = placed(backbone)
    while some := [*islice(pictures, PICTURES)]:
        frames = torch.from_numpy(np.stack(some)).to(frozen.transform.scale.device)
        found.append(frozen(frames).half().cpu().numpy())
    with written_whole(file_of(clip, folder)) as out:
        np.save(out, np.concatenate(found))


def file_of(clip: Clip, folder: Path) -> Path:
    """Return where a clip's features are kept; their frames tell clips of one number apart."""
    return folder / f"{clip.number}-{clip.script.num_frames}.npy"


@lru_cache(maxsize=1)
def load_training(
    config: ErrandsConfig, folder: Path
) -> tuple[LabelledSet, Float32[Tensor, "D M"]]:
    """Join the labels of the training clips with their features in a folder, once a process.

    Returns:
        A set with nothing to test on, and what mixes the features of other clips as it does theirs.
    """
    clips = training_clips(config)
    read = [np.load(file_of(clip, folder)) for clip in clips]
    matrix = mixture(read)
    data = LabelledSet(
        class_names=CLASS_NAMES,
        background=(CLASS_NAMES.index("background"),),
        train=items_of(config, clips, [mix(features, matrix) for features in read], thin=True),
        validation=(),
        test=(),
        feature_key={"errands": folder.name, "width": MIXED},
        memory_classes=tuple(CLASS_NAMES.index(name) for name in MEMORY_CLASSES),
    )
    return data, matrix


def load_tests(config: ErrandsConfig, clips: Sequence[Clip], folder: Path) -> LabelledSet:
    """Return the training set with these clips to test on."""
    data, matrix = load_training(config, folder)
    mixed = [mix(np.load(file_of(clip, folder)), matrix) for clip in clips]
    return replace(data, test=items_of(config, clips, mixed, thin=False))


def items_of(
    config: ErrandsConfig,
    clips: Sequence[Clip],
    features: Sequence[Float32[np.ndarray, "_ M"]],
    *,
    thin: bool,
) -> tuple[VideoItem, ...]:
    """Return clips as a task takes them, all their frames labelled or, of long gaps, some."""
    items = []
    for (number, script), mixed in zip(clips, features, strict=True):
        labels = frame_labels(script)
        items.append(
            VideoItem(
                name=f"errand_{number}",
                features=mixed,
                labels=thinned(labels, script) if thin else labels,
                timestamps=np.arange(script.num_frames) / config.fps,
            )
        )
    return tuple(items)


def mixture(clips: Sequence[Float16[np.ndarray, "_ D"]]) -> Float32[Tensor, "D M"]:
    """Return what makes random mixtures of all features, each of which weighs as much in the clips.

    They keep distances (Johnson and Lindenstrauss), and five times as many clips fit beside each
    other on a GPU.
    """
    some = [clip[:: max(len(clip) // 50, 1)] for clip in clips]
    weight = 1 / (np.concatenate(some).astype(np.float32).std(axis=0) + 1e-3)
    random = np.random.default_rng(0).standard_normal((len(weight), MIXED)) / len(weight) ** 0.5
    return torch.from_numpy((weight[:, None] * random).astype(np.float32)).to(device_of("auto"))


def mix(
    clip: Float16[np.ndarray, "T D"], matrix: Float32[Tensor, "D M"]
) -> Float32[np.ndarray, "T M"]:
    """Return the mixtures of a clip's features."""
    return (torch.from_numpy(clip).to(matrix) @ matrix).cpu().numpy()


def thinned(labels: Int[np.ndarray, " T"], script: Script) -> Int[np.ndarray, " T"]:
    """Return labels with all but some `LABELLED_FRAMES` of each gap unlabelled."""
    kept = labels.copy()
    for errand in script.errands:
        gap = slice(errand.handled, errand.leaves)
        step = max((errand.leaves - errand.handled) // LABELLED_FRAMES, 1)
        kept[gap] = UNLABELLED
        kept[gap][::step] = labels[gap][::step]
    return kept
