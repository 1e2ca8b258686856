"""The scan as PyTorch's compiler, exporter, autocast and transforms see it; and its step."""

import os
from typing import Any

import pytest
import torch
from torch import Tensor

from vidmamba.kernels.selective_scan import (
    selective_scan,
    selective_scan_reference,
    selective_scan_step,
)


def sequences(device: torch.device, width: int = 6, frames: int = 9) -> list[Tensor]:
    return [
        torch.randn(2, frames, width, device=device),
        torch.randn(2, frames, width, device=device) - 1,
        -torch.rand(width, 4, device=device),
        torch.randn(2, frames, 4, device=device),
        torch.randn(2, frames, 4, device=device),
    ]


LIGHT = ("test_schema", "test_autograd_registration", "test_faketensor")


# opcheck itself reads .grad of a tensor that is no leaf
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize(
    "utilities", [LIGHT, pytest.param(("test_aot_dispatch_dynamic",), marks=pytest.mark.slow)]
)
def test_operators_are_well_formed(utilities: tuple[str, ...], device: torch.device) -> None:
    u, delta, A, B, C = (t.requires_grad_() for t in sequences(device))
    D, bias = torch.randn(2, 6, device=device)
    z, state = torch.randn_like(u), torch.randn(2, 6, 4, device=device, requires_grad=True)
    full = (u, delta, A, B, C, D, z, bias, state, None, True, False, True)
    bare = (u, delta, A, B, C, None, None, None, None, None, False, True, True)
    scan, step = (
        torch.ops.vidmamba.selective_scan.default,
        torch.ops.vidmamba.selective_scan_step.default,
    )
    torch.library.opcheck(scan, full, test_utils=utilities)
    torch.library.opcheck(scan, bare, test_utils=utilities)
    given = [t.detach() for t in (state, u, delta, A, B, C)]
    torch.library.opcheck(step, (*given, D, z, bias, True), test_utils=utilities)


def test_compiles_without_a_graph_break(device: torch.device) -> None:
    arguments = [t.requires_grad_() for t in sequences(device)]

    def loss(*values: Tensor) -> Tensor:
        y, state = selective_scan(*values, delta_softplus=True, return_final_state=True)
        return y.square().sum() + state.sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(loss(*arguments), arguments)
    actual = torch.autograd.grad(compiled(*arguments), arguments)
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


class Scan(torch.nn.Module):
    def forward(self, *arguments: Tensor) -> Tensor:
        y: Tensor = selective_scan(*arguments, delta_softplus=True)
        return y


def test_exports_with_any_number_of_frames() -> None:
    arguments = sequences(torch.device("cpu"))
    frames = torch.export.Dim("frames", min=2, max=4096)
    shapes = (tuple({1: frames} if i != 2 else None for i in range(5)),)
    program = torch.export.export(Scan(), tuple(arguments), dynamic_shapes=shapes)
    longer = sequences(torch.device("cpu"), frames=40)
    assert torch.equal(program.module()(*longer), Scan()(*longer))


def test_autocast_changes_nothing(device: torch.device) -> None:
    arguments = sequences(device)
    expected = selective_scan(*arguments)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        assert torch.equal(selective_scan(*arguments), expected)


def test_vmap_and_grad_give_each_examples_own_gradients(device: torch.device) -> None:
    u, delta, A, B, C = sequences(device)

    def loss(rates: Tensor, *example: Tensor) -> Tensor:
        u, delta, B, C = (t[None] for t in example)
        y: Tensor = selective_scan(u, delta, rates, B, C, delta_softplus=True)
        return y.square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0, 0, 0))(A, u, delta, B, C)
    for i in range(2):
        alone = torch.func.grad(loss)(A, u[i], delta[i], B[i], C[i])
        torch.testing.assert_close(each[i], alone)


def test_tensors_that_are_not_contiguous_give_the_same_bits(device: torch.device) -> None:
    arguments = sequences(device)
    spread = [torch.stack([t, t], dim=-1)[..., 0] for t in arguments]
    assert not spread[0].is_contiguous()
    assert torch.equal(selective_scan(*spread), selective_scan(*arguments))


@pytest.mark.parametrize("pieces", [[9], [1] * 9, [2, 3, 4]], ids=str)
def test_stepping_equals_scanning(pieces: list[int], device: torch.device) -> None:
    u, delta, A, B, C = sequences(device)
    D, bias = torch.randn(2, 6, device=device)
    z, state = torch.randn_like(u), torch.randn(2, 6, 4, device=device)
    options: dict[str, Any] = {"D": D, "delta_bias": bias, "delta_softplus": True}
    whole, last = selective_scan(
        u, delta, A, B, C, z=z, initial_state=state, return_final_state=True, **options
    )
    parts = [
        selective_scan_step(state, now[0], now[1], A, now[2], now[3], z=now[4], **options)
        for now in zip(*(t.split(pieces, dim=1) for t in (u, delta, B, C, z)), strict=True)
    ]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    torch.testing.assert_close(state, last)


def test_a_step_refuses_what_it_cannot_do() -> None:
    u, delta, A, B, C = sequences(torch.device("cpu"))
    with pytest.raises(ValueError, match=r"initial_state must have shape \[2, 6, 4\]"):
        selective_scan_step(torch.zeros(2, 4, 6), u, delta, A, B, C)
    with pytest.raises(ValueError, match=r"contiguous torch.float32, got torch.bfloat16"):
        selective_scan_step(torch.zeros(2, 6, 4).bfloat16(), u, delta, A, B, C)
    with pytest.raises(ValueError, match="no gradient"):
        selective_scan_step(torch.zeros(2, 6, 4), u.requires_grad_(), delta, A, B, C)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_works_in_a_forked_worker_after_the_parent_scanned() -> None:
    # enough channels for several tasks, so that parent and child both use threads
    arguments = sequences(torch.device("cpu"), width=64, frames=200)
    expected = selective_scan(*arguments, delta_softplus=True)
    child = os.fork()
    if child == 0:
        try:
            same = torch.equal(selective_scan(*arguments, delta_softplus=True), expected)
            os._exit(0 if same else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def test_the_reference_is_the_definition() -> None:
    # by hand: h1 = 2 * 3 * 5 = 30, y1 = 7 h1; h2 = exp(-1) h1 + 1 * 1 * 1, y2 = 2 h2
    u, delta = torch.tensor([[[3.0], [1.0]]]), torch.tensor([[[2.0], [1.0]]])
    B, C = torch.tensor([[[5.0], [1.0]]]), torch.tensor([[[7.0], [2.0]]])
    y, state = selective_scan_reference(u, delta, torch.tensor([[-1.0]]), B, C)
    h = 30 * torch.exp(torch.tensor(-1.0)) + 1
    torch.testing.assert_close(y, torch.stack([torch.tensor(210.0), 2 * h]).view(1, 2, 1))
    torch.testing.assert_close(state, h.view(1, 1, 1))
