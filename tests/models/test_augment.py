from typing import Any

import pytest
import torch

from vidmamba.models.augment import Augment, AugmentConfig


def _changed(x: torch.Tensor, mask: torch.Tensor | None = None, **options: Any) -> torch.Tensor:
    config = AugmentConfig(**{"channel_dropout": 0.0} | options)
    real = torch.ones(x.shape[:2], dtype=torch.bool) if mask is None else mask
    changed: torch.Tensor = Augment(config).train()(x, real)
    return changed


EVERY = [
    {"channel_dropout": 0.5},
    {"noise": 1.0},
    {"slow_noise": 1.0},
    {"offset": 1.0},
    {"borrow": 1.0},
    {"swap": 0.5, "swap_frames": 3},
]


@pytest.mark.parametrize("options", EVERY, ids=lambda options: next(iter(options)))
def test_it_changes_training_alone_and_the_same_way_for_a_seed(options: dict[str, float]) -> None:
    x, mask = torch.randn(3, 40, 5), torch.ones(3, 40, dtype=torch.bool)
    net = Augment(AugmentConfig(**{"channel_dropout": 0.0} | options))  # type: ignore[arg-type]
    assert torch.equal(net.eval()(x, mask), x)
    made = []
    for _ in range(2):
        torch.manual_seed(4)
        made.append(net.train()(x, mask))
    assert torch.equal(*made)
    assert not torch.equal(made[0], x)


@pytest.mark.parametrize("options", EVERY, ids=lambda options: next(iter(options)))
def test_what_padding_holds_reaches_no_real_frame(options: dict[str, float]) -> None:
    x = torch.randn(2, 30, 4)
    mask = torch.ones(2, 30, dtype=torch.bool)
    mask[0, 7:] = False
    made = []
    for padding in (0.0, 1e6):
        torch.manual_seed(1)
        made.append(_changed(x.masked_fill(~mask[..., None], padding), mask, **options)[mask])
    torch.testing.assert_close(*made)


def test_dropped_channels_are_gone_for_all_of_a_video() -> None:
    dropped = _changed(torch.ones(3, 10, 64), channel_dropout=0.5) == 0
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert 0.3 < dropped.float().mean() < 0.7


def test_an_offset_is_one_number_a_channel_and_video() -> None:
    added = _changed(torch.zeros(2, 50, 2000), offset=0.7)
    assert torch.equal(added, added[:, :1].expand_as(added))
    assert float(added[:, 0].std()) == pytest.approx(0.7, abs=0.05)


def test_slow_noise_is_straight_between_its_knots() -> None:
    added = _changed(torch.zeros(1, 61, 2000), slow_noise=2.0, knot_frames=20)
    knots = added[0, [0, 20, 40, 60]]
    assert float(knots.std()) == pytest.approx(2.0, abs=0.1)
    torch.testing.assert_close(added[0, 10], (added[0, 0] + added[0, 20]) / 2)


def test_borrowed_features_are_a_share_of_another_video_less_its_mean() -> None:
    one = torch.zeros(1, 9, 1)
    other = torch.arange(9.0).view(1, 9, 1)
    added = _changed(torch.cat([one, other]), borrow=1.0)[0, :, 0]
    centred = torch.arange(9.0) - 4
    rolled = torch.stack([centred.roll(-start) for start in range(9)])
    share = added.abs().max() / 4
    assert 0 < share <= 1
    distances = (added - share * rolled).abs().amax(dim=1)
    assert float(distances.min()) < 1e-5


def test_swapped_spans_are_whole_and_come_from_the_other_video() -> None:
    x = torch.cat([torch.zeros(1, 200, 1), torch.ones(1, 200, 1)])
    swapped = _changed(x, swap=0.4, swap_frames=10)
    runs = torch.unique_consecutive(swapped[0, :, 0], return_counts=True)[1]
    assert all(count % 10 == 0 for count in runs[1:-1].tolist())
    assert 0.1 < float(swapped[0].mean()) < 0.7
    assert 0.3 < float(swapped[1].mean()) < 0.9


@pytest.mark.parametrize("name", ["channel_dropout", "swap"])
def test_a_share_of_everything_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        AugmentConfig(**{name: 1.0})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="noise"):
        AugmentConfig(noise=-1.0)
