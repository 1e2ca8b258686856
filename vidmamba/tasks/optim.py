"""The optimiser that every task trains with, and its schedule."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW with linear warm-up and cosine decay to zero."""

    lr: float = 2e-3
    """Highest learning rate."""

    weight_decay: float = 0.05
    """Decay of matrices; biases, norms and the scan's A and D are left alone."""

    warmup: float = 0.1
    """Share of all steps over which the rate rises."""

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.weight_decay < 0 or not 0 <= self.warmup < 1:
            raise ValueError(f"lr > 0, weight_decay >= 0 and 0 <= warmup < 1 must hold, got {self}")


def configure(module: nn.Module, config: OptimConfig, *, steps: int) -> OptimizerLRSchedulerConfig:
    """Return AdamW and its schedule over ``steps`` steps, as Lightning takes them."""
    optimizer = torch.optim.AdamW(decay_groups(module, config), lr=config.lr)
    schedule = LambdaLR(optimizer, schedule_of(config, steps=steps))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def decay_groups(module: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """Return a module's parameters as an optimiser takes them, each group with its decay.

    Matrices alone decay: biases, norms and the scan's A and D keep their scale.
    """
    decayed = {name for name, p in module.named_parameters() if p.ndim >= 2 and "A_log" not in name}
    return [
        {
            "params": [p for name, p in module.named_parameters() if name in decayed],
            "weight_decay": config.weight_decay,
        },
        {
            "params": [p for name, p in module.named_parameters() if name not in decayed],
            "weight_decay": 0.0,
        },
    ]


def schedule_of(config: OptimConfig, *, steps: int) -> Callable[[int], float]:
    """Return what the highest rate is multiplied by at each of ``steps`` steps, counted from 0."""
    warmup = max(round(config.warmup * steps), 1)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))

    return factor
