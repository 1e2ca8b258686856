import pytest
import torch

from vidmamba.models.augment import AugmentConfig
from vidmamba.models.classifier import Classifier, ClassifierConfig, stretch_of
from vidmamba.models.heads import AttentionPool, MeanPool
from vidmamba.nn.stack import StackConfig


def _net() -> Classifier:
    config = ClassifierConfig(stack=StackConfig(width=16, depth=1), attention_width=8)
    return Classifier(config, num_features=5, num_classes=3).eval()


def test_a_video_is_named_alike_alone_and_beside_a_longer_one() -> None:
    net = _net()
    short, long = torch.randn(4, 5), torch.randn(11, 5)
    features = torch.full((2, 11, 5), 1e4)
    features[0, :4], features[1] = short, long
    mask = torch.arange(11) < torch.tensor([[4], [11]])
    alone = net(short[None], torch.ones(1, 4, dtype=torch.bool))
    torch.testing.assert_close(net(features, mask)[:1], alone, rtol=1e-4, atol=1e-5)


def test_pooling_is_the_gated_attention_of_ilse_et_al() -> None:
    pool = AttentionPool(6, 4)
    states = torch.randn(1, 5, 6)
    scores = []
    for state in states[0].detach():
        hidden = torch.tanh(pool.value(state)) * torch.sigmoid(pool.gate(state))
        scores.append((pool.score.weight[0] * hidden).sum() + pool.score.bias[0])
    weights = torch.stack(scores).softmax(0)
    expected = (weights[:, None] * states[0]).sum(0)
    mask = torch.ones(1, 5, dtype=torch.bool)
    torch.testing.assert_close(pool(states, mask)[0], expected, rtol=1e-5, atol=1e-6)


def test_a_padded_frame_has_no_weight() -> None:
    mask = torch.tensor([[True, False, True]])
    weights = AttentionPool(6, 4).weights(torch.randn(1, 3, 6), mask)
    assert weights[0, 1] == 0
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0))


def test_the_mean_pool_is_the_mean_of_the_real_frames() -> None:
    states = torch.randn(2, 5, 6)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    states[1, 2:] = 1e4
    expected = torch.stack([states[0].mean(0), (states[1, 0] + states[1, 1]) / 2])
    torch.testing.assert_close(MeanPool()(states, mask), expected)


def test_a_crop_is_one_stretch_of_the_real_frames_and_no_shorter_than_asked() -> None:
    frames = torch.tensor([20, 7, 1]).repeat(200)
    mask = torch.arange(20) < frames[:, None]
    kept = stretch_of(mask, 0.5)
    assert not (kept & ~mask).any()
    lengths = kept.sum(dim=1)
    assert (lengths >= (0.5 * frames).ceil().clamp(min=1)).all()
    assert {*lengths[::3].tolist()} == {*range(10, 21)}  # every length is drawn
    begins = kept.int().diff(dim=1, prepend=torch.zeros(600, 1, dtype=torch.int)).clamp(min=0)
    assert (begins.sum(dim=1) == 1).all()
    shortest = kept[::3][lengths[::3] <= 11]
    firsts = shortest.int().argmax(dim=1)
    assert int(firsts.min()) == 0
    assert int((firsts + shortest.sum(dim=1)).max()) == 20  # from the first frame to the last


def test_only_training_crops() -> None:
    torch.manual_seed(0)
    config = ClassifierConfig(
        stack=StackConfig(width=16, depth=1, dropout=0.0),
        augment=AugmentConfig(channel_dropout=0.0),
        crop=0.3,
        pool="mean",
    )
    net = Classifier(config, num_features=5, num_classes=3)
    features, mask = torch.randn(1, 40, 5), torch.ones(1, 40, dtype=torch.bool)
    with torch.no_grad():
        assert not torch.equal(net(features, mask), net(features, mask))
        net.eval()
        torch.testing.assert_close(net(features, mask), net(features, mask))


@pytest.mark.parametrize("wrong", [{"crop": 0.0}, {"crop": 1.5}, {"dropout": 1.0}])
def test_a_share_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="0 < crop <= 1"):
        ClassifierConfig(**wrong)  # type: ignore[arg-type]  # one of its floats
