"""Mixers along time and against it: every frame sees the whole video."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook as has_any_global_hook

from vidmamba.nn.mamba1_autograd import Weights, mean_of_mamba1
from vidmamba.nn.mixer import Mamba1Mixer, piece_length
from vidmamba.nn.packing import check_videos
from vidmamba.nn.streams import mean_of_both


class Bidirectional(nn.Module):
    """One mixer along time and one against it, averaged: every frame sees the whole video."""

    def __init__(self, along: nn.Module, against: nn.Module) -> None:
        super().__init__()
        self.along = along
        self.against = against

    def forward(
        self, x: Float[Tensor, "B T D"], *, offsets: Tensor | None = None
    ) -> Float[Tensor, "B T D"]:
        """Mix whole videos in both directions."""
        weights = _weights_of_both(self.along, self.against, x, offsets)
        if weights is None:
            return mean_of_both(self.along, self.against, x, offsets=offsets)
        return mean_of_mamba1(x, *weights, offsets)


def _weights_of_both(
    along: nn.Module, against: nn.Module, x: Tensor, offsets: Tensor | None
) -> tuple[Weights, Weights] | None:
    """Return the weights of two mixers that can leave by one step; None if they cannot.

    They cannot if others look on, or if the video is so long that each mixes it in pieces.
    """
    mixers = [m for m in (along, against) if type(m) is Mamba1Mixer and not _is_watched(m)]
    if (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or [m.reverse for m in mixers] != [False, True]
    ):
        return None
    check_videos(x, offsets)
    if offsets is None and piece_length(x) < x.shape[1]:
        return None
    first, second = (m.weights() for m in mixers)
    return first, second


def _is_watched(module: nn.Module) -> bool:
    """Whether somebody wants to be told when it is called, or has put a call of theirs there."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    hooks = hooks or module._backward_hooks or module._backward_pre_hooks
    return bool(hooks or "forward" in vars(module) or has_any_global_hook())
