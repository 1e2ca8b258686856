"""How the gradients' work is divided: evenly, and with little memory beside what it is for."""

import math

import pytest
import torch

pytest.importorskip("triton")

from vidmamba.kernels.selective_scan import checks, plan
from vidmamba.kernels.selective_scan.kernel_room import count_places
from vidmamba.kernels.selective_scan.setting import copied

H100 = 132  # multiprocessors

SHAPES = [
    (8, 4096, 512), (1, 16384, 512), (1, 65536, 512), (1, 65536, 1536), (1, 262144, 512),
    (1, 16384, 1536), (4, 16384, 512),
]  # fmt: skip


def choose(monkeypatch: pytest.MonkeyPatch, batch: int, frames: int, width: int) -> plan.Plan:
    monkeypatch.setattr(plan, "_multiprocessors", lambda _: H100)
    u = torch.empty(batch, frames, width, device="meta", dtype=torch.bfloat16)
    return plan.plan_backward(checks.cut(u, None, "cuda"), u, None)


@pytest.mark.parametrize(("batch", "frames", "width"), SHAPES)
def test_warps_wait_for_the_last_one_a_sixth_of_the_time_at_most(
    batch: int, frames: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks, abreast, *_ = choose(monkeypatch, batch, frames, width)
    blocks = width // checks.BLOCK
    walked = -(-chunks.total // abreast) * chunks.frames
    most = H100 * plan.PROGRAMS
    ideal = batch * frames * blocks / most
    assert ideal / walked > 5 / 6
    assert abreast * blocks <= most
    assert chunks.frames % chunks.span == 0
    assert chunks.span % 8 == 0
    assert chunks.total * chunks.frames >= batch * frames


@pytest.mark.parametrize("shape", [(1, 4096, 512), *SHAPES])
def test_a_scan_needs_a_quarter_more_than_its_outputs_and_gradients(
    shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks, abreast, _, per, slots = choose(monkeypatch, *shape)
    programs = abreast * shape[2] // checks.BLOCK
    parts, ends = programs * slots * per * chunks.span * 32, chunks.total * 19 * chunks.width
    aside = programs * count_places(chunks.span, plan.SLOTS) * 16 * checks.BLOCK
    rows = 2 * chunks.total * chunks.frames * 16
    # y and the gradients of u, delta and z, in bf16; u's lies where states were kept. mamba_ssm
    # holds outputs before the gate, which are as large as each of these
    outputs_and_gradients = 4 * math.prod(shape) * 2
    assert chunks.kept * 16 * chunks.width * 4 == math.prod(shape) * 2
    assert 4 * (rows + ends + parts + aside) < outputs_and_gradients / 4


def test_rows_are_copied_by_pieces_that_all_of_them_are_made_of_and_begin_with() -> None:
    rows = torch.zeros(1, 3, 8).bfloat16()
    late = torch.zeros(25).bfloat16()[1:].view(1, 3, 8)
    assert copied(rows, rows)
    assert copied(rows.float())
    assert not copied(rows, late)
    assert not copied(rows, rows.float())
    assert not copied(rows[:, :, :4].contiguous())
