import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vidmamba.datasets.records import LabelledSet
from vidmamba.models.captioner_events import EventConfig
from vidmamba.models.tokenizer import train_tokenizer
from vidmamba.tasks.caption_batches import (
    CaptionBatch,
    CaptionBatchConfig,
    CaptionCollator,
    event_spans,
)
from vidmamba.timeline import Caption

from .animals import MODEL, WORDS, clips, labelled_set, video


def collator(data: LabelledSet, **values: Any) -> CaptionCollator:
    texts = [caption.text for item in data.train for caption in item.captions]
    time_tokens = values.pop("time_tokens", 0)
    tokenizer = train_tokenizer(texts, replace(WORDS, time_tokens=time_tokens))
    model = replace(MODEL, events=EventConfig(lengths=values.pop("lengths", (7.0,))), context=0.5)
    return CaptionCollator(tokenizer, model, CaptionBatchConfig(**values))


def test_a_batch_holds_each_sentence_at_its_frames() -> None:
    data = labelled_set(3)
    make = collator(data, jitter=0.0)
    batch = make(data.train)
    assert isinstance(batch, CaptionBatch)
    assert batch.videos.tolist() == [0, 0, 1, 1, 2, 2]
    assert batch.about.tolist() == [0, 1, 2, 3, 4, 5]
    for row, (number, span) in enumerate(
        zip(batch.videos.tolist(), batch.spans.tolist(), strict=True)
    ):
        item = data.train[number]
        caption = item.captions[row % 2]
        assert span == pytest.approx([caption.start * 4, caption.end * 4])
        assert make.tokenizer.decode(batch.tokens[row].tolist()) == caption.text
        assert batch.tokens[row, 0] == make.tokenizer.begin
    peaks = [torch.nonzero(batch.events.scores[row, :, 0] == 1).flatten() for row in range(3)]
    assert [p.tolist() for p in peaks] == [[6, 23], [7, 24], [8, 25]]


def test_what_is_told_again_is_of_an_event_before_and_starts_with_the_end() -> None:
    data = labelled_set(3)
    make = collator(data, jitter=0.0, again=2)
    batch = make(data.train)
    assert batch.again is not None
    assert batch.again.tolist() == [False] * 6 + [True] * 6
    for row in torch.nonzero(batch.again).flatten().tolist():
        event = int(batch.about[row])
        item = data.train[int(batch.videos[event])]
        first, second = item.captions
        assert batch.spans[event].tolist() == pytest.approx([second.start * 4, second.end * 4])
        assert batch.tokens[row, 0] == make.tokenizer.end
        assert make.tokenizer.decode(batch.tokens[row, 1:].tolist()) == first.text


def test_what_a_video_says_of_many_events_is_told_of_one_drawn_anew() -> None:
    texts = ("It waits.", "It goes.", "It waits.", "It waits.")
    captions = tuple(
        Caption(start=float(start), end=start + 1.0, text=text) for start, text in enumerate(texts)
    )
    (item,) = labelled_set(1).train
    data = replace(labelled_set(1), train=(replace(item, captions=captions),))
    make = collator(data, jitter=0.0, again=1)
    batches = [make(data.train) for _ in range(40)]
    waits = set()
    for batch in batches:
        assert batch.spans.tolist() == [[4.0 * k, 4.0 * k + 4] for k in range(4)]
        assert batch.again is not None
        told = batch.about[~batch.again].tolist()
        assert sorted(texts[event] for event in told) == ["It goes.", "It waits."]
        waits |= {*told} - {1}
        for event, tokens in zip(batch.about.tolist(), batch.tokens.tolist(), strict=True):
            said = make.tokenizer.decode(tokens[1:])
            assert said == texts[event] if tokens[0] == make.tokenizer.begin else event > 0
    assert waits == {0, 2, 3}


def test_jitter_moves_bounds_no_further_than_asked_and_times_tell_where_they_were() -> None:
    data = labelled_set(8)
    make = collator(data, jitter=0.2, time_tokens=1001)
    batch, still = make(data.train), collator(data, jitter=0.0)(data.train)
    length = still.spans[:, 1:] - still.spans[:, :1]
    moved = (batch.spans - still.spans) / length
    assert moved.abs().max() <= 0.2
    assert moved.std() > 0.05
    for row in range(len(batch.tokens)):
        start, end = batch.spans[row].tolist()
        first, width = start - 0.5 * (end - start), 2 * (end - start)
        shares = [make.tokenizer.decode_time(token) for token in batch.tokens[row, 1:3].tolist()]
        assert None not in shares
        true = [first + share * width for share in shares if share is not None]
        assert true == pytest.approx(still.spans[row].tolist(), abs=width / 1000)


def test_the_seed_fixes_what_is_drawn_and_a_workers_copy_draws_the_same() -> None:
    data = clips()
    make = collator(data, seed=3, lengths=())
    other = pickle.loads(pickle.dumps(make))
    rows = [make(data.train).tokens for _ in range(6)]
    assert all(torch.equal(row, other(data.train).tokens) for row in rows)
    assert any(not torch.equal(rows[0], row) for row in rows[1:])
    # one of each clip's two sentences at a time, by and by each of them
    assert {tuple(row.shape[:1]) for row in rows} == {(8,)}
    first = {make.tokenizer.decode(row[0].tolist()) for row in rows}
    assert first <= {caption.text for caption in data.train[0].captions}
    both = collator(data, references=5, lengths=())(data.train)
    assert both.about.tolist() == [k for k in range(8) for _ in range(2)]


def test_long_sentences_are_cut_and_a_caption_beyond_the_video_is_refused_by_name() -> None:
    data = labelled_set(1)
    assert collator(data, most_words=2)(data.train).tokens.shape[1] == 4
    late = Caption(start=100.0, end=101.0, text="Too late.")
    item = replace(data.train[0], captions=(late,))
    with pytest.raises(ValueError, match=r"v0: a caption begins at 100 s, but its 31 frames end"):
        collator(data)([item])
    over = replace(data.train[0], captions=(Caption(start=1.0, end=99.0, text="Over."),))
    assert collator(data, jitter=0.0)([over]).spans.tolist() == [[4.0, 31.0]]


def test_all_that_is_said_of_a_video_of_one_frame_is_said_of_that_frame() -> None:
    one = replace(
        video(0),
        features=np.ones((1, 4), dtype=np.float32),
        labels=np.zeros(1, dtype=np.int64),
        timestamps=np.zeros(1),
        captions=(
            Caption(start=0.0, end=4.0, text="The dog comes."),
            Caption(start=5.0, end=10.0, text="The dog leaves."),
        ),
    )
    np.testing.assert_allclose(event_spans(one), [[0, 0.4], [0.5, 1]])
