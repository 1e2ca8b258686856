"""`triton.jit`, whose functions find at once what was compiled for arguments of the same kinds.

At every launch Triton binds the arguments, reads its environment, hashes all of it, and asks the
driver about every pointer, which takes tens of microseconds: below 16k frames longer than most
kernels run. Here a function written once for each list of argument types does what is left.

What is launched for the first time is compiled together with all that follows it, in parallel.
"""

import contextlib
import inspect
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
import triton
from torch import Tensor
from triton.compiler import ASTSource
from triton.runtime.cache import triton_key
from triton.runtime.jit import JITFunction

from vidmamba.kernels.replay.watch import STREAM, Address, Launch
from vidmamba.kernels.running import RUNNING

HOOKS = triton.knobs.runtime
"""Holds what a profiler wants to have called at every launch."""

WORKERS = 16
"""More threads than a pass has large kernels would have nothing to do."""


class _Ahead(threading.local):
    """What a thread compiles ahead, if it does: functions, in which forms, for which arguments."""

    tasks: dict[tuple[Any, Any], tuple[Any, ...]]


AHEAD = _Ahead()


@contextlib.contextmanager
def compile_ahead() -> Iterator[None]:
    """Compile what would be launched, all at once, and launch nothing; wait at the end."""
    with ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1)) as pool:
        # for the keys of its cache Triton reads all of itself: every thread would, before one has
        begun = pool.submit(triton_key)
        AHEAD.tasks, RUNNING.compiles_ahead = {}, True
        try:
            yield
        finally:
            tasks = [*AHEAD.tasks.items()]
            AHEAD.tasks, RUNNING.compiles_ahead = {}, False
        begun.result()
        # the longest function first, as it takes longest
        tasks.sort(key=lambda task: -len(task[0][0].src))
        compiling = [pool.submit(function._load, *given) for (function, _), given in tasks]
    for done in compiling:
        done.result()


TURN = threading.Lock()
"""Held while a function's lines are read, which is Python and so is for one thread at a time.

The rest of a compiler's work is not: threads that read by turns would all come late to it.
"""


class _Source(ASTSource):  # type: ignore[misc]
    """A function that Triton compiles."""

    def make_ir(self, *how: Any, **named: Any) -> Any:
        """Read its lines."""
        with TURN:
            return super().make_ir(*how, **named)


class _Found(JITFunction):  # type: ignore[misc]
    """A Triton function with a table of its compiled forms."""

    def __init__(self, function: Any, **how: Any) -> None:
        super().__init__(function, **how)
        self.binders: dict[tuple[tuple[Any, ...], ...], Any] = {}
        self.found: dict[tuple[Any, ...], Any] = {}

    def create_binder(self) -> Any:
        """Get ready for a device, as Triton does but for who reads the lines."""
        ready = super().create_binder()
        self.ASTSource = _Source
        return ready

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return partial(self.launch, grid)

    def launch(self, grid: tuple[int, ...], *args: Any, **kwargs: Any) -> None:
        """Launch; what is given by name must not be a tensor."""
        kinds = (tuple(map(type, args)), tuple(kwargs))
        bind = self.binders.get(kinds)
        if bind is None:
            bind = self.binders[kinds] = _binder(self.params, *kinds)
        device, form, values = bind(args, kwargs)
        form = (device, kinds, form, *kwargs.values())
        found = self.found.get(form)
        if RUNNING.compiles_ahead:
            if found is None and (self, form) not in AHEAD.tasks:
                self.device_caches[device]  # made now: threads might make two
                AHEAD.tasks[self, form] = device, args, grid, kwargs
            return
        watch = RUNNING.watch
        if found is None:
            self._launch_first(form, args, grid, kwargs)
            if watch is not None:
                watch.missed = True
            return
        if HOOKS.launch_enter_hook.calls or HOOKS.launch_exit_hook.calls:
            self.run(*args, grid=grid, warmup=False, **kwargs)
            if watch is not None:
                watch.missed = True
            return
        launch, function, metadata, compiled = found
        stream = torch._C._cuda_getCurrentRawStream(device)
        x, y, z = grid + (1,) * (3 - len(grid))
        launch(x, y, z, stream, function, metadata, None, None, None, *values)
        if watch is not None:
            given = zip(args, values, strict=False)
            addresses = [Address(v) if isinstance(a, Tensor) else v for a, v in given]
            values = (*addresses, *values[len(args) :])
            watch.hooks = HOOKS
            call, arguments = _straight(launch, function, metadata, (x, y, z), values)
            watch.launches.append(Launch(call, arguments, compiled))

    def _launch_first(
        self, form: Any, args: tuple[Any, ...], grid: tuple[int, ...], kwargs: dict[str, Any]
    ) -> None:
        """Let Triton launch, and remember what it found."""
        whole, RUNNING.call = RUNNING.call, None
        # a graph being captured would take what is called for nothing; nobody differentiates
        # twice; and where memory is short, one kernel is compiled after the other
        if whole is not None and not torch.cuda.is_current_stream_capturing():
            with contextlib.suppress(NotImplementedError, torch.OutOfMemoryError), compile_ahead():
                whole()
        compiled = self.run(*args, grid=grid, warmup=False, **kwargs)
        # and hold it: forgotten by Triton, it would be unloaded, and the function be gone
        self.found[form] = compiled.run, compiled.function, compiled.packed_metadata, compiled

    def _load(
        self, device: int, args: tuple[Any, ...], grid: tuple[int, ...], kwargs: dict[str, Any]
    ) -> None:
        """Compile, and load to the device, in a thread of its own."""
        torch.cuda.set_device(device)
        compiled = self.run(*args, grid=grid, warmup=True, **kwargs)
        _ = compiled.run  # a property that loads


def _straight(
    run: Any, function: Any, metadata: Any, grid: tuple[int, ...], values: tuple[Any, ...]
) -> tuple[Any, tuple[Any, ...]]:
    """What is called at a launch: the function that Triton's launcher calls, where it is known."""
    version, hooks = triton.__version__.split(".")[:2], (metadata, None, None, None)
    where = (*grid, STREAM, function)
    scratch = getattr(run, "global_scratch_size", 1) or getattr(run, "profile_scratch_size", 1)
    if version not in (["3", "6"], ["3", "8"]) or scratch or getattr(run, "gsan_enabled", False):
        return run, (*where, *hooks[:1], None, None, None, *values)
    how = (run.launch_cooperative_grid, run.launch_pdl)
    if version == ["3", "6"]:
        return run.launch, (*where, *how, None, None, *hooks, *values)
    told = (run.arg_annotations, run.kernel_signature, values)
    return run.launch, (*where, *how, *hooks, None, None, *told)


def _binder(params: Sequence[Any], kinds: Sequence[type], named: Sequence[str]) -> Any:
    """Return a function of arguments of these types: their device, their form, what is launched.

    Two lists of arguments have one form if Triton compiles the same code for them: it looks at the
    dtypes of tensors and whether 16 divides their addresses, and of integers whether they are one,
    multiples of 16, or longer than 32 bits. What is given by name belongs to the form as it is.
    """
    lines, form, values, device = [], [], [], "None"
    for i, (parameter, kind) in enumerate(zip(params, kinds, strict=False)):
        value = f"a{i}"
        if parameter.is_constexpr:
            form.append(value)
        elif issubclass(kind, Tensor):
            if device == "None":
                device = f"a{i}.get_device()"
            value = f"p{i}"  # a number, of which the driver asks nothing
            lines.append(f"    p{i} = a{i}.data_ptr()\n")
            form += [f"a{i}.dtype", f"p{i} & 15 == 0"]
        elif issubclass(kind, int):
            form += [f"a{i} == 1", f"a{i} & 15 == 0", f"a{i} >> 31"]
        values.append(value)
    for parameter in params[len(kinds) :]:
        # the values of constants are in the code; only their places are asked for
        asked = parameter.name in named and not parameter.is_constexpr
        values.append(f"kwargs[{parameter.name!r}]" if asked else "None")
    source = (
        f"def bind(args, kwargs):\n    {_listed(f'a{i}' for i in range(len(kinds)))} = args\n"
        f"{''.join(lines)}    return {device}, ({_listed(form)}), ({_listed(values)})\n"
    )
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    return namespace["bind"]


def _listed(names: Iterable[str]) -> str:
    return "".join(f"{name}, " for name in names)


def jit(do_not_specialize: Iterable[str] = ()) -> Callable[[Any], Any]:
    """Compile with Triton when first launched; not anew for each value of the parameters named."""

    def decorate(function: Any) -> Any:
        function = inspect.unwrap(function)  # Triton cannot look through a run-time type checker
        how = {"do_not_specialize": list(do_not_specialize)}
        compiled = triton.jit(**how)(function)
        # in the interpreter there is nothing to find; for AMD, Triton looks at tensors' sizes too
        found = isinstance(compiled, JITFunction) and not torch.version.hip
        return _Found(function, **how) if found else compiled

    return decorate
