"""What Mamba is compared with: the dilated convolutions of MS-TCN, and an LSTM."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from vidmamba.kernels.dilated_taps import dilated_taps


class DilatedConvolution(nn.Module):
    """Three taps, `dilation` frames apart, ReLU, and a mix of channels.

    The dilated residual layer of Farha and Gall, "MS-TCN" (CVPR 2019), equations 1 and 2, whose
    dilation doubles from layer to layer; causal, the taps lie in the past.
    """

    def __init__(self, width: int, *, dilation: int, causal: bool) -> None:
        super().__init__()
        self.first, self.gap = 2 * dilation if causal else dilation, dilation
        self.taps = nn.Linear(3 * width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "B T D"], *, offsets: Tensor | None = None
    ) -> Float[Tensor, "B T D"]:
        """Mix whole videos; with ``offsets`` (V + 1,), V videos that lie packed in B = 1."""
        seen = dilated_taps(x, first=self.first, gap=self.gap, offsets=offsets)
        return self.out(F.relu(self.taps(seen.flatten(2))))


class Recurrent(nn.Module):
    """A layer of LSTM, in both directions unless causal, and a mix of channels.

    Raises:
        ValueError: the width is odd, and two directions share it.
    """

    def __init__(self, width: int, *, causal: bool) -> None:
        super().__init__()
        if width % 2 and not causal:
            raise ValueError(f"two directions share the width: it must be even, got {width}")
        hidden = width if causal else width // 2
        self.directions = nn.ModuleList(
            nn.LSTM(width, hidden, batch_first=True) for _ in range(1 if causal else 2)
        )
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "B T D"], *, offsets: Tensor | None = None
    ) -> Float[Tensor, "B T D"]:
        """Mix whole videos; with ``offsets`` (V + 1,), V videos that lie packed in B = 1."""
        videos = [*x] if offsets is None else x[0].split(offsets.diff().tolist())
        videos = [video for video in videos if len(video)]  # cuDNN takes no empty ones
        found = [_states(lstm, videos, number == 1) for number, lstm in enumerate(self.directions)]
        return self.out(torch.cat(found, dim=-1).view_as(x))


def _states(
    lstm: nn.Module, videos: Sequence[Float[Tensor, "_ D"]], reverse: bool
) -> Float[Tensor, "frames hidden"]:
    """Return the states of all frames, video after video.

    Videos are padded, not packed, each direction by itself: padding comes last, so that no frame
    knows of it, and cuDNN has one kernel for all of a small LSTM's time where all have one length,
    but launches several a frame where they do not.
    """
    if reverse:
        videos = [video.flip(0) for video in videos]
    padded, _ = lstm(pad_sequence([*videos], batch_first=True))
    found = [own[: len(video)] for own, video in zip(padded, videos, strict=True)]
    return torch.cat([own.flip(0) for own in found] if reverse else found)
