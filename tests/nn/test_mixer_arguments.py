"""What a mixer's kernels, which see addresses alone, would read beyond is refused at the door."""

from typing import Any

import pytest
import torch

from vidmamba.nn.mamba2 import Mamba2Config, Mamba2Mixer
from vidmamba.nn.mixer import CausalMixer, Mamba1Mixer, MambaConfig, MixerState

MIXERS: list[Any] = [
    lambda: Mamba1Mixer(8, MambaConfig(state=2)),
    lambda: Mamba2Mixer(8, Mamba2Config(state=2, head_size=4)),
]


@pytest.fixture(params=MIXERS, ids=["Mamba-1", "Mamba-2"])
def mixer(request: pytest.FixtureRequest) -> CausalMixer:
    made: CausalMixer = request.param()
    return made


@pytest.mark.parametrize("shape", [(0, 3, 8), (2, 0, 8)], ids=str)
def test_no_video_and_no_frame_are_refused(mixer: CausalMixer, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="without zeros"):
        mixer(torch.zeros(shape))
    with pytest.raises(ValueError, match="without zeros"):
        mixer.continue_from(torch.zeros(shape), mixer.empty_state(shape[0]))


@pytest.mark.parametrize(
    ("videos", "offsets", "said"),
    [
        (2, torch.tensor([0, 3]), "B = 2"),
        (1, torch.tensor([0.0, 3.0]), "float32"),
        (1, torch.tensor([0]), r"\[1\]"),
        (1, torch.tensor([[0, 3]]), r"\[1, 2\]"),
        (1, torch.zeros(2, dtype=torch.int32, device="meta"), "meta"),
    ],
)
def test_offsets_that_do_not_fit_are_refused(
    mixer: CausalMixer, videos: int, offsets: torch.Tensor, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        mixer(torch.zeros(videos, 3, 8), offsets=offsets)


def test_a_state_of_other_videos_is_refused(mixer: CausalMixer) -> None:
    x, state = torch.zeros(2, 3, 8), mixer.empty_state(2)
    for other in (mixer.empty_state(1), mixer.empty_state(3), MixerState(state.scan, state.conv)):
        with pytest.raises(ValueError, match="state of 2 videos"):
            mixer.continue_from(x, other)
    away = MixerState(state.conv, state.scan.to("meta"))
    with pytest.raises(ValueError, match="meta"):
        mixer.continue_from(x, away)
