"""The grouped norm must equal its definition in float64, gradients and all, on every device."""

from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor

from vidmamba.kernels.rms_norm import rms_norm, rms_norm_reference

# (B, T, E, groups): one frame, odd sizes, more frames than a tile of the kernel has
SHAPES = [(1, 1, 2, 1), (2, 3, 10, 2), (1, 70, 129, 3), (3, 41, 64, 1)]
HOW: dict[str, Any] = {"groups": 2, "eps": 1e-5}


def relative(actual: Tensor, expected: Tensor) -> float:
    expected = expected.detach()
    return float((actual.detach().double().cpu() - expected).norm() / expected.norm())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_values_and_gradients_match_the_reference(
    shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device
) -> None:
    B, T, E, groups = shape
    x, weight, grad = torch.randn(B, T, E), torch.randn(E), torch.randn(B, T, E)
    given = [t.to(device, dtype).requires_grad_() for t in (x, weight)]
    exact = [t.detach().double().cpu().requires_grad_() for t in given]
    y = rms_norm(*given, groups=groups, eps=1e-3)
    expected = rms_norm_reference(*exact, groups=groups, eps=1e-3)
    y.backward(grad.to(device, dtype))
    expected.backward(grad.to(dtype).double())
    tolerance = 1e-6 if dtype == torch.float32 else 4e-3
    assert relative(y, expected) < tolerance
    for tensor, other in zip(given, exact, strict=True):
        assert tensor.grad is not None
        assert other.grad is not None
        assert relative(tensor.grad, other.grad) < 4 * tolerance


def test_derivatives_are_right_in_float64() -> None:
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *given: rms_norm(*given, **HOW), (x, weight))


# opcheck itself reads .grad of tensors that are no leaves
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_is_a_well_formed_operator(device: torch.device) -> None:
    x, weight = torch.randn(2, 3, 6, device=device), torch.randn(6, device=device)
    inputs = (x.requires_grad_(), weight.requires_grad_(), 2, 1e-5)
    torch.library.opcheck(torch.ops.vidmamba.rms_norm.default, inputs)
    arguments = (torch.randn_like(x), x.detach(), weight.detach(), 2, 1e-5, True)
    torch.library.opcheck(torch.ops.vidmamba.rms_norm_backward.default, arguments)


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiles_whole_and_transforms(monkeypatch: pytest.MonkeyPatch) -> None:
    # the compiler cannot trace the checks of annotations that the tests turn on
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    x, weight = torch.randn(3, 2, 4, 6), torch.randn(6)

    def loss(x: Tensor, weight: Tensor) -> Tensor:
        return rms_norm(x, weight, **HOW).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x[0], weight), loss(x[0], weight))
    gradient = torch.func.grad(loss, argnums=(0, 1))
    batched = torch.func.vmap(gradient, in_dims=(0, None))(x, weight)
    for i in range(3):
        for many, one in zip(batched, gradient(x[i], weight), strict=True):
            torch.testing.assert_close(many[i], one)


def test_wrong_inputs_are_refused_with_their_values() -> None:
    x, weight = torch.rand(1, 2, 6), torch.rand(6)
    with pytest.raises(ValueError, match="divide E = 6, got 4"):
        rms_norm(x, weight, groups=4)
    with pytest.raises(ValueError, match=r"shape \[6\] on cpu, got \[5\]"):
        rms_norm(x, weight[:5])
    with pytest.raises(ValueError, match=r"got torch.float32 \[2, 6\]"):
        rms_norm(x[0], weight)
