import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vidmamba.nn.attention import AttentionConfig, WindowAttention


def _exact(layer: WindowAttention, x: Tensor) -> Tensor:
    """The definition, one query and one head at a time, in float64."""
    _, frames, width = x.shape
    size = width // layer.heads
    weight = layer.queries_keys_values.weight.double()
    q, k, v = (x[0].double() @ weight.t()).view(frames, 3, layer.heads, size).unbind(1)
    angle = torch.outer(
        torch.arange(frames, dtype=torch.float64),
        10_000 ** (-torch.arange(size // 2, dtype=torch.float64) / (size // 2)),
    )
    turn = torch.polar(torch.ones_like(angle), angle)[:, None]
    q, k = (torch.complex(*y.chunk(2, dim=-1)) * turn for y in (q, k))
    rows = []
    for t in range(frames):
        first = max(t - layer.window, 0)
        last = t if layer.causal else min(t + layer.window, frames - 1)
        seen = slice(first, last + 1)
        scores = (q[t] * k[seen].conj()).real.sum(-1) / size**0.5
        rows.append((scores.softmax(0)[..., None] * v[seen]).sum(0).flatten())
    return torch.stack(rows) @ layer.out.weight.double().t()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("frames", [1, 3, 4, 5, 8, 21])
def test_it_is_softmax_attention_in_a_band(frames: int, causal: bool) -> None:
    layer = WindowAttention(8, AttentionConfig(heads=2), window=4, causal=causal)
    x = torch.randn(1, frames, 8)
    torch.testing.assert_close(layer(x)[0].double(), _exact(layer, x), rtol=1e-4, atol=1e-6)


def test_a_window_as_long_as_the_video_is_full_attention_without_rotation_at_one_frame() -> None:
    layer = WindowAttention(8, AttentionConfig(heads=2), window=100, causal=False)
    x = torch.randn(2, 7, 8)
    torch.testing.assert_close(layer(x)[1].double(), _exact(layer, x[1:]), rtol=1e-4, atol=1e-6)


def test_packed_videos_do_not_see_each_other() -> None:
    layer = WindowAttention(8, AttentionConfig(heads=2), window=5, causal=False)
    videos = [torch.randn(1, frames, 8) for frames in (6, 1, 11)]
    offsets = torch.tensor([0, 6, 7, 18], dtype=torch.int32)
    packed = layer(torch.cat(videos, dim=1), offsets=offsets)
    alone = torch.cat([layer(video) for video in videos], dim=1)
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-6)


def test_only_distances_in_time_count() -> None:
    layer = WindowAttention(8, AttentionConfig(heads=2), window=3, causal=False)
    x = torch.randn(1, 20, 8)
    later = F.pad(x, (0, 0, 9, 0))
    torch.testing.assert_close(layer(later)[:, 12:-3], layer(x)[:, 3:-3], rtol=1e-4, atol=1e-5)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="10"):
        WindowAttention(10, AttentionConfig(heads=4), window=3, causal=False)
    with pytest.raises(ValueError, match="window"):
        AttentionConfig(window=0)
