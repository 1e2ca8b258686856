"""A coarser rate: what a group of frames becomes."""

import pytest
import torch
from torch import Tensor, nn

from vidmamba.nn.coarse import Coarse

FACTOR = 300


class Same(nn.Module):
    """A mixer that lets all through."""

    def forward(self, x: Tensor, *, offsets: Tensor | None = None) -> Tensor:
        return x


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bounds", [None, [0, 1, 1, 700, 1000]], ids=["alone", "packed"])
def test_frames_become_the_mean_of_their_group_rounded_once(
    bounds: list[int] | None, dtype: torch.dtype, device: torch.device
) -> None:
    x = torch.rand(1, 1000, 2, device=device).to(dtype)
    offsets = None if bounds is None else torch.tensor(bounds, dtype=torch.int32, device=device)
    actual = Coarse(Same(), FACTOR)(x, offsets=offsets)
    videos = x.double().split([1000] if bounds is None else [1, 0, 699, 300], dim=1)
    groups = [group for video in videos for group in video.split(FACTOR, dim=1)]
    expected = torch.cat([group.mean(1, keepdim=True).expand_as(group) for group in groups], dim=1)
    # the sum and the quotient are rounded once each
    allowed = 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(actual.double(), expected, rtol=allowed, atol=0)
