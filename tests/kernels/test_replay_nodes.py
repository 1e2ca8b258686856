"""A node's passes done again must give what their lines would, and autograd must not notice.

Matrix products are their launches here; `test_replay` has kernels.
"""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from vidmamba.kernels import operators
from vidmamba.kernels.replay import calls, nodes

HALF = 2


class Linears(torch.autograd.Function):
    """x w^T and x v^T, v being w's first rows; by products of all the forms that mixers have.

    What it keeps it also makes use of: its gradients are none, but known.
    """

    results = 2
    runs = 0

    @staticmethod
    def forward(x: Tensor, w: Tensor, _: bool) -> tuple[Tensor, ...]:
        Linears.runs += 1
        rows = x.flatten(0, 1)
        halves = torch.bmm(rows.expand(2, -1, -1), w.view(2, HALF, -1).mT)
        whole = F.linear(x, w)
        return F.linear(x, w), F.linear(x, w[:HALF]), halves[1], whole[..., HALF:], whole

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, w, ctx.flag = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, w, *output[2:])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, first: Tensor | None, second: Tensor | None) -> tuple[Any, ...]:
        """What comes times w and v, and 2 x u^T u, u being w's last rows; and 2 w x^T x."""
        x, w, half, end, whole = ctx.saved_tensors
        grad_x = half @ w[HALF:]
        grad_x.addmm_(end.flatten(0, 1), w[HALF:])
        for grad, weight in ((first, w), (second, w[:HALF])):
            if grad is not None:
                grad_x.addmm_(grad.flatten(0, 1), weight)
        grad_w = torch.empty_like(w)
        grad_w.addmm_(whole.flatten(0, 1).t(), x.flatten(0, 1), beta=0, alpha=2)
        return grad_x.view_as(x), grad_w, None


def drawn(*shape: int) -> Tensor:
    """Draw a tensor that lies as a GPU's do, at a multiple of 256 bytes."""
    numbers = torch.randn(math.prod(shape) + 64)
    first = -numbers.data_ptr() % 256 // 4
    return numbers[first : first + math.prod(shape)].view(shape)


def inputs() -> tuple[Tensor, Tensor]:
    return drawn(2, 5, 3).requires_grad_(), drawn(2 * HALF, 3).requires_grad_()


def check(x: Tensor, w: Tensor, grads: tuple[Tensor, ...], *sent: Tensor) -> None:
    """See that the gradients are right, for what was sent into the first output, or into both."""
    v, u = w[:HALF], w[HALF:]
    expected = 2 * x @ u.T @ u + sent[0] @ w
    if len(sent) == 2:
        expected = expected + sent[1] @ v
    torch.testing.assert_close(grads[0], expected)
    torch.testing.assert_close(grads[1], 2 * w @ x.flatten(0, 1).T @ x.flatten(0, 1))


def go_through(*, both: bool = True, gaps: bool = False) -> None:
    """Forward and backward, with numbers of their own."""
    x, w = inputs()
    outputs = operators.apply(Linears, x, w, True)
    torch.testing.assert_close(outputs[0], F.linear(x, w))
    torch.testing.assert_close(outputs[1], F.linear(x, w[:HALF]))
    sent: tuple[Tensor, ...] = (drawn(2, 5, 2 * HALF), drawn(2, 5, HALF))
    if gaps:
        sent = (sent[0].mT.contiguous().mT, sent[1])
    sent = sent if both else sent[:1]
    check(x, w, torch.autograd.grad(outputs[: len(sent)], (x, w), sent), *sent)


@pytest.fixture(autouse=True)
def _replays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._C, "_cuda_getDevice", lambda: None, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda _: 7, raising=False)
    monkeypatch.setattr(calls, "CALLS", 2)
    monkeypatch.setattr(nodes, "on_gpu", lambda _: True)
    monkeypatch.setattr(Linears, "runs", 0)
    operators._for_eager_mode.cache_clear()


LOOKED_AT = 3
"""Passes until one has been watched."""


def test_passes_done_again_give_what_their_lines_would() -> None:
    for _ in range(7):
        go_through()
    assert Linears.runs == LOOKED_AT


def test_other_gradients_than_were_seen_are_sent_through_the_lines() -> None:
    for _ in range(LOOKED_AT):
        go_through()
    for how in ({"both": False}, {"gaps": True}, {}):
        go_through(**how)
    assert Linears.runs == LOOKED_AT


def test_a_pass_can_be_gone_back_through_twice() -> None:
    for _ in range(LOOKED_AT + 2):
        x, w = inputs()
        first, _ = operators.apply(Linears, x, w, True)
        sent = drawn(2, 5, 2 * HALF)
        once = torch.autograd.grad(first, (x, w), sent, retain_graph=True)
        twice = torch.autograd.grad(first, (x, w), sent)
        assert all(map(torch.equal, once, twice))
    assert Linears.runs == LOOKED_AT


def test_a_changed_input_and_second_derivatives_are_noticed() -> None:
    for _ in range(LOOKED_AT):
        go_through()
    x, w = inputs()
    first, _ = operators.apply(Linears, x, w, True)
    with torch.no_grad():
        w.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        first.sum().backward()
    first, _ = operators.apply(Linears, x, w, True)
    (grad,) = torch.autograd.grad(first.square().sum(), w, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        grad.sum().backward()
    assert Linears.runs == LOOKED_AT


def test_hooks_on_what_is_saved_see_what_the_lines_save() -> None:
    for number in range(1, 6):
        x, w = inputs()
        sent = (drawn(2, 5, 2 * HALF), drawn(2, 5, HALF))
        outputs = checkpoint(operators.apply, Linears, x, w, True, use_reentrant=False)
        check(x, w, torch.autograd.grad(outputs, (x, w), sent), *sent)
        with save_on_cpu():
            outputs = operators.apply(Linears, x, w, True)
        check(x, w, torch.autograd.grad(outputs, (x, w), sent), *sent)
        assert Linears.runs == 3 * number


def test_modes_that_look_at_operators_see_those_of_the_lines() -> None:
    for _ in range(LOOKED_AT + 1):
        go_through()
    x, w = inputs()
    with FlopCounterMode(display=False) as counter:
        operators.apply(Linears, x, w, True)
    assert counter.get_total_flops() == 2 * 10 * 3 * (4 * 3 + 2)


def test_without_gradients_nothing_is_kept() -> None:
    x, w = inputs()
    with torch.no_grad():
        for _ in range(6):
            first, second = operators.apply(Linears, x, w, True)
            torch.testing.assert_close(first, F.linear(x, w))
            torch.testing.assert_close(second, F.linear(x, w[:HALF]))
    assert Linears.runs == LOOKED_AT
