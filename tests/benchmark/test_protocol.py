"""Protocols by which nothing can be chosen, and what a split may say of another."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vidmamba.benchmark import Protocol
from vidmamba.benchmark.protocol import ChooseBy

from .conftest import DECODINGS, Folder

Bench = Callable[..., Path]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"choose_by": "nested"}, "needs two splits or more"),
        ({"seeds": (1, 1)}, r"seeds must be different numbers, got \[1, 1\]"),
        ({"splits": ()}, r"splits must be different numbers, got \[\]"),
        ({"choose_seeds": 6}, "got 6 of 5"),
        ({"published": "breakfast"}, "one of 50salads_mid, gtea, got 'breakfast'"),
    ],
)
def test_a_protocol_that_cannot_be_is_refused(
    options: dict[str, Any], message: str, run_benchmark: Bench
) -> None:
    with pytest.raises(ValueError, match=message):
        run_benchmark(protocol=Protocol(**options))


def write_lists(folder: Folder, split: int, train: str, test: str) -> None:
    for part, numbers in (("train", train), ("test", test)):
        text = "".join(f"v{number}\n" for number in numbers)
        (folder.root / f"splits/{part}.split{split}.bundle").write_text(text)


@pytest.mark.parametrize("choose_by", ["other_splits", "nested"])
def test_two_halves_that_test_each_other_leave_nothing_to_choose_by(
    choose_by: ChooseBy, run_benchmark: Bench, folder: Folder, trained: list[str]
) -> None:
    write_lists(folder, 1, "0123", "45678")
    write_lists(folder, 2, "45678", "0123")
    with pytest.raises(ValueError, match=r"split 1: of what split 2 trains on, nothing is left"):
        run_benchmark(protocol=Protocol(splits=(1, 2), seeds=(0,), choose_by=choose_by))
    assert trained == []


def test_a_split_that_tests_only_what_another_tests_has_no_say_in_its_choice(
    run_benchmark: Bench, folder: Folder, trained: list[str]
) -> None:
    write_lists(folder, 2, "12345678", "0")  # split 1 tests v0 as well
    run_benchmark(
        protocol=Protocol(splits=(1, 2, 3), seeds=(0,), choose_by="nested"), decodings=DECODINGS
    )
    assert "probe, split 3 without test 1, seed 0" in trained
    assert "probe, split 2 without test 1, seed 0" not in trained


def test_choosing_by_a_validation_part_needs_one(
    run_benchmark: Bench, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Folder, "validation", 0.0)
    with pytest.raises(ValueError, match=r"no videos to choose by .*data\.validation above 0"):
        run_benchmark(protocol=Protocol(splits=(1, 2)))
