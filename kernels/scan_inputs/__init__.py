"""What the scans take besides frames, out of a mixer's products and parameters."""

from vidmamba.kernels.scan_inputs.op import (
    scan_inputs,
    scan_inputs_backward,
    scan_rates,
    scan_rates_backward,
)
from vidmamba.kernels.scan_inputs.reference import scan_inputs_reference

__all__ = [
    "scan_inputs", "scan_inputs_backward", "scan_inputs_reference", "scan_rates",
    "scan_rates_backward",
]  # fmt: skip
