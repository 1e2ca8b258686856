"""The convolution's Triton kernels, in Triton's interpreter where there is no GPU."""

import pytest
import torch
from torch import Tensor

from vidmamba.kernels.causal_conv1d import causal_conv1d_reference
from vidmamba.kernels.causal_conv1d.kernel import MIN_CHUNK, launch_conv, launch_step
from vidmamba.kernels.causal_conv1d.kernel_backward import launch_conv_backward

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# two chunks, one frame over; videos empty, of one frame, shorter than the taps, ending with a chunk
OFFSETS = [0, 0, 1, 3, MIN_CHUNK, MIN_CHUNK + 5]


def close(actual: Tensor, expected: Tensor | None) -> None:
    assert expected is not None
    torch.testing.assert_close(actual.double().cpu(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize(
    ("batch", "frames", "width", "taps", "packed"),
    [(2, MIN_CHUNK + 1, 33, 4, False), (1, 1, 3, 2, False), (1, MIN_CHUNK + 5, 3, 4, True)],
)
def test_kernels_match_the_reference(
    batch: int, frames: int, width: int, taps: int, packed: bool, reverse: bool
) -> None:
    offsets = torch.tensor(OFFSETS) if packed else None
    videos = len(OFFSETS) - 1 if packed else batch
    shapes = [(batch, frames, width), (width, taps), (width,), (videos, taps - 1, width)]
    x, weight, bias, state = (torch.randn(shape) for shape in shapes)
    exact = [t.double().requires_grad_() for t in (x, weight, bias, state)]
    y64, last64 = causal_conv1d_reference(
        *exact[:3], activation="silu", initial_state=exact[3], offsets=offsets, reverse=reverse
    )
    grad_y, grad_last = torch.randn(y64.shape), torch.randn(last64.shape)
    torch.autograd.backward([y64, last64], [grad_y.double(), grad_last.double()])

    x, weight, bias, state = (t.to(DEVICE) for t in (x, weight, bias, state))
    given = (x, weight, bias, state, None if offsets is None else offsets.to(DEVICE))
    y, last = launch_conv(*given, silu=True, reverse=reverse, keep_state=True)
    close(y, y64.detach())
    close(last, last64.detach())
    grads = launch_conv_backward(
        grad_y.to(DEVICE), grad_last.to(DEVICE), *given, silu=True, reverse=reverse
    )
    for grad, tensor in zip(grads, exact, strict=True):
        close(grad, tensor.grad)


def test_steps_match_the_reference_and_move_the_state() -> None:
    x, state, weight = torch.randn(2, 3, 5), torch.randn(2, 3, 5), torch.randn(5, 4)
    y64, last64 = causal_conv1d_reference(x.double(), weight.double(), initial_state=state.double())
    state = state.to(DEVICE)
    close(launch_step(x.to(DEVICE), state, weight.to(DEVICE), None, silu=False), y64)
    close(state, last64)
