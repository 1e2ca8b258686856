"""Mamba-2's step in Triton against its definition, in the interpreter where there is no GPU."""

from typing import Any

import pytest
import torch

from vidmamba.kernels.ssd import ssd_reference
from vidmamba.kernels.ssd.kernel_step import launch_step

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("sizes", [(2, 3, 4, 5, 2, 7), (1, 1, 3, 70, 1, 128)], ids=str)
def test_a_few_frames_match_the_reference(sizes: tuple[int, ...], bare: bool) -> None:
    B, T, H, P, G, N = sizes
    x, z = torch.randn(2, B, T, H, P)
    dt, A, D, bias = torch.randn(B, T, H), -torch.rand(H), torch.randn(H), torch.randn(H)
    gain, look = torch.randn(2, B, T, G, N)
    state = torch.randn(B, H, P, N)
    options: dict[str, Any] = {} if bare else {"D": D, "z": z, "dt_bias": bias}
    expected, last = ssd_reference(
        *(t.double() for t in (x, dt, A, gain, look)), dt_softplus=not bare,
        initial_state=state.double(), **{name: t.double() for name, t in options.items()},
    )  # fmt: skip
    given: list[Any] = [t.to(DEVICE) for t in (state, x, dt, A, gain, look)]
    given += [options[n].to(DEVICE) if n in options else None for n in ("D", "z", "dt_bias")]
    y = launch_step(*[*given, not bare])
    torch.testing.assert_close(y.double().cpu(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(given[0].double().cpu(), last, rtol=1e-5, atol=1e-5)
