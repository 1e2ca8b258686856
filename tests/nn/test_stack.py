import pytest
import torch
from torch import nn

from vidmamba.nn.block import PostNormBlock, PreNormBlock
from vidmamba.nn.stack import Stack, StackConfig


class Doubler(nn.Module):
    """A mixer whose result is known."""

    def forward(self, x: torch.Tensor, *, offsets: torch.Tensor | None = None) -> torch.Tensor:
        return 2 * x


def unit_rms(x: torch.Tensor) -> torch.Tensor:
    return x / (x.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()


def test_a_pre_norm_block_adds_the_mixed_norm_to_its_input() -> None:
    x = 5 * torch.randn(1, 3, 8)
    torch.testing.assert_close(PreNormBlock(8, Doubler(), dropout=0.0)(x), x + 2 * unit_rms(x))


def test_a_post_norm_block_normalises_the_sum() -> None:
    x = 5 * torch.randn(1, 3, 8)
    torch.testing.assert_close(PostNormBlock(8, Doubler(), dropout=0.0)(x), unit_rms(3 * x))


def test_a_stack_without_blocks_treats_each_frame_alone() -> None:
    stack = Stack(StackConfig(width=8, depth=0))
    x = torch.randn(1, 5, 8)
    alone = torch.cat([stack(frame) for frame in x.split(1, dim=1)], dim=1)
    torch.testing.assert_close(stack(x), alone)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("direction", ["causal", "bidirectional"])
def test_only_a_bidirectional_stack_lets_a_frame_see_later_ones(direction: str, norm: str) -> None:
    config = StackConfig(width=8, depth=2, direction=direction, norm=norm)  # type: ignore[arg-type]
    stack = Stack(config).eval()
    x = torch.randn(1, 9, 8)
    before = stack(x)[:, :4]
    x[:, 4:] += 3
    assert torch.equal(stack(x)[:, :4], before) == (direction == "causal")


def test_a_stack_of_negative_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        StackConfig(depth=-1)
