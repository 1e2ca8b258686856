"""`triton.jit`, whose functions find at once what was compiled for arguments of the same kinds.

At every launch Triton binds the arguments, reads its environment, hashes all of it, and asks the
driver about every pointer, which takes tens of microseconds: below 16k frames longer than most
kernels run. Here a function written once for each list of argument types does what is left.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
import triton
from torch import Tensor
from triton.runtime.jit import JITFunction

HOOKS = triton.knobs.runtime
"""Holds what a profiler wants to have called at every launch."""


class _Found(JITFunction):  # type: ignore[misc]
    """A Triton function with a table of its compiled forms."""

    def __init__(self, function: Any, **how: Any) -> None:
        super().__init__(function, **how)
        self.constant = [parameter.is_constexpr for parameter in self.params]
        self.binders: dict[tuple[type, ...], Any] = {}
        self.found: dict[tuple[Any, ...], Any] = {}

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return partial(self.run, grid=grid, warmup=False)

    def run(self, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        """Launch; the arguments by name must be compile-time ones and options of the compiler."""
        if warmup:
            return super().run(*args, grid=grid, warmup=True, **kwargs)
        kinds = tuple(map(type, args))
        bind = self.binders.get(kinds)
        if bind is None:
            bind = self.binders[kinds] = _binder(kinds, self.constant)
        device, form, values = bind(*args)
        form = (device, kinds, form, *kwargs, *kwargs.values())
        found = self.found.get(form)
        if found is None or HOOKS.launch_enter_hook.calls or HOOKS.launch_exit_hook.calls:
            compiled = super().run(*args, grid=grid, warmup=False, **kwargs)
            if all(self.constant[len(args) :]):
                # the values of constants are in the code; only their places are asked for
                places = (None,) * (len(self.constant) - len(args))
                launch = compiled.run, compiled.function, compiled.packed_metadata, places
                self.found[form] = launch
            return
        launch, function, metadata, places = found
        stream = torch._C._cuda_getCurrentRawStream(device)
        x, y, z = grid + (1,) * (3 - len(grid))
        launch(x, y, z, stream, function, metadata, None, None, None, *values, *places)


def _binder(kinds: Sequence[type], constant: Sequence[bool]) -> Any:
    """Return a function of arguments of these types: their device, their form, what is launched.

    Two lists of arguments have one form if Triton compiles the same code for them: it looks at the
    dtypes of tensors and whether 16 divides their addresses, and of integers whether they are one,
    multiples of 16, or longer than 32 bits.
    """
    names = [f"a{i}" for i in range(len(kinds))]
    lines, form, values, device = [], [], list(names), "None"
    for i, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        if constant[i]:
            form.append(name)
        elif issubclass(kind, Tensor):
            if device == "None":
                device = f"{name}.get_device()"
            lines.append(f"    p{i} = {name}.data_ptr()\n")
            form += [f"{name}.dtype", f"p{i} & 15 == 0"]
            values[i] = f"p{i}"  # a number, of which the driver asks nothing
        elif issubclass(kind, int):
            form += [f"{name} == 1", f"{name} & 15 == 0", f"{name} >> 31"]
    source = (
        f"def bind({', '.join(names)}):\n{''.join(lines)}"
        f"    return {device}, ({''.join(f'{each}, ' for each in form)}), "
        f"({''.join(f'{each}, ' for each in values)})\n"
    )
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    return namespace["bind"]


def jit(do_not_specialize: Iterable[str] = ()) -> Callable[[Any], Any]:
    """Compile with Triton when first launched; not anew for each value of the parameters named."""

    def decorate(function: Any) -> Any:
        function = inspect.unwrap(function)  # Triton cannot look through a run-time type checker
        how = {"do_not_specialize": list(do_not_specialize)}
        compiled = triton.jit(**how)(function)
        # in the interpreter there is nothing to find
        return _Found(function, **how) if isinstance(compiled, JITFunction) else compiled

    return decorate
