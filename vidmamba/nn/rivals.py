"""What Mamba is compared with: the dilated convolutions of MS-TCN, and an LSTM."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

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
        self.lstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=not causal)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "B T D"], *, offsets: Tensor | None = None
    ) -> Float[Tensor, "B T D"]:
        """Mix whole videos; with ``offsets`` (V + 1,), V videos that lie packed in B = 1."""
        if offsets is None:
            return self.out(self.lstm(x)[0])
        lengths = offsets.diff().tolist()
        # a video without frames has no state, and cuDNN takes none
        videos = [video for video in x[0].split(lengths) if len(video)]
        states, _ = self.lstm(pack_sequence(videos, enforce_sorted=False))
        return self.out(torch.cat(unpack_sequence(states)).unsqueeze(0))
