"""How the gradients' work is divided: evenly, and with little memory beside what it is for."""

import math

import pytest
import torch

pytest.importorskip("triton")

from vidmamba.kernels.selective_scan import checks, plan
from vidmamba.kernels.selective_scan.kernel_room import count_places
from vidmamba.kernels.selective_scan.kernel_together import SLOTS

H100 = 132  # multiprocessors

SHAPES = [
    (8, 4096, 512), (1, 16384, 512), (1, 65536, 512), (1, 65536, 1536), (1, 262144, 512),
    (1, 16384, 1536), (4, 16384, 512),
]  # fmt: skip


def choose(monkeypatch: pytest.MonkeyPatch, batch: int, frames: int, width: int) -> plan.Plan:
    monkeypatch.setattr(plan, "_multiprocessors", lambda _: H100)
    u = torch.empty(batch, frames, width, device="meta")
    return plan.plan_backward(checks.cut(u, None, "cuda"), u, None)


@pytest.mark.parametrize(("batch", "frames", "width"), SHAPES)
def test_warps_wait_for_the_last_one_a_sixth_of_the_time_at_most(
    batch: int, frames: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks, abreast, warps, _ = choose(monkeypatch, batch, frames, width)
    blocks = width // checks.BLOCK
    walked = -(-chunks.total // abreast) * chunks.frames
    most = H100 * plan.SCHEDULERS * warps
    ideal = batch * frames * blocks / most
    assert ideal / walked > 5 / 6
    assert abreast * blocks <= most
    assert chunks.frames % chunks.span == 0
    assert chunks.span % 8 == 0
    assert chunks.total * chunks.frames >= batch * frames


@pytest.mark.parametrize("shape", [(1, 65536, 1536), (1, 262144, 512)])
def test_an_hour_of_video_needs_a_seventh_more_than_its_outputs_and_gradients(
    shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks, abreast, warps, _ = choose(monkeypatch, *shape)
    programs = abreast * shape[2] // checks.BLOCK
    parts, rows = programs * SLOTS * chunks.span * 32, chunks.total * 18 * chunks.width
    aside = programs * count_places(chunks.span, plan.WARPS[warps][0]) * 16 * checks.BLOCK
    # y and the gradients of u, delta and z, in bf16
    outputs_and_gradients = 4 * math.prod(shape) * 2
    assert 4 * (rows + parts + aside) < outputs_and_gradients / 7
