import torch

from vidmamba.models.classifier import Classifier, ClassifierConfig
from vidmamba.models.heads import AttentionPool
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
