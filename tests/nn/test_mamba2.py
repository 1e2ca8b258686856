"""The Mamba-2 mixer against Hugging Face's, and the invariants that long video needs."""

import pytest
import torch
from transformers import Mamba2Config as HuggingFaceConfig
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer as HuggingFaceMixer

from vidmamba.nn.mamba2 import Mamba2Config, Mamba2Mixer

WIDTH = 32
CONFIG = Mamba2Config(state=16, head_size=16, groups=2)


@pytest.mark.parametrize("config", [CONFIG, Mamba2Config(state=8, head_size=32, conv_size=3)])
def test_equals_hugging_faces_mixer_with_its_weights_loaded_by_name(config: Mamba2Config) -> None:
    theirs = HuggingFaceMixer(
        HuggingFaceConfig(
            hidden_size=WIDTH,
            state_size=config.state,
            head_dim=config.head_size,
            num_heads=config.expand * WIDTH // config.head_size,
            n_groups=config.groups,
            expand=config.expand,
            conv_kernel=config.conv_size,
            use_conv_bias=True,
            use_bias=False,
            chunk_size=16,
        ),
        layer_idx=0,
    )
    with torch.no_grad():  # its bare module leaves these as a pretrained model would fill them
        for parameter in (theirs.dt_bias, theirs.A_log, theirs.D):
            parameter.copy_(torch.rand_like(parameter))
    ours = Mamba2Mixer(WIDTH, config)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 37, WIDTH)
    expected = theirs(x).detach()
    torch.testing.assert_close(
        ours(x), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max())
    )


@pytest.mark.parametrize("sizes", [(1, 22), (7, 1, 15)], ids=str)
def test_chunks_with_carried_state_equal_the_whole_video(sizes: tuple[int, ...]) -> None:
    mixer = Mamba2Mixer(WIDTH, CONFIG)
    x = torch.randn(2, 23, WIDTH)
    state, parts = mixer.empty_state(videos=2), []
    for chunk in x.split(list(sizes), dim=1):
        part, state = mixer.continue_from(chunk, state)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), mixer(x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_packed_videos_get_what_each_gets_alone(reverse: bool) -> None:
    mixer = Mamba2Mixer(WIDTH, CONFIG, reverse=reverse)
    videos = [torch.randn(1, frames, WIDTH) for frames in (1, 17, 4)]
    offsets = torch.tensor([0, 1, 18, 22], dtype=torch.int32)
    packed = mixer(torch.cat(videos, dim=1), offsets=offsets)
    alone = torch.cat([mixer(video) for video in videos], dim=1)
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-5)


def test_heads_that_do_not_divide_the_width_are_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match="64 must split into heads of 48"):
        Mamba2Mixer(WIDTH, Mamba2Config(head_size=48))
