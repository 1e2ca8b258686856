"""A captioning task for a data set."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vidmamba.config import differences, to_plain
from vidmamba.datasets.records import LabelledSet
from vidmamba.models.captioner import CaptionerConfig
from vidmamba.models.captioner_events import typical_lengths
from vidmamba.models.generation import GenerationConfig
from vidmamba.models.language import LanguageConfig, language_model_config, load_language_model
from vidmamba.models.token_cider import TokenCider, learn_rarities
from vidmamba.models.tokenizer import (
    CaptionTokenizer,
    TokenizerConfig,
    read_tokenizer,
    train_tokenizer,
)
from vidmamba.tasks.caption_batches import CaptionBatchConfig, event_spans
from vidmamba.tasks.caption_losses import CaptionLossConfig
from vidmamba.tasks.captioning import CaptioningTask, Score
from vidmamba.tasks.optim import OptimConfig
from vidmamba.tasks.segmentation import SegmentationTask
from vidmamba.tasks.statistics import feature_statistics


def make_captioning_task(
    data: LabelledSet,
    *,
    model: CaptionerConfig,
    optim: OptimConfig,
    loss: CaptionLossConfig,
    data_config: dict[str, Any],
    words: TokenizerConfig | None = None,
    generation: GenerationConfig | None = None,
    batches: CaptionBatchConfig | None = None,
    score: Score = "caption",
    segmenter: SegmentationTask | None = None,
    language_model: Path | None = None,
) -> CaptioningTask:
    """Build a task for this data: its words and typical events are the training captions'.

    Args:
        data: its training videos have captions.
        model: shape of the network; what it leaves open follows from the data.
        optim: how it is trained.
        loss: what is minimised.
        data_config: goes into checkpoints.
        words: of the tokenizer.
        generation: how captions are chosen.
        batches: what training sees of the captions.
        score: what a checkpoint is chosen by.
        segmenter: a trained one of the same stack, whose encoder (and head, where frames have a
            weight) training starts from: what is to be remembered it remembers already.
        language_model: folder of a published Mamba or Mamba-2 in the Hugging Face format, with its
            tokenizer.json; of ``model.decoder`` only heads, attend_every and dropout count then.

    Raises:
        ValueError: no training video has a caption, nothing that has a weight can be learned from
            the data, or the segmenter or language model do not fit.
    """
    words = words or TokenizerConfig()
    model = replace(model, events=replace(model.events, lengths=_lengths(data, model)))
    tokenizer, model = _words(data, model, words, language_model)
    likeness = _likeness(data, tokenizer)
    task = CaptioningTask(
        model=to_plain(model),
        optim=to_plain(optim),
        loss=to_plain(loss),
        tokenizer=tokenizer.to_plain(),
        generation=to_plain(generation or GenerationConfig()),
        batches=to_plain(batches or CaptionBatchConfig()),
        labels={
            "class_names": list(data.class_names),
            "background": list(data.background),
            "memory_classes": list(data.memory_classes),
        },
        features=dict(data.feature_key),
        data=data_config,
        ngrams=len(likeness.keys),
        score=score,
    )
    _check_losses(task, loss)
    task.likeness.load_state_dict(likeness.state_dict())
    if language_model is not None:
        task.net.decoder = load_language_model(language_model, _language(model, tokenizer))
    task.net.encoder.standardize.set_statistics(*feature_statistics(data))
    if segmenter is not None:
        _start_from(task, segmenter, data)
    return task


def _check_losses(task: CaptioningTask, loss: CaptionLossConfig) -> None:
    if not loss.words and task.net.events is None and task.net.head is None:
        raise ValueError(
            "nothing is learned: loss.words is 0, times has no weight or each video is one event, "
            "and frames has none or no classes"
        )


def _lengths(data: LabelledSet, model: CaptionerConfig) -> tuple[float, ...]:
    """Return the typical lengths of events, in frames; none where each video is one event."""
    if not any(item.captions for item in data.train):
        raise ValueError(
            f"captioning needs captions, but none of {len(data.train)} training videos has any"
        )
    if model.events.lengths is not None:
        return model.events.lengths
    spans = [event_spans(item) for item in data.train]
    if all(len(events) <= 1 for events in spans):
        return ()
    every = np.concatenate(spans)
    return typical_lengths(every[:, 1] - every[:, 0], model.events.channels)


def _likeness(data: LabelledSet, tokenizer: CaptionTokenizer) -> TokenCider:
    """Return what knows how rare n-grams are in the training captions."""
    videos = [[tokenizer.encode(caption.text) for caption in item.captions] for item in data.train]
    return learn_rarities(videos, vocabulary=len(tokenizer), end=tokenizer.end)


def _words(
    data: LabelledSet, model: CaptionerConfig, words: TokenizerConfig, folder: Path | None
) -> tuple[CaptionTokenizer, CaptionerConfig]:
    """Return the tokenizer, and the model with its decoder's shape."""
    if folder is None:
        captions = (caption.text for item in data.train for caption in item.captions)
        return train_tokenizer(captions, words), model
    own = language_model_config(folder).vocabulary
    tokenizer = read_tokenizer(folder / "tokenizer.json", words, room=own)
    if tokenizer.num_words > own:
        raise ValueError(
            f"{folder}: the tokenizer has {tokenizer.num_words} words, the model knows {own}"
        )
    shape = language_model_config(folder, _language(model, tokenizer))
    return tokenizer, replace(model, decoder=shape)


def _language(model: CaptionerConfig, tokenizer: CaptionTokenizer) -> LanguageConfig:
    return LanguageConfig(
        attend_every=model.decoder.attend_every,
        heads=model.decoder.heads,
        memory_width=model.stack.width,
        new_tokens=len(tokenizer) - tokenizer.num_words,
        dropout=model.decoder.dropout,
    )


def _start_from(task: CaptioningTask, segmenter: SegmentationTask, data: LabelledSet) -> None:
    """Take a segmenter's encoder, and its head if there is one to take it.

    Raises:
        ValueError: it saw other features or classes, or its stack has another shape.
    """
    if lines := differences(segmenter.feature_key, data.feature_key):
        raise ValueError("the segmenter saw other features:\n  " + "\n  ".join(lines))
    if task.net.head is not None and segmenter.class_names != task.class_names:
        raise ValueError(
            f"the segmenter names other classes: {segmenter.class_names}, not {task.class_names}"
        )
    if segmenter.net.encoder.each_video:
        raise ValueError(
            "the segmenter does not fit the captioner, which has no standardize_videos: train one "
            "without it"
        )
    own = segmenter.net.encoder.state_dict()
    try:
        task.net.encoder.load_state_dict(own)
        if task.net.head is not None:
            task.net.head.load_state_dict(segmenter.net.head.state_dict())
    except RuntimeError as error:
        raise ValueError(f"the segmenter does not fit the captioner: {error}") from error
