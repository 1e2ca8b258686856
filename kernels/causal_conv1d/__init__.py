"""The short causal convolution: each channel of a frame sees its own last K frames."""

from vidmamba.kernels.causal_conv1d.op import causal_conv1d, causal_conv1d_step
from vidmamba.kernels.causal_conv1d.reference import causal_conv1d_reference

__all__ = ["causal_conv1d", "causal_conv1d_reference", "causal_conv1d_step"]
