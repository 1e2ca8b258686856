"""The Mamba-1 mixer against Hugging Face's, and the invariants that long video needs."""

import pytest
import torch
from transformers import MambaConfig as HuggingFaceConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

from vidmamba.nn.mixer import Bidirectional, Mamba1Mixer, MambaConfig

WIDTH = 24


def hugging_face_mixer(config: MambaConfig) -> MambaMixer:
    theirs = HuggingFaceConfig(
        hidden_size=WIDTH,
        state_size=config.state,
        conv_kernel=config.conv_size,
        expand=config.expand,
        time_step_rank="auto",
        use_conv_bias=True,
        use_bias=False,
    )
    return MambaMixer(theirs, layer_idx=0)


@pytest.mark.parametrize("config", [MambaConfig(), MambaConfig(state=5, conv_size=3, expand=1)])
def test_equals_hugging_faces_mixer_with_its_weights_loaded_by_name(config: MambaConfig) -> None:
    ours, theirs = Mamba1Mixer(WIDTH, config), hugging_face_mixer(config)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 37, WIDTH)
    expected = theirs(x).detach()
    torch.testing.assert_close(
        ours(x), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max())
    )


def test_a_frame_of_a_causal_mixer_depends_on_no_later_frame() -> None:
    mixer = Mamba1Mixer(WIDTH, MambaConfig())
    x = torch.randn(1, 12, WIDTH, requires_grad=True)
    mixer(x)[:, 5].sum().backward()
    assert x.grad is not None
    assert (x.grad[:, :6].abs().sum(dim=-1) > 0).all()
    assert torch.equal(x.grad[:, 6:], torch.zeros_like(x.grad[:, 6:]))


def test_a_reverse_mixer_is_a_causal_one_on_the_video_played_backwards() -> None:
    along = Mamba1Mixer(WIDTH, MambaConfig())
    against = Mamba1Mixer(WIDTH, MambaConfig(), reverse=True)
    against.load_state_dict(along.state_dict())
    x = torch.randn(2, 19, WIDTH)
    torch.testing.assert_close(against(x), along(x.flip(1)).flip(1), rtol=1e-5, atol=1e-6)


def test_packed_videos_get_what_each_gets_alone() -> None:
    mixer = Bidirectional(
        Mamba1Mixer(WIDTH, MambaConfig()), Mamba1Mixer(WIDTH, MambaConfig(), reverse=True)
    )
    videos = [torch.randn(1, frames, WIDTH) for frames in (1, 17, 4)]
    offsets = torch.tensor([0, 1, 18, 22], dtype=torch.int32)
    packed = mixer(torch.cat(videos, dim=1), offsets=offsets)
    alone = torch.cat([mixer(video) for video in videos], dim=1)
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sizes", [(23,), (1, 22), (7, 1, 15), (1,) * 23], ids=str)
def test_chunks_with_carried_state_equal_the_whole_video(sizes: tuple[int, ...]) -> None:
    mixer = Mamba1Mixer(WIDTH, MambaConfig())
    x = torch.randn(2, 23, WIDTH)
    state, parts = mixer.empty_state(videos=2), []
    for chunk in x.split(list(sizes), dim=1):
        part, state = mixer.continue_from(chunk, state)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), mixer(x), rtol=1e-4, atol=1e-6)


def test_gradients_flow_through_carried_state_as_through_the_whole_video() -> None:
    mixer = Mamba1Mixer(WIDTH, MambaConfig())
    x = torch.randn(1, 10, WIDTH)
    mixer(x).square().sum().backward()
    assert mixer.in_proj.weight.grad is not None
    whole = mixer.in_proj.weight.grad.clone()
    mixer.zero_grad()
    first, state = mixer.continue_from(x[:, :4], mixer.empty_state(videos=1))
    second, _ = mixer.continue_from(x[:, 4:], state)
    (first.square().sum() + second.square().sum()).backward()
    torch.testing.assert_close(mixer.in_proj.weight.grad, whole, rtol=1e-4, atol=1e-5)


def test_a_reverse_mixer_refuses_to_go_on_with_later_frames() -> None:
    mixer = Mamba1Mixer(WIDTH, MambaConfig(), reverse=True)
    with pytest.raises(ValueError, match="against time"):
        mixer.continue_from(torch.randn(1, 3, WIDTH), mixer.empty_state(videos=1))


def test_initial_step_sizes_lie_between_the_two_that_the_config_names() -> None:
    mixer = Mamba1Mixer(256, MambaConfig(dt_min=0.01, dt_max=0.05))
    steps = torch.nn.functional.softplus(mixer.dt_proj.bias)
    assert steps.min() >= 0.01 * 0.999
    assert steps.max() <= 0.05 * 1.001
    assert steps.max() > 2 * steps.min()


@pytest.mark.parametrize("bad", [{"state": 0}, {"conv_size": 0}, {"dt_min": 0.2}], ids=str)
def test_sizes_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        MambaConfig(**bad)  # type: ignore[arg-type]
