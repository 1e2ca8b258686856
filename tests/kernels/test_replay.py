"""An operator's call done again must give what its lines would, and only such are done again."""

import ctypes
import itertools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from vidmamba.kernels.replay import calls, replayed
from vidmamba.kernels.replay.memory import ALIGNED, WORTH, Block, Result, best_turn, pack
from vidmamba.kernels.replay.watch import STREAM, Address, Launch
from vidmamba.kernels.running import RUNNING

ENTER = SimpleNamespace(calls=[])
HOOKS = SimpleNamespace(launch_enter_hook=ENTER, launch_exit_hook=SimpleNamespace(calls=[]))
STREAMS: list[Any] = []


@pytest.fixture(autouse=True)
def _streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._C, "_cuda_getDevice", lambda: None, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda _: 7, raising=False)
    monkeypatch.setattr(calls, "CALLS", 2)
    STREAMS.clear()


def add(stream: int, to: int, one: int, other: int, count: int) -> None:
    """A kernel: it knows addresses alone."""
    STREAMS.append(stream)
    total, a, b = ((ctypes.c_float * count).from_address(p) for p in (to, one, other))
    for i in range(count):
        total[i] = a[i] + b[i]


def launch(to: Tensor, one: Tensor, other: Tensor, count: int) -> None:
    """What `jit` does at a launch."""
    tensors = (to, one, other)
    add(7, to.data_ptr(), one.data_ptr(), other.data_ptr(), count)
    if RUNNING.watch is not None:
        RUNNING.watch.hooks = HOOKS
        addresses = (Address(t.data_ptr()) for t in tensors)
        RUNNING.watch.launches.append(Launch(add, (STREAM, *addresses, count)))


def two(*shape: int) -> tuple[Tensor, Tensor]:
    """Draw two tensors that lie as a GPU's do, at multiples of 256 bytes."""

    def draw() -> Tensor:
        numbers = torch.randn(math.prod(shape) + 64)
        first = -numbers.data_ptr() % 256 // 4
        return numbers[first : first + math.prod(shape)].view(shape)

    return draw(), draw()


class Counted:
    """An operator's CUDA code, and how often it ran."""

    def __init__(self, lines: Callable[..., Any]) -> None:
        self.lines, self.__name__, self.runs = lines, "lines", 0

    def __call__(self, *arguments: Any) -> Any:
        self.runs += 1
        return self.lines(*arguments)


def combine(x: Tensor, y: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    """3 x + 2 y, by way of memory that does not last, and the halves of x and y added up."""
    parts, count = x.new_empty(2, x.numel()), x.numel()
    launch(parts[0], x, y, count)
    launch(parts[1], parts[0], x, count)
    result, half = torch.empty_like(x), x.new_empty(count // 2 if keep else 0)
    launch(result, parts[1], parts[0], count)
    if keep:
        launch(half, x.view(-1)[count // 2 :], y, count // 2)
    return result, half


@pytest.mark.parametrize("keep", [False, True])
def test_calls_done_again_give_what_their_lines_would(keep: bool) -> None:
    counted = Counted(combine)
    run = replayed(counted)
    for _ in range(6):
        x, y = two(4, 6)
        result, half = run(x, y, keep)
        torch.testing.assert_close(result, 3 * x + 2 * y)
        expected = x.flatten()[12:] + y.flatten()[:12]
        assert torch.equal(half, expected if keep else x.new_empty(0))
    assert counted.runs == calls.CALLS + 1
    assert set(STREAMS) == {7}


def test_other_arguments_are_another_call() -> None:
    counted = Counted(combine)
    run = replayed(counted)
    numbers = torch.randn(100)
    usual, keep = (numbers[:24].view(4, 6), numbers[24:48].view(4, 6)), True
    for _ in range(5):
        run(*usual, keep)
    before = counted.runs
    run(*usual, keep)
    assert counted.runs == before
    x, y = usual
    others = [
        (x.view(6, 4), y.view(6, 4), keep),
        (x, y, False),
        (x, numbers[25:49].view(4, 6), keep),
    ]
    for other in others:  # of another shape, by another way, not as aligned
        run(*other)
    assert counted.runs == before + len(others)
    torch.testing.assert_close(run(x, y, keep)[0], 3 * x + 2 * y)


def test_a_tensor_given_twice_does_not_stand_for_two() -> None:
    run = replayed(Counted(combine))
    x, y = two(4, 6)
    for _ in range(5):
        run(x, x, True)
    torch.testing.assert_close(run(x, y, True)[0], 3 * x + 2 * y)


CONSTANT = torch.ones(24)


def computes(x: Tensor) -> Tensor:
    """Let PyTorch compute between launches."""
    y = torch.empty_like(x)
    launch(y, x, x, x.numel())
    return y + 1


def fills(x: Tensor) -> Tensor:
    """Ask for memory that is not only there."""
    y = torch.zeros_like(x)
    launch(y, x, x, x.numel())
    return y


def remembers(x: Tensor) -> Tensor:
    """Read what is neither given nor made."""
    y = torch.empty_like(x)
    launch(y, x, CONSTANT, x.numel())
    return y


def turns(x: Tensor) -> Tensor:
    """Return a view that no empty tensor is."""
    y = torch.empty_like(x)
    launch(y, x, x, x.numel())
    return y.t()


@pytest.mark.parametrize("lines", [computes, fills, remembers, turns])
def test_what_cannot_be_done_again_with_addresses_is_not(lines: Callable[[Tensor], Tensor]) -> None:
    counted = Counted(lines)
    run = replayed(counted)
    for number in range(1, 7):
        x, _ = two(4, 6)
        assert torch.equal(run(x), lines(x))
        assert counted.runs == number


def test_a_missed_launch_is_not_left_out() -> None:
    def lines(x: Tensor) -> Tensor:
        y = computed(x)
        if RUNNING.watch is not None:
            RUNNING.watch.missed = True
        return y

    def computed(x: Tensor) -> Tensor:
        y = torch.empty_like(x)
        launch(y, x, x, x.numel())
        return y

    counted = Counted(lines)
    run = replayed(counted)
    for _ in range(6):
        run(two(4, 6)[0])
    assert counted.runs == 6


def test_a_profiler_sees_every_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(combine)
    run = replayed(counted)
    x, y = two(4, 6)
    for _ in range(5):
        run(x, y, True)
    before = counted.runs
    monkeypatch.setattr(ENTER, "calls", [print])
    run(x, y, True)
    assert counted.runs == before + 1


def test_ever_other_lengths_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MOST", 4)
    counted = Counted(combine)
    run = replayed(counted)
    for _ in range(3):
        for frames in range(1, 12):
            x, y = two(frames, 2)
            torch.testing.assert_close(run(x, y, True)[0], 3 * x + 2 * y)


def test_memory_used_at_the_same_time_is_not_shared() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        count = int(torch.randint(1, 9, (), generator=generator))
        sizes = torch.randint(1, 5000, (count,), generator=generator).tolist()
        spans = torch.randint(0, 6, (count, 2), generator=generator).sort(dim=1).values.tolist()
        places, size = pack(sizes, [(a, b) for a, b in spans])
        assert all(place % ALIGNED == 0 for place in places)
        assert all(p + s <= size for p, s in zip(places, sizes, strict=True))
        for i, j in itertools.combinations(range(count), 2):
            if spans[i][0] <= spans[j][1] and spans[j][0] <= spans[i][1]:
                ends = places[i] + sizes[i], places[j] + sizes[j]
                assert ends[0] <= places[j] or ends[1] <= places[i]
        assert size <= sum(s + ALIGNED for s in sizes)


def test_a_call_that_holds_much_memory_is_not_held_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "LARGE", 23)
    counted = Counted(combine)
    run = replayed(counted)
    for _ in range(6):
        run(*two(4, 6), True)
    assert counted.runs == 6


def test_tensors_of_other_kinds_are_left_to_the_lines() -> None:
    class Odd(Tensor):
        """A subclass may mean anything."""

    counted = Counted(combine)
    run = replayed(counted)
    for _ in range(6):
        x, y = two(4, 6)
        run(x.as_subclass(Odd), y, True)
    assert counted.runs == 6


def test_memory_is_let_go_of_before_what_is_wanted_later_is_asked_for() -> None:
    MiB, count = 2**20, itertools.count()

    def made(size: int) -> Block:
        return Block(next(count), 0, "")._replace(first=0, end=size * MiB, name=f"m{next(count)}")

    spans = {made(40): (0, 3), made(8): (2, 7), made(16): (5, 8)}
    results = [Result([], 2 * MiB, 1), Result([], 6 * MiB, 8)]
    best = best_turn(9, spans, results)
    assert best.turn in (4, 5)
    assert best.peak == (40 + 8 + 2) * MiB
    assert best.first.size == 40 * MiB
    small = {made(1)._replace(end=WORTH // 2): (0, 3), made(1)._replace(end=WORTH // 2): (5, 8)}
    assert best_turn(9, small, []).turn == 0
