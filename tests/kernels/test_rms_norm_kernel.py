"""The grouped norm's Triton kernels, in Triton's interpreter where there is no GPU."""

import pytest
import torch

from vidmamba.kernels.rms_norm import rms_norm_reference
from vidmamba.kernels.rms_norm.kernel import launch_norm, launch_norm_backward

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(("frames", "width", "groups"), [(1, 3, 1), (300, 48, 3), (9, 96, 1)])
def test_kernels_match_the_reference(frames: int, width: int, groups: int) -> None:
    x, weight, grad = (
        torch.randn(2, frames, width),
        torch.randn(width),
        torch.randn(2, frames, width),
    )
    exact = [t.double().requires_grad_() for t in (x, weight)]
    expected = rms_norm_reference(*exact, groups=groups, eps=1e-3)
    expected.backward(grad.double())
    x, weight, grad = (t.to(DEVICE) for t in (x, weight, grad))
    y = launch_norm(x, weight, groups, 1e-3)
    grad_x, grad_weight, again = launch_norm_backward(grad, x, weight, groups, 1e-3, True)
    for actual, other in (
        (y, expected.detach()), (again, expected.detach()), (grad_x, exact[0].grad),
        (grad_weight, exact[1].grad),
    ):  # fmt: skip
        torch.testing.assert_close(actual.double().cpu(), other, rtol=1e-5, atol=1e-5)
