"""The kernels as compiled for an H100 match the reference; `ptx` says what else is looked for."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton")

SCRIPT = Path(__file__).with_name("on_ptx.py")
# up to 16 states lie in shared memory, more in memory; the programs of blocks of channels wait for
# each other's sums, chunk by chunk, and of packed videos some are empty; rows of whole pieces of 16
# bytes pass through shared memory
CASES: dict[str, tuple[Any, ...]] = {
    "few states": ([1, 9, 5, 16], "float32", None, False, None),
    "pieces": ([1, 9, 32, 2], "bfloat16", None, False, None),
    "two blocks": ([1, 9, 33, 2], "bfloat16", None, False, None),
    "many states": ([1, 10, 3, 64], "float32", None, True, None),
    "segments": ([1, 70, 33, 17], "bfloat16", None, False, 128),
    "packed": ([1, 9, 72, 17], "float16", [0, 0, 1, 9, 9], True, 32),
}
NAMES = ("shape", "dtype", "bounds", "reverse", "choice")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_compiled_kernels_match_the_reference(case: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    told = json.dumps(dict(zip(NAMES, CASES[case], strict=True)))
    run = subprocess.run(
        [sys.executable, SCRIPT, told], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
