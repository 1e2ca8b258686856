"""The ``vidmamba`` command: each sub-command is a plain function, its options are the signature."""

import sys
from collections.abc import Sequence
from inspect import signature

from jsonargparse import ArgumentParser

from vidmamba import __version__
from vidmamba.benchmark import benchmark, benchmark_captions
from vidmamba.commands.demo import demo
from vidmamba.commands.evaluate import evaluate
from vidmamba.commands.extract import extract
from vidmamba.commands.parsing import Function, command_parser, summary_of, task_of
from vidmamba.commands.predict import caption, predict
from vidmamba.commands.train import TRAIN

EPILOG = (
    "Results go to stdout, logs and progress to stderr; the exit code is 0 where all went well."
)

COMMANDS: dict[str, Function] = {
    "demo": demo,
    "extract": extract,
    "train": TRAIN["segmentation"],
    "evaluate": evaluate,
    "benchmark": benchmark,
    "predict": predict,
    "caption": caption,
}


BENCHMARKS: dict[str, Function] = {"segmentation": benchmark, "captioning": benchmark_captions}


def functions_of(arguments: Sequence[str]) -> dict[str, Function]:
    """Return what each sub-command calls; two are other functions for other tasks."""
    return COMMANDS | {
        "train": TRAIN[task_of(arguments, TRAIN)],
        "benchmark": BENCHMARKS[task_of(arguments, BENCHMARKS)],
    }


def build_parser(arguments: Sequence[str] = ()) -> ArgumentParser:
    """Return the parser of the whole command line, for these arguments."""
    parser = ArgumentParser(
        prog="vidmamba",
        version=__version__,
        description="Understand long videos: embed frames, train on them, name what happens when.",
        epilog=EPILOG,
    )
    commands = parser.add_subcommands(dest="command")
    for name, function in functions_of(arguments).items():
        summary = summary_of(function).split("\n\n")[0]
        commands.add_subcommand(name, command_parser(function), help=summary)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    given = [*(sys.argv[1:] if arguments is None else arguments)]
    parser = build_parser(given)
    parsed = parser.parse_args(given)
    function = functions_of(given)[parsed.command]
    try:
        options = parser.instantiate(parsed)  # here configs refuse values
        values = options[options.command].as_dict()
        return function(**{name: values[name] for name in signature(function).parameters})
    except (ValueError, OSError) as error:
        where = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        print(f"vidmamba {parsed.command}: {error}{where}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it can", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
