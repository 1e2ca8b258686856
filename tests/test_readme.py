"""The README's commands exist; `.ci/run` runs them all, word for word."""

import runpy
import shlex
from pathlib import Path

import pytest

from vidmamba.cli import build_parser

ROOT = Path(__file__).resolve().parents[1]
commands = runpy.run_path(str(ROOT / "tools" / "run_readme.py"))["commands"]
COMMANDS = commands((ROOT / "README.md").read_text())


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_one_that_exists(command: str) -> None:
    name, *arguments = shlex.split(command)
    if name == "make":
        assert f"\n{arguments[0]}:" in (ROOT / "Makefile").read_text()
    else:
        assert name == "vidmamba"
        build_parser().parse_args(arguments)


def test_comments_are_dropped_and_continued_lines_are_joined() -> None:
    readme = "```sh\na b \\\n  c   # why\n# only words\nd\n```\n```python\nnot this\n```\n"
    assert commands(readme) == ["a b    c", "d"]


def test_ci_runs_them() -> None:
    assert "tools/run_readme.py" in (ROOT / ".ci" / "run").read_text()
