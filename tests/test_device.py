"""Where models run."""

import pytest
import torch

from vidmamba.device import device_of


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("wanted", ["auto", "gpu"])
def test_a_gpu_is_used_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, wanted: str, gpu: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert device_of(wanted) == ("cuda" if gpu else "cpu")


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("wanted", ["cpu", "cuda:1"])
def test_a_device_asked_for_by_name_is_the_device(
    monkeypatch: pytest.MonkeyPatch, wanted: str, gpu: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert device_of(wanted) == wanted
