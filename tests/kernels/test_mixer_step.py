"""A whole mixer's step: a well-formed operator that refuses what does not fit."""

from typing import Any

import pytest
import torch
from torch import Tensor

from vidmamba.kernels.mixer_step import mamba1_step, mamba2_step


def mamba1_arguments(device: torch.device) -> dict[str, Tensor]:
    B, D, E, N, R, K = 2, 6, 12, 3, 2, 4
    shapes = {
        "x": (B, D), "conv": (B, K - 1, E), "scan": (B, E, N), "in_proj": (2 * E, D),
        "taps": (E, 1, K), "conv_bias": (E,), "x_proj": (R + 2 * N, E), "dt_proj": (E, R),
        "dt_bias": (E,), "A_log": (E, N), "D": (E,), "out_proj": (D, E),
    }  # fmt: skip
    return {name: torch.randn(shape, device=device) for name, shape in shapes.items()}


def mamba2_arguments(device: torch.device) -> dict[str, Any]:
    B, D, H, P, G, N, K = 2, 6, 4, 3, 2, 5, 3
    E, C = H * P, H * P + 2 * G * N
    shapes = {
        "x": (B, D), "conv": (B, K - 1, C), "scan": (B, H, P, N), "in_proj": (E + C + H, D),
        "taps": (C, 1, K), "conv_bias": (C,), "dt_bias": (H,), "A_log": (H,), "D": (H,),
        "norm": (E,), "out_proj": (D, E),
    }  # fmt: skip
    made: dict[str, Any] = {n: torch.randn(shape, device=device) for n, shape in shapes.items()}
    return made | {"groups": G, "eps": 1e-5}


def test_both_steps_are_well_formed_operators(device: torch.device) -> None:
    one, two = mamba1_arguments(device), mamba2_arguments(device)
    torch.library.opcheck(torch.ops.vidmamba.mamba1_step.default, tuple(one.values()))
    torch.library.opcheck(torch.ops.vidmamba.mamba2_step.default, tuple(two.values()))


@pytest.mark.parametrize("step", [mamba1_step, mamba2_step])
def test_a_step_refuses_what_does_not_fit(step: Any) -> None:
    make = mamba1_arguments if step is mamba1_step else mamba2_arguments
    good: dict[str, Any] = make(torch.device("cpu"))
    states = (*good["conv"].shape,)
    bad = [
        ({"x": good["x"][0]}, r"x must be floating-point \(B, D\), got torch.float32 \[6\]"),
        ({"scan": good["scan"].bfloat16()}, "scan must be torch.float32"),
        ({"conv": good["conv"][:1]}, rf"conv must be contiguous \[{states[0]}, .* got \[1"),
        ({"D": good["D"].double()}, "x is torch.float32 but D is torch.float64"),
        ({"taps": good["taps"].flip(0)[:3]}, "taps|must have|contiguous"),
        ({"x": good["x"].clone().requires_grad_()}, "no gradient"),
        ({"out_proj": good["out_proj"].t()}, "out_proj must be contiguous"),
    ]
    for change, message in bad:
        with pytest.raises(ValueError, match=message):
            step(**good | change)


def test_a_step_tells_autograd_that_the_states_changed() -> None:
    given = mamba1_arguments(torch.device("cpu"))
    before = given["scan"]._version, given["conv"]._version
    mamba1_step(**given)
    assert (given["scan"]._version, given["conv"]._version) > before
