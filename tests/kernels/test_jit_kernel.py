"""Triton functions that find their compiled forms must never run one made for other arguments."""

from typing import Any, no_type_check

import torch
import triton.language as tl
from torch import Tensor

from vidmamba.kernels.jit import compiled_together, jit

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@jit(do_not_specialize=["loose"])
@no_type_check
def scale_kernel(
    x, added, y, factor, loose, size, negative: tl.constexpr, block: tl.constexpr
):  # fmt: skip
    """y = factor * loose * x + added, negated if asked for."""
    at = tl.arange(0, block)
    value = tl.load(x + at, mask=at < size, other=0.0) * factor * loose
    if added is not None:
        value += tl.load(added + at, mask=at < size, other=0.0)
    tl.store(y + at, -value if negative else value, mask=at < size)


def scale(
    x: Tensor, added: Tensor | None, factor: Any, loose: int, negative: bool, block: int
) -> Tensor:
    y = torch.zeros_like(x)
    scale_kernel[(1,)](x, added, y, factor, loose, len(x), negative, block=block, num_warps=1)
    return y


def test_each_kind_of_arguments_gets_code_of_its_own() -> None:
    numbers = torch.arange(1.0, 66.0, device=DEVICE)
    for _ in range(2):  # the second time all is found
        for dtype in (torch.float32, torch.float16):
            for first, size in ((0, 64), (1, 64), (0, 1), (3, 17)):  # aligned or not
                x = numbers.to(dtype)[first : first + size]
                for added in (None, torch.ones_like(x)):
                    for factor, loose in ((1, 1), (2, 16), (16, 3), (3, 1), (0.5, 2)):
                        for negative in (False, True):
                            y = scale(x, added, factor, loose, negative, 128 if size > 64 else 64)
                            expected = x * factor * loose + (0 if added is None else 1)
                            assert torch.equal(y, -expected if negative else expected)


@jit()
@no_type_check
def count_kernel(count, step: tl.constexpr):
    """Add to a number."""
    tl.store(count, tl.load(count) + step)


def test_kernels_that_are_compiled_together_run_once_a_call() -> None:
    count = torch.zeros(1, device=DEVICE)

    def launches() -> Tensor:
        for step in (1, 10, 100):
            count_kernel[(1,)](count, step=step, num_warps=1)
        return count

    for calls in (1, 2):
        result = compiled_together(("test_jit_kernel",), launches)
        assert result is count
        assert count.item() == 111 * calls
