"""Nodes of autograd with little around them must do all that PyTorch's own do."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from vidmamba.kernels.operators import apply
from vidmamba.kernels.rms_norm import rms_norm


class Square(torch.autograd.Function):
    """Knows its derivative by hand."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.factor = 2
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return ctx.factor * x * grad


def test_what_a_checkpoint_computes_again_within_a_backward_pass_is_seen_by_autograd() -> None:
    x = torch.randn(5, requires_grad=True)

    def cube_and_square(x: Tensor) -> Tensor:
        # the node is the first to want what it saved: then all of this runs once more
        return apply(Square, x.exp() * x.sin())

    again = checkpoint(cube_and_square, x, use_reentrant=False)
    (actual,) = torch.autograd.grad(again.sum(), x)
    (expected,) = torch.autograd.grad(cube_and_square(x).sum(), x)
    assert torch.equal(actual, expected)


def test_a_changed_input_is_noticed_in_the_backward_pass() -> None:
    x = torch.randn(5, requires_grad=True)
    given = x.clone()
    y = apply(Square, given)
    with torch.no_grad():
        given.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_second_derivatives_are_refused_where_there_are_none() -> None:
    x, weight = torch.randn(1, 3, 4, requires_grad=True), torch.ones(4)
    (grad,) = torch.autograd.grad(rms_norm(x, weight).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        grad.sum().backward()


@pytest.mark.filterwarnings("ignore:.torch.jit.script.:FutureWarning")  # within make_dual
@pytest.mark.filterwarnings("ignore:.torch.jit.script.:DeprecationWarning")
@pytest.mark.parametrize("grad", [False, True])
def test_forward_mode_derivatives_are_refused_not_lost(grad: bool) -> None:
    x, weight = torch.randn(1, 3, 4), torch.ones(4)
    with torch.set_grad_enabled(grad), forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        with pytest.raises(NotImplementedError, match="jvp"):
            rms_norm(dual, weight)
