import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

from vidmamba.nn.rivals import DilatedConvolution, Recurrent


@pytest.mark.parametrize("dilation", [1, 2, 8])
def test_it_is_the_dilated_convolution_of_pytorch(dilation: int) -> None:
    layer = DilatedConvolution(6, dilation=dilation, causal=False)
    conv = nn.Conv1d(6, 6, 3, padding=dilation, dilation=dilation)
    with torch.no_grad():
        conv.weight.copy_(layer.taps.weight.view(6, 3, 6).transpose(1, 2))
        assert layer.taps.bias is not None
        assert conv.bias is not None
        conv.bias.copy_(layer.taps.bias)
    x = torch.randn(2, 11, 6)
    expected = layer.out(conv(x.mT).relu().mT)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_a_causal_convolution_reaches_two_dilations_back() -> None:
    layer = DilatedConvolution(4, dilation=3, causal=True)
    x = torch.randn(1, 20, 4, requires_grad=True)
    (grad,) = torch.autograd.grad(layer(x)[0, 10].sum(), x)
    assert grad[0].abs().sum(-1).nonzero().flatten().tolist() == [4, 7, 10]


@pytest.mark.parametrize("causal", [True, False])
def test_packed_videos_run_through_the_lstm_one_by_one(causal: bool) -> None:
    layer = Recurrent(6, causal=causal)
    videos = [torch.randn(1, frames, 6) for frames in (5, 1, 9)]
    offsets = torch.tensor([0, 5, 6, 15], dtype=torch.int32)
    packed = layer(torch.cat(videos, dim=1), offsets=offsets)
    alone = torch.cat([layer(video) for video in videos], dim=1)
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-6)


def test_its_two_directions_are_the_bidirectional_lstm_of_pytorch() -> None:
    layer = Recurrent(6, causal=False)
    lstm = nn.LSTM(6, 3, batch_first=True, bidirectional=True)
    along, against = (dict(one.named_parameters()) for one in layer.directions)
    with torch.no_grad():
        for name, value in along.items():
            lstm.get_parameter(name).copy_(value)
            lstm.get_parameter(f"{name}_reverse").copy_(against[name])
    videos = [torch.randn(frames, 6) for frames in (4, 7, 1)]
    states, _ = lstm(pack_sequence(videos, enforce_sorted=False))
    expected = layer.out(torch.cat(unpack_sequence(states))).unsqueeze(0)
    offsets = torch.tensor([0, 4, 11, 12], dtype=torch.int32)
    found = layer(torch.cat(videos).unsqueeze(0), offsets=offsets)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_two_directions_do_not_fit_an_odd_width() -> None:
    with pytest.raises(ValueError, match="7"):
        Recurrent(7, causal=False)
