"""Operators' CUDA code that is not run, but done again."""

from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any

import torch
from torch import Tensor

from vidmamba.kernels.replay.watch import Watch
from vidmamba.kernels.replay.writer import Writer, block
from vidmamba.kernels.running import RUNNING

CALLS = 16
"""How often arguments alike must have come before: by then the lines have cost as much as looking
on does, and lengths that vary seldom come again."""

MOST = 256
"""Functions kept of one operator for arguments of the same types, each some kilobytes."""

LARGE = 2**24
"""Numbers beyond which a GPU takes longer than the lines, and memory may be short."""

ALIGNMENT = 256
"""Bytes: products know of no wider alignment, kernels of none above 16."""

PLAIN = (Tensor, torch.nn.Parameter, type(None), bool, int, float)


@cache
def replayed(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Return an operator's CUDA code, which for arguments that came before is not run, but redone.

    What it launches must follow from its arguments' shapes, dtypes and numbers.
    """
    tables: dict[tuple[type, ...], tuple[Any, dict[Any, Any]]] = {}

    @wraps(kernel)
    def run(*arguments: Any) -> Any:
        kinds = tuple(map(type, arguments))
        if kinds not in tables:
            tables[kinds] = reader(kinds), {}
        read, table = tables[kinds]
        if read is None or RUNNING.compiles_ahead or RUNNING.watch is not None:
            return kernel(*arguments)
        key = read(*arguments)
        known = table.get(key, 0)
        if not isinstance(known, int):
            results = known(*arguments)
            return kernel(*arguments) if results is None else results
        if known == CALLS and can_watch(arguments):
            results, table[key] = _watch(kernel, arguments)
            return results
        if len(table) >= MOST:
            table.clear()
        table[key] = min(known + 1, CALLS)
        return kernel(*arguments)

    return run


def can_watch(arguments: Sequence[Any]) -> bool:
    """Whether a call may wait for the device, and hold what it makes."""
    x = next(a for a in arguments if isinstance(a, Tensor))
    return x.numel() <= LARGE and not (
        torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
    )


def reader(kinds: Sequence[type]) -> Any:
    """Return a function of arguments of these types: all that a launch may depend on."""
    if not any(issubclass(kind, Tensor) for kind in kinds) or not set(kinds).issubset(PLAIN):
        return None
    told, device = [], ""
    for i, kind in enumerate(kinds):
        if issubclass(kind, Tensor):
            device = device or f"a{i}.get_device()"
            told.append(
                f"a{i}.shape, a{i}.dtype, a{i}.data_ptr() % {ALIGNMENT}, a{i}.is_contiguous()"
            )
        elif kind is not type(None):
            told.append(f"a{i}")
    names = ", ".join(f"a{i}" for i in range(len(kinds)))
    return eval(f"lambda {names}: ({device}, {', '.join(told)})")


def watched(lines: Callable[[], Any]) -> tuple[Any, Watch]:
    """Run lines; return their results and what was seen."""
    watch = Watch()
    RUNNING.watch = watch
    try:
        with watch:
            return lines(), watch
    finally:
        RUNNING.watch = None


def _watch(kernel: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, Any]:
    """Run a kernel; return its results, and what is to be called for arguments alike."""
    results, watch = watched(lambda: kernel(*arguments))
    names = [f"a{i}" for i in range(len(arguments))]
    single = isinstance(results, Tensor)
    try:
        given = [
            block(t, f"p{name}", name)
            for name, t in zip(names, arguments, strict=True)
            if isinstance(t, Tensor) and t.numel() > 0
        ]
        device = next(a.device for a in arguments if isinstance(a, Tensor))
        writer = Writer(watch, names, given, device)
        own = ", ".join(writer.own([results] if single else results))
    except NotImplementedError:
        return results, kernel
    whole = f"[{own}]" if isinstance(results, list) else f"({own},)"
    return results, writer.write(own if single else whole)
