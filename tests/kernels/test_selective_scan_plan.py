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
    chunks, _, abreast, _ = choose(monkeypatch, batch, frames, width)
    blocks = width // plan.BLOCK
    walked = -(-chunks.total // abreast) * chunks.frames
    ideal = batch * frames * blocks / (H100 * plan.WARPS)
    assert ideal / walked > 5 / 6
    assert abreast * blocks <= H100 * plan.WARPS
    assert chunks.frames % checks.CUDA_SEGMENT == 0
    assert chunks.total * chunks.frames >= batch * frames
