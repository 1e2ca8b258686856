"""Made-up videos with sentences: an animal comes and leaves, with a ball or without."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from vidmamba.datasets.records import LabelledSet, VideoItem
from vidmamba.models.augment import AugmentConfig
from vidmamba.models.captioner import CaptionerConfig
from vidmamba.models.captioner_events import EventConfig
from vidmamba.models.decoder import DecoderConfig
from vidmamba.models.tokenizer import TokenizerConfig
from vidmamba.nn.stack import StackConfig
from vidmamba.tasks.caption_batches import (
    frame_edges,
)
from vidmamba.tasks.caption_losses import CaptionLossConfig
from vidmamba.tasks.caption_setup import make_captioning_task
from vidmamba.tasks.captioning import CaptioningTask
from vidmamba.tasks.optim import OptimConfig
from vidmamba.timeline import Caption

MODEL = CaptionerConfig(
    stack=StackConfig(width=24, depth=1, dropout=0.0),
    augment=AugmentConfig(channel_dropout=0.0),
    events=EventConfig(channels=1),
    decoder=DecoderConfig(vocabulary=1, width=24, depth=1),
    window=8,
)
WORDS = TokenizerConfig(words=400, least_count=1)
ANIMALS = ("dog", "cat")


def video(number: int) -> VideoItem:
    """An animal comes, with a ball or without; when it leaves, the pictures say only that it does.

    Features: 0 and 1 the animal, 2 a ball, both while it comes; 3 it leaves.
    """
    animal, ball = number % 2, (number + number // 2) % 2
    start = 3 + number % 3
    come, leave, frames = (start, start + 6), (start + 16, start + 24), start + 28
    features = np.random.default_rng(number).normal(0, 0.1, (frames, 4)).astype(np.float32)
    features[slice(*come), animal] += 3
    features[slice(*come), 2] += 3 * ball
    features[slice(*leave), 3] += 3
    labels = np.zeros(frames, dtype=np.int64)
    labels[slice(*come)], labels[slice(*leave)] = 1, 2
    name, thing = ANIMALS[animal], ("no ball", "a ball")[ball]
    return VideoItem(
        name=f"v{number}",
        features=features,
        labels=labels,
        timestamps=np.arange(frames) / 4,
        captions=(
            Caption(start=come[0] / 4, end=come[1] / 4, text=f"The {name} comes with {thing}."),
            Caption(start=leave[0] / 4, end=leave[1] / 4, text=f"The {name} leaves with {thing}."),
        ),
    )


def labelled_set(number: int = 8, **values: Any) -> LabelledSet:
    items = tuple(video(k) for k in range(number))
    return LabelledSet(
        class_names=("nothing", "come", "leave"),
        background=(0,),
        train=items,
        validation=items,
        test=items,
        feature_key={"width": 4, "source": "made up"},
        **values,
    )


def clips(number: int = 8) -> LabelledSet:
    """Each video's whole is one event, told of by two people."""
    data = labelled_set(number)

    def whole(item: VideoItem) -> VideoItem:
        end = float(frame_edges(item.timestamps)[-1])
        texts = [caption.text for caption in item.captions]
        return replace(
            item, captions=tuple(Caption(start=0.0, end=end, text=text) for text in texts)
        )

    train = tuple(whole(item) for item in data.train)
    return replace(data, train=train, validation=train[:3], test=train)


def new_task(data: LabelledSet, **values: Any) -> CaptioningTask:
    torch.manual_seed(0)
    given: dict[str, Any] = {
        "model": MODEL,
        "optim": OptimConfig(lr=1e-2),
        "loss": CaptionLossConfig(),
        "words": WORDS,
        "data_config": {"root": "x"},
    }
    return make_captioning_task(data, **given | values)
