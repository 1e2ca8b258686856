"""Every kernel compiles for an H100, also where tests have no GPU: an interpreter takes more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("on_no_gpu.py")
KERNELS = {
    "causal_conv1d": {"_forward_kernel", "_backward_kernel", "_sum_kernel"},
    "dilated_taps": {"_forward_kernel", "_backward_kernel"},
    "rms_norm": {"_forward_kernel", "_backward_kernel"},
    "selective_scan": {
        "chunk_ends_kernel", "gradients_kernel", "outputs_kernel", "prepare_kernel", "sums_kernel"
    },
    "ssd": {"walk_kernel", "outputs_kernel", "frame_grads_kernel", "step_grads_kernel"},
    "wide_ssd": {"walk_kernel", "projection_grads_kernel"},
    "mixers": {
        "enter_kernel", "leave_kernel", "mamba1_scan_kernel", "mamba2_scan_kernel", "_cut_kernel",
        "_join_kernel",
    },
}  # fmt: skip
"""Some that each launches; a renamed one is missed here, so that none is left out unseen."""


@pytest.mark.parametrize("operator", KERNELS)
def test_what_an_operator_launches_on_cuda_compiles_for_an_h100(operator: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, SCRIPT, operator],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    compiled = {line.split()[0] for line in done.stdout.splitlines()}
    assert compiled >= KERNELS[operator], compiled
