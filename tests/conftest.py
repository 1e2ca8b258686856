import os
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    # Triton reads this on import: without a GPU its kernels run in the interpreter, on CPU tensors
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the interpreted kernels where Triton's interpreter and NumPy do not fit."""
    triton, numpy = (
        tuple(int(part) for part in version(name).split(".")[:2]) for name in ("triton", "numpy")
    )
    if torch.cuda.is_available() or triton >= (3, 7) or numpy < (2, 4):
        return
    # it reads loop bounds off arrays of one element, which NumPy 2.4 no longer makes integers
    reason = f"the interpreter of Triton {version('triton')} fails on NumPy {version('numpy')}"
    for item in items:
        if item.path.parent.name == "kernels" and item.path.stem.endswith("_kernel"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device that this machine has; CUDA is skipped, visibly, where there is none."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data that VIDMAMBA_DATA names."""
    folder = os.environ.get("VIDMAMBA_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("VIDMAMBA_DATA does not name the folder of real data")
    return Path(folder)
