from typing import Any

import pytest
import torch
from torch import nn

from vidmamba.nn.attention import AttentionConfig, WindowAttention
from vidmamba.nn.block import PostNormBlock, PreNormBlock
from vidmamba.nn.mamba2 import Mamba2Config
from vidmamba.nn.rivals import DilatedConvolution
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


PATTERNS = ["M", "2", "A", "AF", "C", "L", "F", "MMA"]
SMALL: dict[str, Any] = {
    "width": 16,
    "depth": 3,
    "mamba2": Mamba2Config(state=8, head_size=8),
    "attention": AttentionConfig(window=4, heads=2, growth=2),
}


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("strides", [(1,), (2, 3)])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_packed_videos_are_mixed_as_if_each_were_alone(
    pattern: str, strides: tuple[int, ...], share: bool
) -> None:
    config = StackConfig(pattern=pattern, strides=strides, share_directions=share, **SMALL)
    stack = Stack(config).eval()
    videos = [torch.randn(1, frames, 16) for frames in (11, 1, 7, 30)]
    offsets = torch.tensor([0, 11, 12, 19, 49], dtype=torch.int32)
    packed = stack(torch.cat(videos, dim=1), offsets=offsets)
    alone = torch.cat([stack(video) for video in videos], dim=1)
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_in_a_causal_stack_no_frame_sees_a_later_one(pattern: str) -> None:
    stack = Stack(StackConfig(pattern=pattern, direction="causal", **SMALL)).eval()
    x = torch.randn(1, 20, 16)
    before = stack(x)[:, :9]
    x[:, 9:] += 3
    torch.testing.assert_close(stack(x)[:, :9], before, rtol=0, atol=0)


@pytest.mark.parametrize("pattern", [p for p in PATTERNS if p != "F"])
def test_every_parameter_of_every_pattern_learns(pattern: str) -> None:
    stack = Stack(StackConfig(pattern=pattern, **SMALL))
    stack(torch.randn(2, 9, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in stack.parameters())


def test_dilations_and_windows_grow_from_block_to_block() -> None:
    stack = Stack(StackConfig(pattern="CA", **SMALL | {"depth": 6}))
    mixers = [block.get_submodule("mixer") for block in stack.blocks]
    assert [m.gap for m in mixers if isinstance(m, DilatedConvolution)] == [1, 2, 4]
    assert [m.window for m in mixers if isinstance(m, WindowAttention)] == [4, 8, 16]


def test_shared_directions_have_half_the_parameters_and_differ_in_direction_alone() -> None:
    config = StackConfig(share_directions=True, **SMALL)
    count = sum(p.numel() for p in Stack(config).blocks.parameters())
    separate = sum(p.numel() for p in Stack(StackConfig(**SMALL)).blocks.parameters())
    norms = 3 * 16
    assert 2 * (count - norms) == separate - norms
    x = torch.randn(1, 12, 16)
    stack = Stack(config).eval()
    torch.testing.assert_close(stack(x.flip(1)).flip(1), stack(x), rtol=1e-4, atol=1e-5)


def test_a_pattern_of_unknown_letters_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'MX'"):
        StackConfig(pattern="MX")
    with pytest.raises(ValueError, match="causal"):
        StackConfig(direction="causal", strides=(1, 2))
    with pytest.raises(ValueError, match="strides"):
        StackConfig(strides=(0,))


def test_a_stack_of_negative_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        StackConfig(depth=-1)
