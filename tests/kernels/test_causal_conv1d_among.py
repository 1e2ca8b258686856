"""A convolution in parts, its gradients among others, must be the plain one, cut and glued."""

from typing import Any

import pytest
import torch
from torch import Tensor

import vidmamba.kernels.causal_conv1d.among  # noqa: F401 (registers its operators)
from vidmamba.kernels.causal_conv1d.kernel import launch_conv
from vidmamba.kernels.causal_conv1d.kernel_backward import launch_conv_backward

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ops = torch.ops.vidmamba
# (first part, the others): of several blocks of channels; of less than one
PARTS = [(130, 40), (5, 3)]


def given(videos: int, frames: int, width: int, packed: bool) -> dict[str, Any]:
    offsets = torch.tensor([0, 3, 3, frames], dtype=torch.int32) if packed else None
    states = 3 if packed else videos
    tensors = {
        "x": torch.randn(videos, frames, width), "weight": torch.randn(width, 4),
        "bias": torch.randn(width), "state": torch.randn(states, 3, width), "offsets": offsets,
    }  # fmt: skip
    return {k: None if t is None else t.to(DEVICE) for k, t in tensors.items()}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_kernels_in_parts_do_what_the_plain_ones_do(parts: tuple[int, int], packed: bool) -> None:
    first, further = parts
    videos, frames, width = 1 if packed else 2, 9, first + 2 * further
    inputs = given(videos, frames, width, packed)
    how: dict[str, Any] = {"silu": True, "reverse": packed}
    y, last = launch_conv(**inputs, **how, keep_state=True)
    apart, last_apart = launch_conv(**inputs, **how, keep_state=True, parts=parts)
    sizes = [first, further, further]
    flat = torch.cat([part.flatten() for part in y.split(sizes, dim=-1)])
    assert torch.equal(apart.flatten(), flat)
    assert torch.equal(last_apart, last)

    grad, grad_last = torch.randn_like(y), torch.randn_like(last)
    before, after = (torch.randn(videos, frames, n, device=DEVICE) for n in (70, 2))
    plain = launch_conv_backward(grad, grad_last, **inputs, **how)
    grad_y, *others = (part.contiguous() for part in grad.split(sizes, dim=-1))
    for left, right in ((None, None), (None, after), (before, after)):
        got = launch_conv_backward(
            grad_y, grad_last, **inputs, **how, apart=(others[0], others[1]), before=left,
            after=right,
        )  # fmt: skip
        glued = torch.cat([t for t in (left, plain[0], right) if t is not None], dim=-1)
        for actual, expected in zip(got, (glued, *plain[1:]), strict=True):
            assert torch.equal(actual, expected)


@pytest.mark.parametrize("packed", [False, True])
def test_operators_cut_and_glue(packed: bool, device: torch.device) -> None:
    inputs = [t if t is None else t.to(device) for t in given(1, 20, 11, packed).values()]
    y, last = ops.causal_conv1d(*inputs, True, packed, True)
    flat, last_apart = ops.causal_conv1d_apart(*inputs, True, packed, True, 5, 3)
    parts: list[Tensor] = [part.contiguous() for part in y.split([5, 3, 3], dim=-1)]
    assert torch.equal(flat, torch.cat([part.flatten() for part in parts]))
    assert torch.equal(last_apart, last)
    grads = [torch.randn_like(part) for part in parts]
    before, after = (torch.randn(1, 20, n, device=device) for n in (70, 4))
    whole = torch.cat(grads, dim=-1)
    plain = ops.causal_conv1d_backward(whole, None, *inputs, True, packed)
    among = ops.causal_conv1d_among(*grads, None, *inputs, before, after, True, packed)
    row = torch.cat([before, plain[0], after], dim=-1)
    for actual, expected in zip(among, (row.flatten(0, 1), *plain[1:]), strict=True):
        assert torch.equal(actual, expected)


def test_are_well_formed_operators(device: torch.device) -> None:
    inputs = [t if t is None else t.to(device) for t in given(1, 6, 11, False).values()]
    torch.library.opcheck(ops.causal_conv1d_apart.default, (*inputs, True, False, True, 5, 3))
    grads = [torch.randn(1, 6, n, device=device) for n in (5, 3, 3)]
    arguments = (*grads, None, *inputs, grads[0], grads[1], True, True)
    torch.library.opcheck(ops.causal_conv1d_among.default, arguments)
