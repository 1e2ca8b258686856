import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vidmamba.nn.attention import LEAST_BLOCK, AttentionConfig, WindowAttention


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
@pytest.mark.parametrize("window", [1, 4, 80])
@pytest.mark.parametrize(
    "frames", [1, 3, LEAST_BLOCK - 1, LEAST_BLOCK, LEAST_BLOCK + 1, 2 * LEAST_BLOCK + 40]
)
def test_it_is_softmax_attention_in_a_band(frames: int, window: int, causal: bool) -> None:
    layer = WindowAttention(8, AttentionConfig(heads=2), window=window, causal=causal)
    x = torch.randn(2, frames, 8)
    for row in range(2):
        expected = _exact(layer, x[row : row + 1])
        torch.testing.assert_close(layer(x)[row].double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("window", [5, 90])
def test_packed_videos_do_not_see_each_other(window: int) -> None:
    layer = WindowAttention(8, AttentionConfig(heads=2), window=window, causal=False)
    videos = [torch.randn(1, frames, 8) for frames in (6, 1, 110, 70)]
    offsets = torch.tensor([0, 6, 7, 117, 187], dtype=torch.int32)
    packed = layer(torch.cat(videos, dim=1), offsets=offsets)
    alone = torch.cat([layer(video) for video in videos], dim=1)
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-6)


def test_a_video_late_in_a_long_row_gets_what_it_gets_alone() -> None:
    layer = WindowAttention(8, AttentionConfig(heads=1), window=16, causal=False).double()
    video = torch.randn(1, 40, 8, dtype=torch.float64)
    late = F.pad(video, (0, 0, 30_000, 0))
    offsets = torch.tensor([0, 30_000, 30_040], dtype=torch.int32)
    torch.testing.assert_close(layer(late, offsets=offsets)[:, 30_000:], layer(video))


def test_gradients_are_those_of_the_definition() -> None:
    layer = WindowAttention(4, AttentionConfig(heads=1), window=7, causal=False).double()
    x = torch.randn(1, LEAST_BLOCK + 9, 4, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(LEAST_BLOCK + 9, 4, dtype=torch.float64)
    (grad,) = torch.autograd.grad((layer(x)[0] * weights).sum(), x)
    (expected,) = torch.autograd.grad((_exact(layer, x) * weights).sum(), x)
    torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize("causal", [True, False])
def test_the_weights_are_never_written_to_memory(causal: bool) -> None:
    layer = WindowAttention(64, AttentionConfig(), window=16, causal=causal)
    offsets = torch.tensor([0, 100, 300], dtype=torch.int32)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # any other kernel is now an error
        for videos, bounds in ((1, offsets), (1, None), (2, None)):
            layer(torch.randn(videos, 300, 64), offsets=bounds).sum().backward()


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
