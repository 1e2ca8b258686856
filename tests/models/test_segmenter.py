from typing import Any

import pytest
import torch

from vidmamba.models.augment import AugmentConfig
from vidmamba.models.encoder import FAINT, Standardize, standardize_videos
from vidmamba.models.segmenter import FrameScores, Segmenter, SegmenterConfig
from vidmamba.nn.attention import AttentionConfig
from vidmamba.nn.stack import StackConfig


def small_segmenter(**options: Any) -> Segmenter:
    config = SegmenterConfig(**{"stack": StackConfig(width=16, depth=2)} | options)
    return Segmenter(config, num_features=6, num_classes=3).eval()


def pad(videos: list[torch.Tensor], frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    features = torch.full((len(videos), frames, 6), 1e4)  # loud padding: a leak would be seen
    mask = torch.zeros(len(videos), frames, dtype=torch.bool)
    for row, video in enumerate(videos):
        features[row, : len(video)] = video
        mask[row, : len(video)] = True
    return features, mask


ATTENTION = AttentionConfig(window=3, heads=2, growth=2)
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "coarse": {"stack": StackConfig(width=16, depth=3, strides=(1, 2, 5))},
    "hybrid": {"stack": StackConfig(width=16, depth=3, pattern="MAF", attention=ATTENTION)},
    "refined": {"refinements": 2, "refinement": StackConfig(width=8, depth=2, pattern="CL")},
    "seeing": {
        "refinements": 2,
        "refinement": StackConfig(width=8, depth=2, pattern="CL"),
        "see_states": True,
    },
    "boundaries": {"boundaries": True},
    "standardized": {"standardize_videos": True},
    "causal": {
        "stack": StackConfig(width=16, depth=2, direction="causal"),
        "lookahead": 2,
        "refinements": 1,
        "refinement": StackConfig(width=8, depth=1, pattern="C", direction="causal"),
    },
}
every_variant = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)


@every_variant
def test_a_video_gets_the_same_scores_alone_and_in_any_batch(options: dict[str, Any]) -> None:
    net = small_segmenter(**options)
    videos = [torch.randn(frames, 6) for frames in (11, 1, 7)]
    batched = net(*pad(videos, frames=13))
    backwards = net(*pad(videos[::-1], frames=11))
    for row, video in enumerate(videos):
        alone = _scores(net(*pad([video], frames=len(video))), 0, len(video))
        for batch, place in ((batched, row), (backwards, -1 - row)):
            beside = _scores(batch, place, len(video))
            torch.testing.assert_close(beside, alone, rtol=1e-5, atol=1e-5)


@every_variant
def test_gradients_of_a_batch_are_the_sum_of_those_of_its_videos(options: dict[str, Any]) -> None:
    net = small_segmenter(**options)
    videos = [torch.randn(frames, 6) for frames in (9, 4)]
    weights = torch.randn(9, 3)

    def gradients(*batch: torch.Tensor) -> list[torch.Tensor]:
        features, mask = pad([*batch], frames=max(len(video) for video in batch))
        scores = net(features, mask)
        found = [*scores.stages, scores.logits]
        total = torch.stack([(x.square() * weights[: x.shape[1]]).sum() for x in found]).sum()
        if scores.boundaries is not None:
            total = total + scores.boundaries.square().sum()
        return [*torch.autograd.grad(total, [*net.parameters()])]

    apart = [one + other for one, other in zip(*(gradients(v) for v in videos), strict=True)]
    torch.testing.assert_close(gradients(*videos), apart, rtol=1e-4, atol=1e-5)
    assert all(gradient.abs().sum() > 0 for gradient in apart)


def _scores(scores: FrameScores, row: int, frames: int) -> torch.Tensor:
    """All that is said of one video's frames, side by side."""
    rows = [*scores.stages, scores.logits]
    if scores.boundaries is not None:
        rows.append(scores.boundaries.unsqueeze(-1))
    return torch.cat([x[row, :frames] for x in rows], dim=-1)


def test_padding_gets_zero_logits_and_no_gradient() -> None:
    net = small_segmenter()
    features, mask = pad([torch.randn(4, 6), torch.randn(9, 6)], frames=9)
    features.requires_grad_()
    logits = net(features, mask).logits
    assert torch.equal(logits[0, 4:], torch.zeros(5, 3))
    logits.square().sum().backward()
    assert features.grad is not None
    assert torch.equal(features.grad[0, 4:], torch.zeros(5, 6))


def test_padding_of_any_content_changes_no_gradient_in_training() -> None:
    augment = AugmentConfig(noise=0.5, slow_noise=0.5, offset=0.5, borrow=1.0, swap=0.3)
    net = small_segmenter(augment=augment).train()
    features, mask = pad([torch.randn(4, 6), torch.randn(9, 6)], frames=9)
    made = []
    for padding in (0.0, float("nan")):
        torch.manual_seed(5)
        filled = features.masked_fill(~mask.unsqueeze(-1), padding)
        loss = net(filled, mask).logits.square().sum()
        made.append(torch.autograd.grad(loss, [*net.parameters()]))
    torch.testing.assert_close(*made, rtol=0, atol=0)


def test_standardized_training_frames_have_mean_0_and_deviation_1() -> None:
    frames = torch.randn(500, 4) * torch.tensor([1.0, 10.0, 0.1, 1.0]) + torch.tensor(7.0)
    standardize = Standardize(4)
    standardize.set_statistics(frames.mean(dim=0), frames.std(dim=0))
    x = standardize(frames.unsqueeze(0))[0]
    torch.testing.assert_close(x.mean(dim=0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.std(dim=0), torch.ones(4), atol=1e-4, rtol=0)


def test_a_channel_that_never_moves_in_training_stays_finite_on_new_videos() -> None:
    standardize = Standardize(2)
    standardize.set_statistics(torch.zeros(2), torch.tensor([1.0, 0.0]))
    assert standardize(torch.ones(1, 1, 2)).abs().max() < 1e4


def test_only_a_boundary_head_tells_of_boundaries() -> None:
    videos = pad([torch.randn(4, 6), torch.randn(9, 6)], frames=9)
    assert small_segmenter()(*videos).boundaries is None
    boundaries = small_segmenter(boundaries=True)(*videos).boundaries
    assert boundaries is not None
    assert torch.equal(boundaries[0, 4:], torch.zeros(5))


def test_each_refinement_reads_the_probabilities_of_the_stage_before() -> None:
    net = small_segmenter(refinements=2, refinement=StackConfig(width=8, depth=1))
    features, mask = pad([torch.randn(9, 6)], frames=9)
    scores = net(features, mask)
    assert len(scores.stages) == 2
    offsets = torch.tensor([0, 9], dtype=torch.int32)
    unseen = torch.randn(1, 9, 16)
    # no change: a softmax
    again = net.refinements[1](scores.stages[1] + 3.0, unseen, offsets=offsets)
    torch.testing.assert_close(again, scores.logits, rtol=1e-4, atol=1e-5)
    assert torch.autograd.grad(scores.logits.sum(), net.head.classify.weight)[0].abs().sum() > 0


@pytest.mark.parametrize("see_states", [False, True])
def test_states_tell_a_refinement_what_the_first_stage_does_not_say(see_states: bool) -> None:
    net = small_segmenter(
        refinements=2, refinement=StackConfig(width=8, depth=1), see_states=see_states
    )
    torch.nn.init.zeros_(net.head.classify.weight)  # it says the same of all frames
    one, other = (net(*pad([torch.randn(9, 6)], frames=9)) for _ in range(2))
    assert torch.equal(one.stages[0], other.stages[0])
    for before, after in ((one.stages[1], other.stages[1]), (one.logits, other.logits)):
        assert torch.equal(before, after) != see_states
    with pytest.raises(ValueError, match="see_states"):
        SegmenterConfig(see_states=True)


@pytest.mark.parametrize(("refinements", "see_states"), [(0, False), (2, False), (2, True)])
@pytest.mark.parametrize("lookahead", [0, 1, 3])
def test_a_frame_is_named_by_as_many_frames_to_come_as_the_lookahead(
    lookahead: int, refinements: int, see_states: bool
) -> None:
    net = small_segmenter(
        stack=StackConfig(width=16, depth=2, direction="causal"),
        lookahead=lookahead,
        refinements=refinements,
        refinement=StackConfig(width=8, depth=1, direction="causal"),
        see_states=see_states,
    )
    features, mask = pad([torch.randn(12, 6), torch.randn(5, 6)], frames=12)
    before = net(features, mask).logits
    features[0, 8:] += 2
    changed = (net(features, mask).logits != before).any(dim=-1)
    assert changed[0].nonzero().flatten().tolist() == [*range(8 - lookahead, 12)]
    assert not changed[1].any()


def test_what_would_let_a_causal_model_see_the_whole_video_is_refused() -> None:
    causal = StackConfig(direction="causal")
    with pytest.raises(ValueError, match="lookahead of 2"):
        SegmenterConfig(lookahead=2)
    with pytest.raises(ValueError, match="causal and bidirectional"):
        SegmenterConfig(stack=causal, refinements=1)
    with pytest.raises(ValueError, match="standardize_videos"):
        SegmenterConfig(stack=causal, standardize_videos=True)
    SegmenterConfig(stack=causal)  # without a refinement, nothing is said of its direction
    with pytest.raises(ValueError, match="refinements"):
        SegmenterConfig(refinements=-1)


def test_a_state_seen_later_names_the_frame_and_the_last_one_names_the_rest() -> None:
    """The states that wait are those of the same model without waiting, two frames on."""
    stack = StackConfig(width=16, depth=1, direction="causal")
    waits, now = small_segmenter(stack=stack, lookahead=2), small_segmenter(stack=stack)
    now.load_state_dict(waits.state_dict())
    features, mask = pad([torch.randn(5, 6)], frames=5)
    expected = now(features, mask).logits[:, [2, 3, 4, 4, 4]]
    torch.testing.assert_close(waits(features, mask).logits, expected)


def test_what_is_added_to_all_of_a_video_goes_where_videos_are_standardized() -> None:
    net = small_segmenter(standardize_videos=True)
    video = 5 * torch.randn(40, 6)
    room = torch.randn(6)
    plain, moved = (net(*pad([x], frames=40)).logits for x in (video, video + room))
    torch.testing.assert_close(moved, plain, rtol=1e-3, atol=1e-4)
    louder = net(*pad([3 * video], frames=40)).logits
    torch.testing.assert_close(louder, plain, rtol=0.2, atol=0.05)  # but for what never moves
    assert not torch.allclose(small_segmenter()(*pad([video + room], frames=40)).logits, plain)


def test_videos_are_standardized_as_numpy_does_it() -> None:
    videos = [torch.randn(7, 6) + 3, 4 * torch.randn(12, 6)]
    features, mask = pad(videos, frames=15)
    made = standardize_videos(features.masked_fill(~mask.unsqueeze(-1), 0.0), mask)
    for row, video in zip(made, videos, strict=True):
        x = video.double().numpy()
        expected = (x - x.mean(axis=0)) / (x.std(axis=0) + FAINT)
        torch.testing.assert_close(
            row[: len(video)].double(), torch.from_numpy(expected), rtol=1e-5, atol=1e-5
        )
        assert not row[len(video) :].any()
