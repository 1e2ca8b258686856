"""Command lines and YAML files from the signatures of plain functions."""

import re
from collections.abc import Callable, Mapping, Sequence
from inspect import getdoc, signature
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, set_parsing_settings

Function = Callable[..., int]

set_parsing_settings(docstring_parse_attribute_docstrings=True)


def command_parser(function: Function) -> ArgumentParser:
    """Return the parser of one command: its options are the function's parameters."""
    parser = ArgumentParser(description=summary_of(function))
    parameters = signature(function).parameters
    if "config" not in parameters:
        parser.add_argument("--config", action="config", help="YAML file with any of these options")
    if "videos" in parameters:
        help_text = "video files, folders of them, or glob patterns"
        parser.add_argument("videos", nargs="+", type=str, metavar="VIDEO", help=help_text)
    parser.add_function_arguments(function, skip={"videos"})
    return parser


def summary_of(function: Function) -> str:
    """Return a function's docstring up to its arguments."""
    return (getdoc(function) or "").split("\nArgs:")[0]


def task_of(arguments: Sequence[str], known: Mapping[str, Function]) -> str:
    """Return the task that a `train` command line, or the config that it names, asks for.

    It decides which options there are, so it is looked up before they are parsed. The first known
    task where none is named, or one that does not exist: the parser then says so.
    """
    asked = next(iter(known))
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        value = value if equals else next(iter(arguments[place + 1 :]), "")
        if name == "--config" and Path(value).is_file():
            text = Path(value).read_text(encoding="utf-8", errors="replace")
            found = re.search(r"^task:\s*[\"']?(\w+)", text, flags=re.MULTILINE)
            asked = found[1] if found else asked
        elif name == "--task":
            asked = value
    return asked if asked in known else next(iter(known))


def values_of(function: Function, arguments: Sequence[str]) -> dict[str, Any]:
    """Parse options for a function, and return the values of its parameters."""
    parser = command_parser(function)
    options = parser.instantiate(parser.parse_args([*arguments])).as_dict()
    return {name: options[name] for name in signature(function).parameters}
