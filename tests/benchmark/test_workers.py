"""Jobs side by side and one by one: what fails, and what goes on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vidmamba.benchmark.workers import Job, Workers


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_one_run_that_fails_does_not_cost_the_others(count: int, tmp_path: Path) -> None:
    functions: dict[str, Callable[..., object]] = {
        "a": Path.touch,
        "b": Path.unlink,
        "c": Path.touch,
        "d": Path.touch,
    }
    jobs = [
        Job(name=name, function=function, arguments=(tmp_path / name,))
        for name, function in functions.items()
    ]
    with Workers(count) as pool, pytest.raises(FileNotFoundError) as caught:
        pool.do(jobs, "try")
    assert caught.value.__notes__[-1] == "in b"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "c", "d"}
