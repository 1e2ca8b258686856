"""The steps' Triton kernels against the plain form in float64, in the interpreter without a GPU."""

from typing import Any

import pytest
import torch
from torch import Tensor

from vidmamba.kernels.mixer_step.cuda import launch_mamba1_step, launch_mamba2_step
from vidmamba.kernels.mixer_step.reference import mamba1_step_reference, mamba2_step_reference

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def assert_same_step(launch: Any, reference: Any, tensors: list[Tensor], *how: Any) -> None:
    given = [t.to(DEVICE) for t in tensors]
    exact = [t.double() for t in tensors]
    y, expected = launch(*given, *how), reference(*exact, *how)
    for actual, other in ((y, expected), (given[1], exact[1]), (given[2], exact[2])):
        assert float((actual.double().cpu() - other).norm()) <= 1e-6 * float(other.norm())


# one video: vectors; several: tensor cores; widths that are no power of two, more than a block
@pytest.mark.parametrize("sizes", [(1, 24, 5, 3, 4), (3, 40, 16, 3, 1), (18, 24, 4, 2, 2)], ids=str)
def test_mamba1_matches_the_reference(sizes: tuple[int, ...]) -> None:
    B, D, N, R, K = sizes
    E = 2 * D
    shapes = [(2 * E, D), (E, 1, K), (E,), (R + 2 * N, E), (E, R), (E,), (E, N), (E,), (D, E)]
    weights = [torch.randn(shape) / shape[-1] ** 0.5 for shape in shapes]
    states = [torch.randn(B, D), torch.randn(B, K - 1, E), torch.randn(B, E, N)]
    assert_same_step(launch_mamba1_step, mamba1_step_reference, [*states, *weights])


@pytest.mark.parametrize(
    "sizes", [(1, 3, 16, 5, 1, 4), (1, 4, 6, 16, 2, 3), (17, 6, 8, 4, 2, 2)], ids=str
)
def test_mamba2_matches_the_reference(sizes: tuple[int, ...]) -> None:
    B, H, P, N, G, K = sizes
    D, E, C = 24, H * P, H * P + 2 * G * N
    shapes = [(E + C + H, D), (C, 1, K), (C,), (H,), (H,), (H,), (E,), (D, E)]
    weights = [torch.randn(shape) / shape[-1] ** 0.5 for shape in shapes]
    states = [torch.randn(B, D), torch.randn(B, K - 1, C), torch.randn(B, H, P, N)]
    assert_same_step(launch_mamba2_step, mamba2_step_reference, [*states, *weights], G, 1e-5)
