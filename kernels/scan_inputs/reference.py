"""The definition of what is cut out and made."""

import torch
from torch import Tensor


def scan_inputs_reference(low: Tensor, A_log: Tensor) -> tuple[Tensor, Tensor]:
    """Return B and C (2, B, T, N), the last columns of ``low`` (B, T, R + 2 N), and -exp(A_log)."""
    states = A_log.shape[1]
    B, C = low[..., -2 * states : -states], low[..., -states:]
    return torch.stack([B, C]), -A_log.exp()
