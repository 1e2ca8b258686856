"""A change of code makes another key, and so another run."""

from pathlib import Path

import pytest

import vidmamba.benchmark.runs as runs
from vidmamba.benchmark.code import DECODING, HOME, LEARNING, PLACING, SCORING, code_key
from vidmamba.benchmark.runs import Run, load_run_data

from .conftest import Folder
from .test_choose import harness_of


def test_any_change_of_the_source_is_another_key(tmp_path: Path) -> None:
    (tmp_path / "nn").mkdir()
    (tmp_path / "losses.py").write_text("a = 1\n")
    (tmp_path / "nn" / "deep.py").write_text("b = 1\n")
    names = ("losses.py", "nn")

    def key() -> str:
        code_key.cache_clear()
        return code_key(names, tmp_path)

    seen = [key()]
    (tmp_path / "nn" / "deep.py").write_text("b = 2\n")
    seen.append(key())
    (tmp_path / "nn" / "deep.py").rename(tmp_path / "nn" / "wide.py")
    seen.append(key())
    (tmp_path / "losses.py").write_text("a = 2\n")
    seen.append(key())
    assert len({*seen}) == 4
    (tmp_path / "nn" / "notes.txt").write_text("not code")
    (tmp_path / "other.py").write_text("not named")
    (tmp_path / "losses.py").write_bytes(b"a = 2\r\n")
    assert key() == seen[-1]
    with pytest.raises(ValueError, match="gone: no Python source"):
        code_key(("gone",), tmp_path)


def test_every_part_that_is_named_holds_code() -> None:
    names = {*LEARNING, *PLACING, *DECODING, *SCORING}
    assert len({code_key((name,)) for name in names}) == len(names)
    assert (HOME / "kernels" / "selective_scan").is_dir()


def test_a_run_of_other_code_is_not_found_again(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = harness_of(folder, tmp_path, "other_splits")
    option = harness.options["rival"][0]
    run = Run(candidate=option.candidate, data=harness.splits.configs[1], seed=0)
    data = load_run_data(run)
    before = run.key(data)
    assert run.key(data) == before
    monkeypatch.setattr(runs, "code_key", lambda _: "of other code")
    assert run.key(data) != before
