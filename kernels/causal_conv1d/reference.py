"""The definition of the causal convolution, as every other implementation must compute it."""

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def causal_conv1d_reference(
    x: Float[Tensor, "B T D"],
    weight: Float[Tensor, "D K"],
    bias: Float[Tensor, " D"] | None = None,
    *,
    activation: str | None = None,
    initial_state: Float[Tensor, "S K-1 D"] | None = None,
    offsets: Int[Tensor, " S+1"] | None = None,
    reverse: bool = False,
) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "S K-1 D"]]:
    """Convolve video by video and frame by frame, in the inputs' own dtype.

    Returns:
        The outputs, and each video's last K-1 inputs in the order in which they were taken.
    """
    if offsets is None:
        videos = list(x.unbind(dim=0))  # T D each
    else:
        bounds = offsets.tolist()
        videos = [x[0, a:b] for a, b in itertools.pairwise(bounds)]
    width, taps = weight.shape
    outputs, states = [], []
    for number, video in enumerate(videos):
        state = x.new_zeros(taps - 1, width) if initial_state is None else initial_state[number]
        y, last = _convolve(video.flip(0) if reverse else video, weight, bias, state)
        outputs.append(y.flip(0) if reverse else y)
        states.append(last)
    y = torch.stack(outputs) if offsets is None else torch.cat(outputs)[None]
    return (F.silu(y) if activation == "silu" else y), torch.stack(states)


def _convolve(
    video: Float[Tensor, "T D"],
    weight: Float[Tensor, "D K"],
    bias: Float[Tensor, " D"] | None,
    state: Float[Tensor, "K-1 D"],
) -> tuple[Float[Tensor, "T D"], Float[Tensor, "K-1 D"]]:
    """y[t] = bias + sum over k of weight[:, k] * x[t - (K-1) + k], the state standing before x."""
    taps = weight.shape[1]
    history = torch.cat([state, video])
    outputs = []
    for t in range(len(video)):
        y = torch.zeros_like(video[t]) if bias is None else bias
        for k in range(taps):
            y = y + weight[:, k] * history[t + k]
        outputs.append(y)
    return torch.stack(outputs) if outputs else video, history[len(video) :]
