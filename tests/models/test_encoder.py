"""What every head reads: how far a frame is seen, and how far while training forgets."""

import torch

from vidmamba.models.augment import AugmentConfig
from vidmamba.models.encoder import Encoder
from vidmamba.nn.stack import StackConfig


def moved(encoder: Encoder, frames: int = 400) -> torch.Tensor:
    """Which frames' states change with the first frame, at the same random numbers."""
    x = torch.randn(1, frames, 3, generator=torch.Generator().manual_seed(1))
    other = x.clone()
    other[0, 0] += 3
    states = []
    for given in (x, other):
        torch.manual_seed(5)
        states.append(encoder(given, torch.ones(1, frames, dtype=torch.bool))[0])
    return torch.nonzero((states[0] != states[1]).any(dim=1)).flatten()


@torch.no_grad()
def test_training_forgets_every_so_many_frames_and_nothing_else_does() -> None:
    torch.manual_seed(0)
    stack = StackConfig(width=16, depth=1, direction="causal", dropout=0.0)
    augment = AugmentConfig(channel_dropout=0.0, forget_frames=40)
    encoder = Encoder(stack, augment, num_features=3)
    whole = moved(encoder.eval())
    assert int(whole.max()) > 200
    pieces = moved(encoder.train())
    assert 0 < int(pieces.max()) < 200
    assert pieces.tolist() == [*range(len(pieces))]
