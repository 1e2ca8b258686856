"""Writes functions that do a watched call again: they ask for memory, and launch.

Between its launches an operator's lines work out sizes, ask for tensors, cut them into parts and
name them to kernels, which in eager mode takes longer than short kernels run. All of that follows
from shapes, dtypes and numbers. So if a call did nothing but allocate, view and launch, a function
is written that does the same with addresses alone. What lives only within the call shares a few
buffers (see `memory`), and what is kept for the backward pass one.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidmamba.kernels.replay.memory import ALIGNED, Block, Result, best_turn
from vidmamba.kernels.replay.watch import STREAM, Address, Launch, Operand, Watch, operand
from vidmamba.kernels.sizes import cdiv


class View(NamedTuple):
    """A tensor in a buffer."""

    place: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, buffer: Tensor) -> Tensor:
        """The tensor."""
        numbers = buffer.view(torch.uint8)
        size = self.dtype.itemsize
        numbers = numbers[: len(numbers) // size * size].view(self.dtype)
        return numbers.as_strided(self.shape, self.strides, self.place // size)


class Writer:
    """Writes one function.

    Raises:
        NotImplementedError: If the call cannot be done again.
    """

    def __init__(
        self, watch: Watch, names: Sequence[str], given: Sequence[Block], device: torch.device
    ) -> None:
        """Prepare for a function.

        Args:
            watch: What saw the call.
            names: Of the function's arguments.
            given: What memory of theirs kernels may read.
            device: Where.
        """
        demand(not watch.missed and len(watch.launches) > 0 and len(given) > 0)
        order = sorted(given)
        # a tensor given twice would stand for two
        demand(all(a.end <= b.first for a, b in itertools.pairwise(order)))
        self.watch, self.names, self.given, self.device = watch, names, given, device
        self.made = [block(t, f"m{i}", "") for i, t in enumerate(watch.made) if t.numel() > 0]
        self.space: dict[str, Any] = {
            "hooks": watch.hooks, "current": torch._C._cuda_getDevice,
            "stream_of": torch._C._cuda_getCurrentRawStream,
            "held": [launch.holds for launch in watch.launches],
        }  # fmt: skip
        arguments = [a for launch in watch.launches for a in launch.arguments]
        dtypes = [a.dtype for a in arguments if isinstance(a, Operand)]
        # buffers are of what products want to read of them
        self.kind = dtypes[0] if dtypes else torch.uint8
        self.uses: dict[str, list[int]] = {}
        self.calls = [self._call(i, launch) for i, launch in enumerate(watch.launches)]
        self.found: dict[str, Block] = {b.name: b for b in given}
        """Where blocks are."""
        self.lines: list[str] = []
        self.results: list[Result] = []

    def own(self, tensors: Sequence[Tensor | None]) -> list[str]:
        """Give results memory of their own; return their names."""
        names = []
        for i, tensor in enumerate(tensors):
            if tensor is None:
                names.append("None")
                continue
            lines, size, first = [f"o{i} = {self._new(tuple(tensor.shape), tensor.dtype)}"], 0, 0
            names.append(f"o{i}")
            if tensor.numel() > 0:
                made = self._take(block(tensor, "", f"o{i}"), whole=True)
                lines.append(f"{made.name} = o{i}.data_ptr()")
                like = operand(tensor)
                self.found[made.name] = made._replace(tensor=f"o{i}", like=like)
                size, first = tensor.nbytes, min(self.uses.get(made.name, [0]))
            self.results.append(Result(lines, size, first))
        return names

    def share(self, tensors: Sequence[Tensor | None]) -> tuple[list[View | None], list[Block]]:
        """Put what these lie in into one buffer, ``kept``; return where."""
        inside: dict[Block, int] = {}
        views: list[View | None] = []
        size = 0
        for tensor in tensors:
            if tensor is None:
                views.append(None)
                continue
            pointer = tensor.data_ptr()
            around = next((b for b in inside if b.has(pointer)), None)
            if around is None:
                around = self._take(Block(pointer, pointer + 1, ""), whole=False)
                inside[around] = size
                size += cdiv(around.end - around.first, ALIGNED) * ALIGNED
            place = inside[around] + pointer - around.first
            views.append(View(place, tensor.dtype, tuple(tensor.shape), tensor.stride()))
        if not inside:
            self.lines.append("kept = None")
            return views, []
        kept = [b._replace(tensor="kept", place=p, like=None) for b, p in inside.items()]
        self.lines += self._buffer("kept", size, kept)
        return views, kept

    def _new(self, shape: tuple[int, ...], dtype: torch.dtype) -> str:
        """What asks for memory."""
        like = self.given[0].like
        if like is not None and like.dtype == dtype:
            return f"new({shape})"
        name = str(dtype).replace(".", "_")
        self.space[name] = dtype
        return f"new({shape}, dtype={name})"

    def _buffer(self, name: str, size: int, blocks: Sequence[Block]) -> list[str]:
        """Lines that ask for a buffer and find these blocks in it."""
        self.found |= {b.name: b for b in blocks}
        return [
            f"{name} = {self._new((cdiv(size, self.kind.itemsize),), self.kind)}",
            f"base = {name}.data_ptr()",
            *(f"{b.name} = base + {b.place}" for b in blocks),
        ]

    def write(self, returned: str) -> Callable[..., Any]:
        """Return the function, which returns None if it may not do what it is for."""
        hooks = "hooks.launch_enter_hook.calls or hooks.launch_exit_hook.calls"
        hooks = "False" if self.watch.hooks is None else hooks
        turn, before, between = self._room()
        calls = [
            f"{call}({', '.join(a if isinstance(a, str) else self._matrix(*a) for a in told)})"
            for call, told in self.calls
        ]
        lines = [
            f"if current() != {self.device.index} or {hooks}: return None",
            *(f"{b.name} = {b.begins}" for b in self.given if b.name in self.uses),
            f"new = {self.given[0].tensor}.new_empty",  # sooner than torch.empty
            *self.lines,
            *before,
            f"stream = stream_of({self.device.index})",
            *calls[:turn],
            *between,
            *calls[turn:],
            f"return {returned}",
        ]
        source = f"def again({', '.join(self.names)}):\n" + "".join(f"    {x}\n" for x in lines)
        exec(source, self.space)
        again: Callable[..., Any] = self.space["again"]
        return again

    def _take(self, wanted: Block, *, whole: bool) -> Block:
        """The block that was made of what is wanted, which nobody else has taken."""
        for made in self.made:
            if made.has(wanted.first) and (not whole or made[:2] == wanted[:2]):
                self.made.remove(made)
                return made
        raise NotImplementedError("a result that is not made, or part of what is")

    def _call(self, place: int, launch: Launch) -> tuple[str, list[str | tuple[str, Operand]]]:
        """A function's name, and what it is called with."""
        self.space[f"launch{place}"] = launch.call
        return f"launch{place}", [
            (self._near(a.pointer, place).name, a)
            if isinstance(a, Operand)
            else self._literal(a, place)
            for a in launch.arguments
        ]

    def _literal(self, value: Any, place: int) -> str:
        """What stands in the source for an argument of a launch."""
        if value is STREAM:
            return "stream"
        if isinstance(value, Address):
            return self._address(value.pointer, place)
        if type(value) is tuple:
            return f"({''.join(self._literal(v, place) + ', ' for v in value)})"
        if value is None or type(value) in (int, bool):
            return repr(value)
        name = f"c{len(self.space)}"
        self.space[name] = value
        return name

    def _address(self, pointer: int, place: int) -> str:
        if pointer == 0:
            return "0"
        near = self._near(pointer, place)
        return f"{near.name} + {pointer - near.first}"

    def _near(self, pointer: int, place: int) -> Block:
        """The block in which an address lies, which a launch uses."""
        for near in (*self.given, *self.made):
            if near.has(pointer):
                self.uses.setdefault(near.name, []).append(place)
                return near
        raise NotImplementedError("memory that is neither given nor made")

    def _matrix(self, name: str, matrix: Operand) -> str:
        """What stands in the source for a tensor."""
        around = self.found[name]
        place = around.place + matrix.pointer - around.first
        whole, dtype = around.like, self.kind if around.like is None else around.like.dtype
        demand(matrix.dtype == dtype and place % dtype.itemsize == 0)
        if whole is not None and place == 0:
            if matrix[2:] == whole[2:]:
                return around.tensor
            return f"{around.tensor}.as_strided({matrix.shape}, {matrix.strides})"
        first = str(place // dtype.itemsize)
        if whole is not None:
            first += f" + {around.tensor}.storage_offset()"
        return f"{around.tensor}.as_strided({matrix.shape}, {matrix.strides}, {first})"

    def _room(self) -> tuple[int, list[str], list[str]]:
        """Before which launch to change buffers; lines before all launches, and before that one."""
        spans = {b: (min(u), max(u)) for b in self.made if (u := self.uses.get(b.name))}
        best = best_turn(len(self.calls), spans, self.results)
        first, later, along = (
            self._buffer(name, part.size, part.blocks(name)) if part.spans else []
            for name, part in (("first", best.first), ("later", best.later), ("along", best.along))
        )
        early, late = ([x for r in part for x in r.lines] for part in (best.early, best.late))
        return best.turn, early + along + first, (["del first"] if first else []) + late + later


def block(tensor: Tensor, name: str, owner: str) -> Block:
    """The memory of a tensor that a function knows as ``owner``; it must have no gaps."""
    demand(tensor.is_contiguous())
    first = tensor.data_ptr()
    begins = f"{owner}.data_ptr()"
    return Block(first, first + tensor.nbytes, name, begins, owner, 0, operand(tensor))


def demand(possible: bool) -> None:
    """Give up unless so."""
    if not possible:
        raise NotImplementedError("not to be done again")
