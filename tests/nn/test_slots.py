"""Slots against their definition, one step after the other; what stretching does to them."""

import pytest
import torch

from vidmamba.nn.slots import Slots


def by_definition(slots: Slots, x: torch.Tensor, times: int = 1) -> list[torch.Tensor]:
    """What each step of one video finds, when each is written so many times."""
    state, found = x.new_zeros(slots.slots, x.shape[1]), []
    for step in x:
        found.append(state)
        gate = torch.sigmoid(slots.write(step))[:, None]  # 1 - exp(-softplus(x))
        for _ in range(times):
            state = (1 - gate) * state + gate * step
    return found


@torch.no_grad()
def test_steps_find_what_gates_let_in_of_those_before_in_their_video() -> None:
    torch.manual_seed(0)
    slots = Slots(5, 3, stretch=16.0).double().eval()
    x = torch.randn(9, 5, dtype=torch.float64)
    bounds = [0, 4, 4, 9]  # the second video is empty
    found = slots(x[None], offsets=torch.tensor(bounds))
    expected = [*by_definition(slots, x[:4]), *by_definition(slots, x[4:])]
    torch.testing.assert_close(found, torch.stack(expected))


@torch.no_grad()
def test_a_stretched_step_counts_as_so_many_equal_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    slots = Slots(4, 2, stretch=8.0).double().train()
    x = torch.randn(6, 4, dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.full(size, 2 / 3))  # 8 ** 2/3
    found = slots(x[None], offsets=torch.tensor([0, 6]))
    torch.testing.assert_close(
        found, torch.stack(by_definition(slots, x, times=4)), rtol=1e-6, atol=1e-6
    )


def test_a_gate_that_is_shut_for_good_gives_no_nan() -> None:
    slots = Slots(4, 2)
    with torch.no_grad():
        slots.write.bias.fill_(-1e4)
    x = torch.randn(1, 6, 4, requires_grad=True)
    found = slots(x, offsets=torch.tensor([0, 6]))
    found.sum().backward()
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())
    assert found.abs().max() < 1e-4
