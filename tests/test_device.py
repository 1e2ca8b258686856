"""Where models run."""

import pytest
import torch

from vidmamba.device import device_of


@pytest.mark.parametrize(
    ("wanted", "gpu", "device"),
    [
        ("auto", False, "cpu"),
        ("auto", True, "cuda"),
        ("gpu", False, "cpu"),
        ("gpu", True, "cuda"),
        ("cpu", True, "cpu"),
        ("cuda:1", True, "cuda:1"),
        ("cuda", False, "cuda"),
    ],
)
def test_a_gpu_is_used_where_there_is_one_and_a_device_asked_for_by_name_is_the_device(
    monkeypatch: pytest.MonkeyPatch, wanted: str, gpu: bool, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert device_of(wanted) == device
