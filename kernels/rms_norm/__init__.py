"""The norm after Mamba-2's gate: each group of a frame's channels by its own root mean square."""

from vidmamba.kernels.rms_norm.op import rms_norm
from vidmamba.kernels.rms_norm.reference import rms_norm_reference

__all__ = ["rms_norm", "rms_norm_reference"]
