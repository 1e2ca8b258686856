"""Means and deviations of features over the training frames."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vidmamba.datasets.records import LabelledSet


def feature_statistics(data: LabelledSet) -> tuple[Float[Tensor, " F"], Float[Tensor, " F"]]:
    """Return each feature's mean and deviation over all training frames: one pass, in float64."""
    total = np.zeros(data.feature_key["width"])
    squares, frames = total.copy(), 0
    for item in data.train:
        x = item.read_features().astype(np.float64)
        total += x.sum(axis=0)
        squares += np.square(x).sum(axis=0)
        frames += len(x)
    mean = total / frames
    std = np.sqrt(np.maximum(squares / frames - mean**2, 0))
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()
