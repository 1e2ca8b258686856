"""Where models run."""

import torch


def device_of(wanted: str = "auto") -> str:
    """Name a device for PyTorch.

    Args:
        wanted: ``auto`` or a trainer's ``gpu``: CUDA where there is a GPU, else the CPU; anything
            else is a device's name already.
    """
    if wanted in ("auto", "gpu"):
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted
