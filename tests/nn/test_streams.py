"""Who waits for whom, and what is held until then, told by streams that only keep a record."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from vidmamba.nn import streams
from vidmamba.nn.streams import mean_of_both

record: list[str] = []


class Stream:
    """Stands in for CUDA's."""

    def __init__(self, name: str) -> None:
        self.name = name

    def wait_stream(self, other: "Stream") -> None:
        record.append(f"{self.name} waits for {other.name}")


class OnCuda(Tensor):
    """Says that it is on a GPU."""

    is_cuda = True

    def record_stream(self, s: Any) -> None:
        record.append(f"held until {s.name} is done")


@pytest.fixture(autouse=True)
def _two_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    record.clear()
    first, second = Stream("first"), Stream("second")
    current = [first]

    @contextlib.contextmanager
    def stream(on: Stream) -> Iterator[None]:
        current.append(on)
        try:
            yield
        finally:
            current.pop()

    monkeypatch.setattr(streams, "_second_stream", lambda _: second)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: current[-1])
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)


def along(x: Tensor, *, offsets: Tensor | None) -> Tensor:
    record.append(f"along on {torch.cuda.current_stream(x.device).name}")  # type: ignore[attr-defined]
    return x + 1


def against(x: Tensor, *, offsets: Tensor | None) -> Tensor:
    record.append(f"against on {torch.cuda.current_stream(x.device).name}")  # type: ignore[attr-defined]
    return x - 3


def videos(**how: Any) -> Tensor:
    return torch.randn(1, 4, 3, **how).as_subclass(OnCuda)


BOTH_WAYS = [
    "second waits for first", "against on second", "along on first", "first waits for second",
    "second waits for first",
]  # fmt: skip


@torch.no_grad()
def test_each_stream_waits_for_the_other_before_memory_changes_hands() -> None:
    x = videos()
    torch.testing.assert_close(mean_of_both(along, against, x), x - 1)
    assert record == BOTH_WAYS


def test_what_fails_on_the_first_stream_leaves_it_waiting_for_the_second() -> None:
    def fail(x: Tensor, *, offsets: Tensor | None) -> Tensor:
        raise RuntimeError("out of memory")

    for mixers in ((fail, against), (along, fail)):
        with pytest.raises(RuntimeError, match="out of memory"), torch.no_grad():
            mean_of_both(*mixers, videos())
        assert record[-1] == "first waits for second"


def test_frames_without_a_gradient_are_held_for_the_second_streams_backward_pass() -> None:
    offsets = torch.tensor([0, 4]).as_subclass(OnCuda)
    mean_of_both(along, against, videos(), offsets=offsets)
    assert record == ["held until second is done"] * 2 + BOTH_WAYS
    record.clear()
    mean_of_both(along, against, videos(requires_grad=True), offsets=offsets)
    assert record == BOTH_WAYS


@torch.no_grad()
def test_no_stream_of_a_graph_is_left_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    mean_of_both(along, against, videos())
    assert record == BOTH_WAYS[:-1]
