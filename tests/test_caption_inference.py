from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vidmamba.caption_evaluation import as_evaluated, evaluate_captions
from vidmamba.caption_inference import caption_features, caption_items, caption_timeline
from vidmamba.datasets.records import LabelledSet, VideoItem
from vidmamba.features.store import StoredFeatures
from vidmamba.models.captioner import CaptionerConfig
from vidmamba.models.captioner_events import EventConfig, FoundEvents
from vidmamba.models.decoder import DecoderConfig
from vidmamba.models.tokenizer import TokenizerConfig
from vidmamba.nn.stack import StackConfig
from vidmamba.submission import read_submission, write_submission
from vidmamba.tasks.caption_batches import frame_edges, to_frames, to_seconds
from vidmamba.tasks.caption_losses import CaptionLossConfig
from vidmamba.tasks.caption_setup import make_captioning_task
from vidmamba.tasks.captioning import CaptioningTask
from vidmamba.tasks.optim import OptimConfig
from vidmamba.timeline import Caption, timeline_from_dict, timeline_to_dict


@pytest.fixture(autouse=True)
def _speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an untrained model writes may be blank; here it never is."""
    decode = "vidmamba.models.tokenizer.CaptionTokenizer.decode"
    monkeypatch.setattr(decode, lambda _, tokens: f"It says {sum(tokens)}.")


def item(captions: tuple[Caption, ...]) -> VideoItem:
    return VideoItem(
        name="clip",
        features=np.random.default_rng(0).normal(0, 1, (4, 3)).astype(np.float32),
        labels=np.array([0, 0, 1, 1]),
        timestamps=np.arange(4) / 2,
        captions=captions,
    )


DATA = LabelledSet(
    class_names=("a", "b"),
    background=(),
    train=(),
    validation=(),
    test=(),
    feature_key={"width": 3},
)


def new_task(*, dense: bool, frames: float = 1.0) -> CaptioningTask:
    captions = [Caption(start=0.0, end=2.0, text="A man waits.")]
    if dense:
        captions.append(Caption(start=1.0, end=2.0, text="He goes."))
    task = make_captioning_task(
        replace(DATA, train=(item(tuple(captions)),)),
        model=CaptionerConfig(
            stack=StackConfig(width=8, depth=1),
            events=EventConfig(least_score=0.0),
            decoder=DecoderConfig(vocabulary=1, width=8, depth=1, heads=2),
        ),
        optim=OptimConfig(),
        loss=CaptionLossConfig(frames=frames),
        words=TokenizerConfig(words=300),
        data_config={},
    )
    return task.eval()


def stored(times: list[float], *, fps: float | None, duration: float = 2.0) -> StoredFeatures:
    features = np.random.default_rng(1).normal(0, 1, (len(times), 3))
    return StoredFeatures(
        features=features.astype(np.float16),
        timestamps=np.array(times),
        fps=fps,
        duration=duration,
        video=Path("folder/clip.mp4"),
        meta={"damage": None},
    )


def at(monkeypatch: pytest.MonkeyPatch, spans: list[list[float]]) -> CaptioningTask:
    """Return a task whose event head finds events at these frames."""

    def find(*_: Any) -> FoundEvents:
        return FoundEvents(torch.tensor(spans), torch.ones(len(spans)))

    monkeypatch.setattr("vidmamba.models.telling.find_events", find)
    return new_task(dense=True)


def test_events_stand_at_the_true_times_of_frames_of_a_variable_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = at(monkeypatch, [[0.0, 2.0], [1.5, 4.0]])
    timeline = caption_timeline(task, stored([0.0, 0.1, 0.9, 1.0], fps=None))
    # frame 1 lasts from 0.1 to 0.9 s, the last one to the video's end
    found = [(caption.start, caption.end) for caption in timeline.captions]
    assert found == [pytest.approx((0, 0.9)), pytest.approx((0.5, 2))]


def test_a_frame_that_stays_on_screen_answers_for_every_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = at(monkeypatch, [[1.0, 3.0]])
    timeline = caption_timeline(task, stored([0.0, 0.0, 0.0, 1.4], fps=2.0))
    assert (timeline.captions[0].start, timeline.captions[0].end) == pytest.approx((0.5, 1.5))


def test_a_caption_never_passes_a_video_whose_container_claims_too_little() -> None:
    timeline = caption_timeline(new_task(dense=False), stored([0.0, 3.0], fps=None))
    assert timeline.duration > 3.0
    assert [(c.start, c.end) for c in timeline.captions] == [(0.0, timeline.duration)]


def test_a_clip_of_one_frame_has_one_sentence_about_the_whole_of_it() -> None:
    timeline = caption_timeline(new_task(dense=False), stored([0.0], fps=None))
    assert [(c.start, c.end) for c in timeline.captions] == [(0.0, 2.0)]


def test_a_timeline_of_both_has_segments_from_the_same_states_and_survives_json() -> None:
    timeline = caption_timeline(new_task(dense=True), stored([0.0, 0.5, 1.0, 1.5], fps=None))
    assert timeline.segments[0].start == 0
    assert timeline.segments[-1].end == 2
    assert timeline.captions
    assert timeline_from_dict(timeline_to_dict(timeline)) == timeline
    alone = caption_timeline(new_task(dense=True, frames=0.0), stored([0.0, 0.5], fps=None))
    assert alone.segments == ()


def test_the_same_video_is_told_of_in_the_same_words_every_time() -> None:
    task, features = new_task(dense=True), stored([0.0, 0.5, 1.0, 1.5], fps=None)
    assert caption_timeline(task, features) == caption_timeline(task, features)


def test_captions_of_a_data_set_are_those_of_its_videos() -> None:
    task = new_task(dense=False)
    clip = item(())
    told = caption_features(task, clip.read_features(), clip.timestamps)
    assert caption_items(task, [clip]) == {"clip": told}
    # 0.5 s a frame: the fourth ends at 2 s, or where the video is said to end
    assert told[0].end == 2.0
    longer = caption_features(task, clip.read_features(), clip.timestamps, duration=2.4)
    assert longer[0].end == 2.4
    assert longer[0].text == told[0].text


def test_the_surest_of_too_many_captions_are_evaluated_and_the_rest_is_told_of(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    task, one = new_task(dense=True), item((Caption(start=0.0, end=1.0, text="A man waits."),))
    one = replace(one, captions=(*one.captions, Caption(start=1.0, end=2.0, text="He goes.")))
    data = replace(DATA, test=(one,))
    unsure = tuple(Caption(start=0.1, end=0.2, text="No.", score=0.1) for _ in range(1100))
    said = (*unsure[:500], *(replace(c, score=0.9) for c in one.captions), *unsure[500:])
    monkeypatch.setattr("vidmamba.caption_evaluation.caption_items", lambda *_: {"clip": said})
    found = evaluate_captions(task, data, part="test")
    assert found.predicted["clip"] == said
    assert found.scores["recall"] == 100
    assert (
        "clip: 1102 captions, of which the evaluation takes the 1000 with the high" in caplog.text
    )
    write_submission(as_evaluated(found.predicted), tmp_path / "s.json")
    sent = read_submission(tmp_path / "s.json")["clip"]
    assert len(sent) == 1000
    assert {caption.text for caption in sent} == {"A man waits.", "He goes.", "No."}


def test_a_clip_is_scored_by_the_surest_of_what_is_said_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task, one = new_task(dense=True), item((Caption(start=0.0, end=2.0, text="A man waits."),))
    said = (
        Caption(start=0.0, end=1.0, text="No.", score=0.2),
        Caption(start=0.5, end=2.0, text="A man waits.", score=0.8),
    )
    monkeypatch.setattr("vidmamba.caption_evaluation.caption_items", lambda *_: {"clip": said})
    found = evaluate_captions(task, replace(DATA, test=(one,)), part="test")
    assert found.scores["bleu1"] == pytest.approx(100)


def test_frames_and_seconds_are_each_others_inverse_at_any_rate() -> None:
    edges = frame_edges(np.array([0.0, 0.1, 0.9, 1.0]))
    assert edges.tolist() == [0.0, 0.1, 0.9, 1.0, pytest.approx(1.1)]
    frames = np.array([0.0, 1.5, 2.0, 4.0])
    np.testing.assert_allclose(to_seconds(frames, edges), [0.0, 0.5, 0.9, 1.1])
    np.testing.assert_allclose(to_frames(to_seconds(frames, edges), edges), frames)
    assert frame_edges(np.array([2.0])).tolist() == [2.0, 3.0]
    assert frame_edges(np.array([0.0, 1.0]), 7.5)[-1] == 7.5
    # a container that claims less than its frames last does not cut them off
    assert frame_edges(np.array([0.0, 1.0]), 0.5)[-1] > 1.0
