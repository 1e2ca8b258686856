"""The state space dual of Mamba-2: h[t] = exp(dt[t] A) h[t-1] + dt[t] x[t] B[t]; y = C h."""

from vidmamba.kernels.ssd.op import ssd
from vidmamba.kernels.ssd.reference import ssd_reference
from vidmamba.kernels.ssd.step import ssd_step

__all__ = ["ssd", "ssd_reference", "ssd_step"]
