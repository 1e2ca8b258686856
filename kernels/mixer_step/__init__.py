"""One frame through a whole Mamba mixer, the state in place."""

from vidmamba.kernels.mixer_step.op import mamba1_step, mamba2_step

__all__ = ["mamba1_step", "mamba2_step"]
