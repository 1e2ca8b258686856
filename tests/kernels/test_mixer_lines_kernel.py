"""Whole mixers whose tensors have gaps in memory, by the kernels, which see addresses alone."""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vidmamba.kernels import operators
from vidmamba.nn.mamba2 import Mamba2Config, Mamba2Mixer
from vidmamba.nn.mixer import CausalMixer, Mamba1Mixer, MambaConfig, MixerState

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# Mamba-1's scan, of many launches, would take the interpreter a quarter of a minute
OPERATORS = ["causal_conv1d", "causal_conv1d_apart", "scan_inputs", "scan_rates", "ssd"]


@pytest.fixture(autouse=True)
def _kernels_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu, on_cuda = (vars(operators._KERNELS[device]) for device in ("cpu", "cuda"))
    for name in OPERATORS:
        monkeypatch.setitem(on_cpu, name, inspect.unwrap(on_cuda[name]))


def with_gaps(x: Tensor) -> Tensor:
    """The same numbers, other ones between them."""
    return torch.stack([x, torch.full_like(x, 7)], dim=-1)[..., 0]


@torch.no_grad()
@pytest.mark.parametrize("kind", [Mamba1Mixer, Mamba2Mixer])
def test_gaps_between_the_numbers_of_states_and_weights_change_nothing(kind: Any) -> None:
    config = MambaConfig(state=3) if kind is Mamba1Mixer else Mamba2Config(state=3, head_size=4)
    mixer: CausalMixer = kind(8, config).to(DEVICE)
    x = torch.randn(2, 5, 8, device=DEVICE)
    state = MixerState(*(torch.randn_like(part) for part in mixer.empty_state(2)))
    expected, _ = mixer.continue_from(x, state)
    for module in mixer.modules():
        for name, parameter in [*module.named_parameters(recurse=False)]:
            setattr(module, name, nn.Parameter(with_gaps(parameter)))
    actual, _ = mixer.continue_from(x, MixerState(*map(with_gaps, state)))
    torch.testing.assert_close(actual, expected)
