"""The taps must equal their definition, exactly: nothing is computed, frames are moved."""

import pytest
import torch

from vidmamba.kernels.dilated_taps import dilated_taps, dilated_taps_reference

OFFSETS = torch.tensor([0, 3, 3, 41, 70], dtype=torch.int32)
CASES = {
    "beside": {"first": 1, "gap": 1},
    "causal": {"first": 10, "gap": 5},
    "far": {"first": 64, "gap": 64},
    "beyond": {"first": 512, "gap": 512},
}
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("device", DEVICES)
def test_values_and_gradients_are_those_of_the_definition(
    device: str, case: dict[str, int], packed: bool
) -> None:
    x = torch.randn(1 if packed else 2, 70, 17, requires_grad=True)
    offsets = OFFSETS if packed else None
    expected = dilated_taps_reference(x, **case, offsets=offsets)
    weight = torch.randn_like(expected)
    (expected_grad,) = torch.autograd.grad(expected, x, weight)
    there = x.detach().to(device).requires_grad_()
    moved = None if offsets is None else offsets.to(device)
    found = dilated_taps(there, **case, offsets=moved)
    assert torch.equal(found.cpu(), expected)
    (grad,) = torch.autograd.grad(found, there, weight.to(device))
    torch.testing.assert_close(grad.cpu(), expected_grad)


# opcheck itself reads .grad of tensors that are no leaves
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("device", DEVICES)
def test_it_is_a_registered_operator(device: str) -> None:
    x = torch.randn(1, 70, 4, device=device, requires_grad=True)
    operator = torch.ops.vidmamba.dilated_taps.default
    torch.library.opcheck(operator, (x, OFFSETS.to(device), 4, 2))
    torch.library.opcheck(operator, (x, None, 4, 2))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_kernels_do_as_the_definition_in_the_interpreter(
    case: dict[str, int], packed: bool
) -> None:
    from vidmamba.kernels.dilated_taps.kernel import launch_backward, launch_forward

    x = torch.randn(1 if packed else 2, 70, 17, requires_grad=True)
    offsets = OFFSETS if packed else None
    expected = dilated_taps_reference(x, **case, offsets=offsets)
    weight = torch.randn_like(expected)
    (expected_grad,) = torch.autograd.grad(expected, x, weight)
    on = "cuda" if torch.cuda.is_available() else "cpu"
    moved = None if offsets is None else offsets.to(on)
    assert torch.equal(launch_forward(x.detach().to(on), moved, **case).cpu(), expected)
    grad = launch_backward(weight.to(on), moved, **case)
    torch.testing.assert_close(grad.cpu(), expected_grad)


def test_kernels_add_up_float64_in_float64() -> None:
    from vidmamba.kernels.dilated_taps.kernel import launch_backward

    x = torch.randn(1, 70, 17, dtype=torch.float64, requires_grad=True)
    expected = dilated_taps_reference(x, **CASES["causal"], offsets=OFFSETS)
    weight = torch.randn_like(expected)
    (expected_grad,) = torch.autograd.grad(expected, x, weight)
    on = "cuda" if torch.cuda.is_available() else "cpu"
    grad = launch_backward(weight.to(on), OFFSETS.to(on), **CASES["causal"])
    torch.testing.assert_close(grad.cpu(), expected_grad, rtol=1e-14, atol=1e-14)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"x must have a shape \(B, T, D\), got \[4, 3\]"):
        dilated_taps(torch.zeros(4, 3), first=1, gap=1)
    with pytest.raises(ValueError, match=r"with offsets, B must be 1 .* got B = 2"):
        dilated_taps(torch.zeros(2, 4, 3), first=1, gap=1, offsets=torch.tensor([0, 4]))
    with pytest.raises(ValueError, match=r"offsets must be int32 or int64 .* got torch.float32"):
        dilated_taps(torch.zeros(1, 4, 3), first=1, gap=1, offsets=torch.tensor([0.0, 4.0]))
