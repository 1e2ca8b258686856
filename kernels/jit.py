"""`triton.jit`, whose functions find at once what was compiled for arguments of the same kinds.

At every launch Triton binds the arguments, reads its environment and hashes all of it, which takes
tens of microseconds: below 16k frames longer than most kernels run.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, TypeVar

import triton
from torch import Tensor
from triton.runtime.jit import JITFunction

_Result = TypeVar("_Result")
_THREADS = 8  # that compile
_only_compiling = ContextVar("only_compiling", default=False)
_compiled: set[tuple[Any, ...]] = set()


def compiled_together(form: tuple[Any, ...], launches: Callable[[], _Result]) -> _Result:
    """Return ``launches()``, whose kernels would compile one after the other when first launched.

    Args:
        form: What the kernels are compiled for. When it is new, they are compiled at once before.
        launches: Is called once more then, when its kernels do not run.
    """
    if form not in _compiled:
        if not triton.knobs.runtime.interpret:
            with _compiling():
                launches()
        _compiled.add(form)
    return launches()


@contextlib.contextmanager
def _compiling() -> Iterator[None]:
    """Compile what is launched inside on several threads, and do not run it."""
    token = _only_compiling.set(True)
    try:
        with ThreadPoolExecutor(_THREADS) as threads, triton.AsyncCompileMode(threads):
            yield
    finally:
        _only_compiling.reset(token)


class _Found(JITFunction):  # type: ignore[misc]
    """A Triton function with a table of its compiled forms."""

    def __init__(self, function: Any, **how: Any) -> None:
        super().__init__(function, **how)
        self.found: dict[tuple[Any, ...], Any] = {}
        self.constant = [parameter.is_constexpr for parameter in self.params]

    def run(self, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        """Launch; the arguments by name must be compile-time ones and options of the compiler."""
        if warmup or _only_compiling.get():
            return super().run(*args, grid=grid, warmup=True, **kwargs)
        key: list[Any] = [args[0].get_device(), *kwargs, *kwargs.values()]
        for argument, constant in zip(args, self.constant, strict=False):
            if constant or argument is None:
                key.append(argument)
            elif isinstance(argument, Tensor):
                key.append(argument.dtype)
                key.append(argument.data_ptr() & 15 == 0)
            elif isinstance(argument, int):
                # what Triton compiles anew for: ones, multiples of 16, more than 32 bits
                key.append((argument == 1, argument & 15 == 0, argument.bit_length() > 31))
            else:
                key.append(type(argument))
        form = tuple(key)
        compiled = self.found.get(form)
        if compiled is None:
            compiled = super().run(*args, grid=grid, warmup=False, **kwargs)
            if all(self.constant[len(args) :]):
                self.found[form] = compiled
            return compiled
        # the values of constants are in the code; only their places are asked for
        places = (None,) * (len(self.constant) - len(args))
        return compiled[grid + (1,) * (3 - len(grid))](*args, *places)


def jit(do_not_specialize: Iterable[str] = ()) -> Callable[[Any], Any]:
    """Compile with Triton when first launched; not anew for each value of the parameters named."""

    def decorate(function: Any) -> Any:
        function = inspect.unwrap(function)  # Triton cannot look through a run-time type checker
        how = {"do_not_specialize": list(do_not_specialize)}
        compiled = triton.jit(**how)(function)
        # in the interpreter there is nothing to find
        return _Found(function, **how) if isinstance(compiled, JITFunction) else compiled

    return decorate
