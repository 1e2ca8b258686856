"""The frames that a dilated convolution of three taps sees, side by side: a gather along time."""

from vidmamba.kernels.dilated_taps.op import dilated_taps
from vidmamba.kernels.dilated_taps.reference import dilated_taps_reference

__all__ = ["dilated_taps", "dilated_taps_reference"]
