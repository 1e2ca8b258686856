import torch

from vidmamba.nn.coarse import Coarse
from vidmamba.nn.packing import hold_last, pack, unpack

OFFSETS = torch.tensor([0, 3, 3, 8], dtype=torch.int32)


def _count(frames: int) -> torch.Tensor:
    return torch.arange(1.0, frames + 1).view(1, frames, 1)


def _list(x: torch.Tensor) -> list[float]:
    return x.flatten().tolist()


def test_looking_ahead_stops_at_the_last_frame_of_a_video() -> None:
    x = _count(8)
    assert _list(hold_last(x, 2, OFFSETS)) == [3, 3, 3, 6, 7, 8, 8, 8]
    assert _list(hold_last(x, 2, None)) == [3, 4, 5, 6, 7, 8, 8, 8]
    assert _list(hold_last(x, 0, OFFSETS)) == _list(x)


def test_unpacking_undoes_packing() -> None:
    mask = torch.tensor([[True, True, False], [True, True, True]])
    x = torch.randn(2, 3, 4)
    packed, offsets = pack(x, mask)
    # a video, its padding, a video, no padding
    assert offsets.tolist() == [0, 2, 3, 6, 6]
    torch.testing.assert_close(unpack(packed, mask), x * mask[..., None])


class _Identity(torch.nn.Module):
    def forward(self, x: torch.Tensor, *, offsets: torch.Tensor | None = None) -> torch.Tensor:
        self.seen = x, offsets
        return x


def test_a_coarse_mixer_sees_the_means_of_each_videos_groups() -> None:
    mixer = _Identity()
    out = Coarse(mixer, 2)(_count(8), offsets=OFFSETS)
    means, offsets = mixer.seen
    # behind the videos, the groups that other lengths would have filled
    assert _list(means) == [1.5, 3, 4.5, 6.5, 8, 0, 0]
    assert offsets is not None
    assert offsets.tolist() == [0, 2, 2, 5, 7]
    assert _list(out) == [1.5, 1.5, 3, 4.5, 4.5, 6.5, 6.5, 8]
    assert _list(Coarse(mixer, 3)(_count(8))) == [2, 2, 2, 5, 5, 5, 7.5, 7.5]
