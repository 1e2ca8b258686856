import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vidmamba.models.augment import AugmentConfig
from vidmamba.models.captioner import Captioner, CaptionerConfig
from vidmamba.models.captioner_context import EventContext
from vidmamba.models.captioner_events import (
    EventConfig,
    EventMaps,
    event_loss,
    event_maps,
    find_events,
    typical_lengths,
)
from vidmamba.models.captioner_window import MeanWindow, Window
from vidmamba.models.decoder import DecoderConfig
from vidmamba.models.generation import GenerationConfig
from vidmamba.models.telling import tell, tell_all
from vidmamba.models.tokenizer import TokenizerConfig, train_tokenizer
from vidmamba.nn.stack import StackConfig

EVENTS = EventConfig(lengths=(8.0, 30.0))
CONFIG = CaptionerConfig(
    stack=StackConfig(width=16, depth=1),
    augment=AugmentConfig(channel_dropout=0.0),
    events=EVENTS,
    decoder=DecoderConfig(vocabulary=1, width=16, depth=1),
    window=8,
)
TOKENIZER = train_tokenizer(["a man waits", "a dog runs"] * 3, TokenizerConfig(words=300))


def captioner(config: CaptionerConfig = CONFIG, *, vocabulary: int = len(TOKENIZER)) -> Captioner:
    torch.manual_seed(0)
    return Captioner(config, num_features=4, num_classes=3, vocabulary=vocabulary).eval()


def logits(shares: np.ndarray) -> Tensor:
    return torch.from_numpy(shares).clamp(1e-4, 1 - 1e-4).logit()


def iou(one: np.ndarray, other: np.ndarray) -> float:
    shared = min(one[1], other[1]) - max(one[0], other[0])
    return float(max(shared, 0) / (max(one[1], other[1]) - min(one[0], other[0])))


# events


@pytest.mark.parametrize("seed", range(5))
def test_events_are_found_again_in_their_own_maps(seed: int) -> None:
    random = np.random.default_rng(seed)
    starts = np.cumsum(random.uniform(15, 50, 20))
    spans = np.stack([starts, starts + random.uniform(3, 40, 20)], axis=1)
    frames = int(spans.max()) + 5
    scores, reach = event_maps(spans, frames, (8.0, 30.0))
    found = find_events(logits(scores), torch.from_numpy(reach), replace(EVENTS, least_score=0.9))
    # nearer ones of one length are the same event to it, and this far apart none are
    np.testing.assert_allclose(found.spans.numpy(), spans, atol=1e-3)


def test_a_short_event_inside_a_long_one_is_found_beside_it() -> None:
    spans = np.array([[10.0, 50.0], [28.0, 33.0]])
    scores, reach = event_maps(spans, 60, (8.0, 30.0))
    found = find_events(logits(scores), torch.from_numpy(reach), replace(EVENTS, least_score=0.9))
    np.testing.assert_allclose(found.spans.numpy(), spans, atol=1e-4)


def test_an_event_of_less_than_a_frame_and_one_at_the_very_end_have_a_peak() -> None:
    scores, reach = event_maps(np.array([[3.1, 3.3], [9.8, 10.0]]), 10, (8.0,))
    assert np.flatnonzero(scores[:, 0] == 1).tolist() == [3, 9]
    assert (reach[[3, 9]] > 0).all()


@pytest.mark.parametrize("most", [0.3, 0.6, 1.0])
def test_no_two_events_overlap_more_than_allowed_and_each_one_dropped_had_a_better(
    most: float,
) -> None:
    random = np.random.default_rng(1)
    shares = torch.from_numpy(random.uniform(0, 1, (300, 2)).astype(np.float32))
    reach = torch.from_numpy(random.uniform(1, 20, (300, 2, 2)).astype(np.float32))
    found = find_events(shares.logit(), reach, replace(EVENTS, most_overlap=most))
    # the definition: the best first, each unless a kept one overlaps it too much
    every = find_events(shares.logit(), reach, replace(EVENTS, most_overlap=1.0))
    kept: list[int] = []
    for index in np.argsort(-every.scores.numpy(), kind="stable"):
        span = every.spans[index].numpy()
        if all(iou(span, every.spans[other].numpy()) <= most for other in kept):
            kept.append(int(index))
    assert len(kept) > 10
    torch.testing.assert_close(found.spans, every.spans[sorted(kept)])


def test_the_loss_of_bounds_is_one_minus_the_overlap() -> None:
    true = EventMaps(torch.zeros(1, 4, 1), torch.zeros(1, 4, 1, 2))
    true.scores[0, 2] = 1.0
    true.reach[0, 2, 0] = torch.tensor([2.0, 2.0])
    predicted = EventMaps(torch.zeros(1, 4, 1), torch.ones(1, 4, 1, 2))
    predicted.reach[0, 2, 0] = torch.tensor([1.0, 3.0])
    mask = torch.ones(1, 4, dtype=torch.bool)
    scores, bounds = event_loss(predicted, true, mask)
    # shared 1 + 2, either 2 + 3
    assert bounds.item() == pytest.approx(1 - 3 / 5)
    # at a logit of 0 each frame costs log 2 times 0.5 squared, the peak as the three beside it
    assert scores.item() == pytest.approx(4 * 0.25 * math.log(2))


def test_padding_costs_nothing_whatever_it_holds() -> None:
    true = EventMaps(torch.zeros(1, 4, 1), torch.zeros(1, 4, 1, 2))
    predicted = EventMaps(torch.full((1, 4, 1), -30.0), torch.ones(1, 4, 1, 2))
    predicted.scores[0, 3] = float("nan")
    mask = torch.tensor([[True, True, True, False]])
    assert [loss.item() for loss in event_loss(predicted, true, mask)] == pytest.approx([0, 0])


def test_typical_lengths_are_quantiles_and_equal_ones_are_one() -> None:
    assert typical_lengths(np.array([10.0] * 9), 3) == (10.0,)
    # a sixth, half and five sixths of the way from 1 to e^6, in logarithms
    spread = np.exp(np.linspace(0, 6, 601))
    assert typical_lengths(spread, 3) == pytest.approx([math.e, math.e**3, math.e**5], rel=1e-2)


# what a sentence is written from


def test_a_window_takes_the_states_of_its_places_and_the_ends_beyond_the_video() -> None:
    window = Window(1, rows=4, context=0.5)
    torch.nn.init.zeros_(window.place.weight)
    torch.nn.init.zeros_(window.place.bias)
    states = torch.arange(10.0).view(1, 10, 1).repeat(2, 1, 1)
    states[1, 6:] = float("nan")  # padding
    found = window(
        states,
        torch.tensor([10, 6]),
        torch.tensor([0, 1]),
        torch.tensor([[2.0, 6.0], [3.0, 7.0]]),
    )
    # [0, 8) and [1, 9) in four parts; the state of frame t stands at t + 0.5
    assert found[0, :, 0].tolist() == pytest.approx([0.5, 2.5, 4.5, 6.5])
    assert found[1, :, 0].tolist() == pytest.approx([1.5, 3.5, 5.0, 5.0])


def test_a_mean_window_is_the_mean_of_the_real_states_of_the_span() -> None:
    states = torch.randn(2, 10, 3)
    states[1, 6:] = float("nan")  # padding
    found = MeanWindow()(
        states,
        torch.tensor([10, 6]),
        torch.tensor([0, 1, 0, 1]),
        torch.tensor([[2.0, 6.0], [3.2, 9.0], [0.0, 10.0], [8.0, 9.0]]),
    )
    expected = [states[0, 2:6], states[1, 3:6], states[0], states[1, 5:6]]
    assert found.shape == (4, 1, 3)
    for row, part in zip(found, expected, strict=True):
        torch.testing.assert_close(row[0], part.mean(dim=0))


def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    mask = torch.zeros(3, 12, dtype=torch.bool)
    for row, length in enumerate((12, 5, 9)):
        mask[row, :length] = True
    return {
        "features": torch.randn(3, 12, 4, generator=generator),
        "mask": mask,
        "videos": torch.tensor([0, 0, 1, 2]),
        "spans": torch.tensor([[0.0, 4.0], [3.0, 12.0], [1.0, 5.0], [2.0, 8.0]]),
        "about": torch.tensor([2, 0, 1, 3, 1]),
        "tokens": torch.randint(len(TOKENIZER), (5, 6), generator=generator),
    }


@pytest.mark.parametrize("event_slots", [0, 2])
@torch.no_grad()
def test_the_order_of_videos_and_what_stands_beside_them_change_nothing(event_slots: int) -> None:
    net, given = captioner(replace(CONFIG, event_slots=event_slots)), batch()
    whole = net(**given)
    one = net(
        features=given["features"][1:2, :5],
        mask=given["mask"][1:2, :5],
        videos=torch.tensor([0]),
        spans=given["spans"][2:3],
        about=torch.tensor([0]),
        tokens=given["tokens"][:1],
    )
    torch.testing.assert_close(one.words[0], whole.words[0])
    torch.testing.assert_close(one.frames[0], whole.frames[1, :5])
    torch.testing.assert_close(one.events.scores[0], whole.events.scores[1, :5])
    order = torch.tensor([2, 0, 1])
    turned = net(
        features=given["features"][order],
        mask=given["mask"][order],
        videos=torch.tensor([0, 1, 1, 2]),
        spans=given["spans"][[3, 0, 1, 2]],
        about=torch.tensor([3, 1, 2, 0, 2]),
        tokens=given["tokens"],
    )
    torch.testing.assert_close(turned.words, whole.words)


@torch.no_grad()
def test_padding_never_leaks_not_even_nan() -> None:
    net, given = captioner(), batch()
    whole = net(**given)
    given["features"][~given["mask"]] = float("nan")
    torch.testing.assert_close(net(**given).words, whole.words)


@torch.no_grad()
def test_a_causal_captioner_says_the_same_of_the_past_whatever_comes() -> None:
    stack = replace(CONFIG.stack, direction="causal")
    net, given = captioner(replace(CONFIG, stack=stack)), batch()
    rows = {
        "videos": torch.tensor([0]),
        "spans": torch.tensor([[1.0, 5.0]]),
        "about": torch.tensor([0]),
        "tokens": given["tokens"][:1],
    }
    features, mask = given["features"][:1], given["mask"][:1]
    whole = net(features=features, mask=mask, **rows)
    # the window of frames 1 to 5 and a quarter around ends at frame 6
    start = net(features=features[:, :7], mask=mask[:, :7], **rows)
    torch.testing.assert_close(start.words, whole.words)
    both = captioner()
    assert not torch.allclose(
        both(features=features[:, :7], mask=mask[:, :7], **rows).words,
        both(features=features, mask=mask, **rows).words,
    )


@torch.no_grad()
def test_an_event_is_told_of_by_those_before_it_in_its_video_and_by_no_other() -> None:
    """Frames alone make states, so that all that moves from event to event was carried."""
    alone = replace(CONFIG, stack=replace(CONFIG.stack, depth=0), event_slots=1)
    given = {
        "mask": torch.ones(2, 40, dtype=torch.bool),
        "videos": torch.tensor([0, 0, 0, 1]),
        "spans": torch.tensor([[2.0, 6.0], [15.0, 20.0], [30.0, 36.0], [20.0, 30.0]]),
        "about": torch.arange(4),
        "tokens": torch.randint(len(TOKENIZER), (4, 6)),
    }
    features = torch.randn(2, 40, 4)
    changed = features.clone()
    changed[0, 15:20] += 3  # the second event of the first video
    for config, moved in ((alone, [False, True, True, False]), (CONFIG, [True, True, True, False])):
        net = captioner(config)
        one, other = (net(features=x, **given).words for x in (features, changed))
        assert [not torch.allclose(a, b) for a, b in zip(one, other, strict=True)] == moved
    still = captioner(replace(alone, event_slots=0))
    one, other = (still(features=x, **given).words for x in (features, changed))
    assert [not torch.allclose(a, b) for a, b in zip(one, other, strict=True)] == [
        False, True, False, False
    ]  # fmt: skip


@torch.no_grad()
def test_slots_hold_what_their_gates_let_in_of_the_events_before() -> None:
    torch.manual_seed(0)
    context = EventContext(5, slots=3, stretch=16.0).double().eval()
    windows = torch.randn(6, 4, 5, dtype=torch.float64)
    videos = torch.tensor([0, 0, 0, 2, 2, 2])  # the second video has no event
    found = context(windows, videos, number=4)
    torch.testing.assert_close(found[:, :4], windows)
    slots = torch.zeros(3, 5, dtype=torch.float64)
    for event, window in enumerate(windows):
        if event in (0, 3):
            slots = torch.zeros_like(slots)
        torch.testing.assert_close(found[event, 4:], slots + context.place)
        seen = window.mean(dim=0)
        gate = torch.sigmoid(context.carried.write(seen))[:, None]  # 1 - exp(-softplus(x))
        slots = (1 - gate) * slots + gate * seen


# telling


def talkative(**values: Any) -> Captioner:
    """Find an event every few frames, and say anything of it."""
    return captioner(replace(CONFIG, events=replace(EVENTS, least_score=0.0), **values))


def test_what_is_told_is_sorted_inside_the_video_and_has_words() -> None:
    features = torch.randn(40, 4)
    told = tell(talkative(), features, TOKENIZER, GenerationConfig(max_tokens=5))
    assert len(told.texts) == len(told.scores) == len(told.spans) > 3
    assert told.spans[:, 0].tolist() == sorted(told.spans[:, 0].tolist())
    assert told.spans.min() >= 0
    assert told.spans.max() <= 40
    assert all(0 <= score <= 1 for score in told.scores)
    assert told.frames is not None
    assert told.frames.shape == (40, 3)


@pytest.mark.parametrize("most", [1, 3, 40])
def test_a_sentences_score_is_of_its_words_whatever_length_counts_for(most: int) -> None:
    features = torch.randn(40, 4)
    plain, total = (
        tell(
            talkative(),
            features,
            TOKENIZER,
            GenerationConfig(max_tokens=most, length_penalty=penalty),
        )
        for penalty in (1, 0)
    )
    assert plain.texts == total.texts
    assert plain.scores == pytest.approx(total.scores)


@pytest.mark.parametrize("kind", ["greedy", "beam", "sample", "consensus"])
def test_the_same_seed_tells_the_same(kind: str) -> None:
    features = torch.randn(30, 4)
    config = GenerationConfig(kind=kind, max_tokens=6, seed=5)  # type: ignore[arg-type]
    one, other = (tell(talkative(), features, TOKENIZER, config) for _ in range(2))
    assert one.texts == other.texts
    assert one.scores == other.scores


def test_a_sentence_does_not_depend_on_those_written_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    features, config = torch.randn(40, 4), GenerationConfig(max_tokens=5)
    whole = tell(talkative(), features, TOKENIZER, config)
    monkeypatch.setattr("vidmamba.models.telling.AT_ONCE", 1)
    assert tell(talkative(), features, TOKENIZER, config).texts == whole.texts


@pytest.mark.parametrize("event_slots", [0, 1])
def test_videos_told_side_by_side_are_told_as_each_alone(event_slots: int) -> None:
    net, config = talkative(event_slots=event_slots), GenerationConfig(max_tokens=5)
    videos = [torch.randn(frames, 4) for frames in (30, 11, 50)]
    mask = torch.zeros(3, 50, dtype=torch.bool)
    padded = torch.full((3, 50, 4), float("nan"))
    for row, video in enumerate(videos):
        mask[row, : len(video)] = True
        padded[row, : len(video)] = video
    for video, told in zip(videos, tell_all(net, padded, mask, TOKENIZER, config), strict=True):
        alone = tell(net, video, TOKENIZER, config)
        assert told.texts == alone.texts
        torch.testing.assert_close(told.spans, alone.spans, rtol=1e-4, atol=1e-3)
        assert told.scores == pytest.approx(alone.scores, rel=1e-3)
        assert told.frames is not None
        assert alone.frames is not None
        torch.testing.assert_close(told.frames, alone.frames, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("event_slots", [0, 1])
def test_nothing_found_is_nothing_told(event_slots: int) -> None:
    events = replace(EVENTS, least_score=1.0)
    net = captioner(replace(CONFIG, events=events, event_slots=event_slots))
    told = tell(net, torch.randn(10, 4), TOKENIZER, GenerationConfig())
    assert told.texts == []
    assert told.scores == []
    assert told.spans.shape == (0, 2)


def test_a_clip_is_one_event() -> None:
    net = captioner(replace(CONFIG, events=replace(EVENTS, lengths=())))
    told = tell(net, torch.randn(7, 4), TOKENIZER, GenerationConfig(max_tokens=4))
    assert told.spans.tolist() == [[0.0, 7.0]]
    assert len(told.texts) == 1


def test_time_tokens_come_first_alone_and_move_the_bounds() -> None:
    tokenizer = train_tokenizer(["a man"] * 3, TokenizerConfig(words=270, time_tokens=5))
    net = captioner(
        replace(CONFIG, events=replace(EVENTS, lengths=()), context=0.0), vocabulary=len(tokenizer)
    )
    config = GenerationConfig(kind="sample", max_tokens=6)
    quarters, moved = set(), 0
    for seed in range(20):
        told = tell(net, torch.randn(8, 4), tokenizer, replace(config, seed=seed))
        quarters |= {*told.spans.flatten().tolist()}
        moved += told.spans.tolist() != [[0.0, 8.0]]
        assert told.spans[0, 0] < told.spans[0, 1]
    # shares 0, 1/4, ... of eight frames
    assert quarters <= {0.0, 2.0, 4.0, 6.0, 8.0}
    assert moved


def test_bad_configs_are_refused_with_their_values() -> None:
    with pytest.raises(ValueError, match="above 0, got"):
        EventConfig(lengths=(0.0,))
    with pytest.raises(ValueError, match="least_score must lie"):
        EventConfig(least_score=1.5)
    with pytest.raises(ValueError, match="window must be at least 1"):
        CaptionerConfig(window=0)
    with pytest.raises(ValueError, match=r"events\.lengths"):
        captioner(replace(CONFIG, events=EventConfig()))
