"""How the gradients' work is divided: evenly, and with little memory beside what it is for."""

import pytest
import torch

from vidmamba.kernels.selective_scan import checks, plan

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
    chunks, group, programs = choose(monkeypatch, batch, frames, width)
    blocks = -(-min(chunks.width, width) // plan.BLOCK)
    items = chunks.total * -(-blocks // group)
    walked = -(-items // programs) * group * chunks.frames * -(-width // chunks.width)
    ideal = batch * frames * (width // plan.BLOCK) / (H100 * plan.WARPS)
    assert ideal / walked > 5 / 6
    assert chunks.frames % checks.CUDA_SEGMENT == 0
    assert chunks.total * chunks.frames >= batch * frames


def test_an_hour_of_video_needs_a_seventh_more_than_its_outputs_and_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chunks, group, programs = choose(monkeypatch, 1, 65536, 1536)
    groups = -(-chunks.width // (plan.BLOCK * group))
    rows, parts = chunks.total * 34 * chunks.width, groups * chunks.total * chunks.frames * 32
    aside = programs * 13 * 16 * plan.BLOCK
    outputs_and_gradients = 4 * 65536 * 1536 * 2  # y and those of u, delta and z, in bf16
    assert 4 * (rows + parts + aside) < outputs_and_gradients / 7
