"""The selective scan of Mamba-1: h[t] = exp(delta[t] A) h[t-1] + delta[t] u[t] B[t]; y = C h."""

from vidmamba.kernels.selective_scan.op import selective_scan
from vidmamba.kernels.selective_scan.reference import selective_scan_reference
from vidmamba.kernels.selective_scan.step import selective_scan_step

__all__ = ["selective_scan", "selective_scan_reference", "selective_scan_step"]
