"""Sees what a call asks of PyTorch and of Triton, so that it can be done again."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten
ALLOCATE = (
    _ATEN.empty.memory_format, _ATEN.empty_like.default, _ATEN.new_empty.default,
    _ATEN.empty_strided.default, _ATEN.new_empty_strided.default,
)  # fmt: skip
MULTIPLY = {_ATEN.mm.default: torch.mm, _ATEN.bmm.default: torch.bmm}

STREAM = object()
"""Stands in a launch's arguments for the current stream."""


class Address(NamedTuple):
    """Stands in a launch's arguments for a tensor."""

    pointer: int


class Operand(NamedTuple):
    """Stands in a product's arguments for a matrix, which PyTorch wants as a tensor."""

    pointer: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Launch(NamedTuple):
    """A call that launches kernels on a device."""

    call: Callable[..., Any]
    arguments: tuple[Any, ...]
    holds: Any = None
    """What must not be let go of: the arguments are handles of its."""


class Watch(TorchDispatchMode):
    """Sees what PyTorch is asked for; `jit` tells it what Triton launches."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Tensor] = []  # held, so that no address comes twice
        self.launches: list[Launch] = []
        self.hooks: Any = None  # what a profiler wants to have called at a launch
        self.missed = False
        """Whether anything happened that cannot be done again with addresses alone."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in MULTIPLY:
            return self._multiply(func, *args)
        if func is _ATEN.addmm_.default and len(args) == 3:
            return self._add_product(*args, **kwargs)
        if _is_composed(func):
            with self:
                return func.decompose(*args, **kwargs)
        result = func(*args, **kwargs)
        if func in ALLOCATE:
            self.made.append(result)
        elif func is not _ATEN._unsafe_view.default and (
            func._schema.is_mutable or not all(r.alias_info for r in func._schema.returns)
        ):
            self.missed = True
        return result

    def _multiply(self, func: Any, a: Tensor, b: Tensor) -> Tensor:
        result: Tensor = func(a, b)
        self.made.append(result)
        arguments = (operand(a), operand(b))
        self.launches.append(Launch(_into(MULTIPLY[func]), (*arguments, operand(result))))
        return result

    def _add_product(self, total: Tensor, a: Tensor, b: Tensor, **scales: Any) -> Tensor:
        arguments = (operand(total), operand(a), operand(b))
        self.launches.append(Launch(partial(Tensor.addmm_, **scales), arguments))
        return total.addmm_(a, b, **scales)


def _into(multiply: Any) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return a product that is written to its third argument."""
    return lambda a, b, out: multiply(a, b, out=out)


def operand(matrix: Tensor) -> Operand:
    """Describe a tensor."""
    return Operand(matrix.data_ptr(), matrix.dtype, tuple(matrix.shape), matrix.stride())


def _is_composed(func: Any) -> bool:
    """Whether PyTorch computes it by other operators, which are what is to be seen."""
    has_kernel: bool = torch._C._dispatch_has_kernel_for_dispatch_key(
        func.name(), "CompositeImplicitAutograd"
    )
    return has_kernel
