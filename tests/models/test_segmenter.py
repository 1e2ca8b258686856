import pytest
import torch

from vidmamba.models.segmenter import Segmenter, SegmenterConfig, Standardize
from vidmamba.nn.stack import StackConfig


def small_segmenter() -> Segmenter:
    config = SegmenterConfig(stack=StackConfig(width=16, depth=2))
    return Segmenter(config, num_features=6, num_classes=3).eval()


def pad(videos: list[torch.Tensor], frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    features = torch.full((len(videos), frames, 6), 1e4)  # loud padding: a leak would be seen
    mask = torch.zeros(len(videos), frames, dtype=torch.bool)
    for row, video in enumerate(videos):
        features[row, : len(video)] = video
        mask[row, : len(video)] = True
    return features, mask


def test_a_video_gets_the_same_logits_alone_and_in_any_batch() -> None:
    net = small_segmenter()
    videos = [torch.randn(frames, 6) for frames in (11, 1, 7)]
    batched = net(*pad(videos, frames=13))
    for row, video in enumerate(videos):
        alone = net(*pad([video], frames=len(video)))[0]
        torch.testing.assert_close(batched[row, : len(video)], alone, rtol=1e-5, atol=1e-5)


def test_padding_gets_zero_logits_and_no_gradient() -> None:
    net = small_segmenter()
    features, mask = pad([torch.randn(4, 6), torch.randn(9, 6)], frames=9)
    features.requires_grad_()
    logits = net(features, mask)
    assert torch.equal(logits[0, 4:], torch.zeros(5, 3))
    logits.square().sum().backward()
    assert features.grad is not None
    assert torch.equal(features.grad[0, 4:], torch.zeros(5, 6))


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


def test_dropped_feature_channels_are_gone_for_all_of_a_video() -> None:
    net = Segmenter(SegmenterConfig(feature_dropout=0.5), num_features=64, num_classes=2).train()
    dropped = net._augment(torch.ones(3, 10, 64)) == 0
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert 0 < dropped.float().mean() < 1


def test_a_dropout_of_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="feature_dropout"):
        SegmenterConfig(feature_dropout=1.0)
