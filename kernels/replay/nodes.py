"""Nodes of autograd whose passes are not run, but done again: one function forward, one backward.

What the forward pass keeps for the backward pass then lies in one buffer.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from vidmamba.kernels.replay import calls
from vidmamba.kernels.replay.calls import ALIGNMENT, MOST, reader
from vidmamba.kernels.replay.memory import Block
from vidmamba.kernels.replay.watch import Watch
from vidmamba.kernels.replay.writer import View, Writer, block, demand
from vidmamba.kernels.running import RUNNING

TRIES = 8
"""Forward passes that are watched, at most: the backward pass may never come."""

Function = Callable[..., Any]


class Seen:
    """A forward pass that was watched: its function, and what it kept."""

    def __init__(
        self, of: "Pass", inputs: tuple[Any, ...], forward: Function, views: list[View | None],
        kept: list[Block], kind: torch.dtype,
    ) -> None:  # fmt: skip
        self.of, self.forward, self.views, self.kept, self.kind = of, forward, views, kept, kind
        self.tensors = [inputs[i] for i in of.tensors]

    def see_backward(
        self, watch: Watch, gradients: Sequence[Tensor | None], results: Sequence[Tensor | None]
    ) -> None:
        """Write the backward pass, if it can be; from then on, passes alike are done again."""
        names = [f"g{i}" for i in range(len(gradients))]
        inside = [f"a{i}" for i in self.of.tensors]
        sent = {name: g for name, g in zip(names, gradients, strict=True) if g is not None}
        try:
            given = blocks(sent.values(), sent) + blocks(self.tensors, inside)
            given += [
                b._replace(name=f"k{b.place}", begins=f"kept.data_ptr() + {b.place}", like=None)
                for b in self.kept
            ]
            writer = Writer(watch, [*names, *inside, "kept"], given, self.of.device)
            demand(not self.kept or writer.kind == self.kind)
            returned = ", ".join(writer.own(results))
        except NotImplementedError:  # gradients with gaps, perhaps: others may come
            return
        self.of.backward[key_of(gradients)] = writer.write(f"({returned},)")
        self.of.seen, self.tensors = self, []


class Pass:
    """What is known of a node's passes for arguments alike."""

    def __init__(self, inputs: tuple[Any, ...]) -> None:
        self.calls = self.tries = self.results = 0
        self.materialized = True
        self.seen: Seen | None = None
        """What passes go by, once there is a backward pass to it."""
        self.backward: dict[Any, Function] = {}
        self.tensors = [i for i, t in enumerate(inputs) if isinstance(t, Tensor)]
        self.others = [None if isinstance(t, Tensor) else t for t in inputs]
        self.device: torch.device = inputs[self.tensors[0]].device

    def awaits_watch(self) -> bool:
        """Whether it has come often enough."""
        self.calls += 1
        return self.calls > calls.CALLS and self.tries < TRIES and self.seen is None

    def see_forward(
        self, watch: Watch, inputs: tuple[Any, ...], outputs: Sequence[Tensor | None], first: int
    ) -> Seen | None:
        """Write the forward pass, if it can be: ``first`` outputs are returned, others kept."""
        self.tries, self.results = self.tries + 1, first
        names = [f"a{i}" for i in range(len(inputs))]
        try:
            inside = {names[i]: inputs[i] for i in self.tensors}
            writer = Writer(watch, names, blocks(inside.values(), inside), self.device)
            returned = ", ".join(writer.own(outputs[:first]))
            views, kept = writer.share(outputs[first:])
        except NotImplementedError:
            self.tries = TRIES
            return None
        forward = writer.write(f"(({returned},), kept)")
        return Seen(self, inputs, forward, views, kept, writer.kind)

    def restore(self, saved: Sequence[Tensor]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Return the inputs and outputs that a forward pass done again would have had.

        Those outputs that are the caller's are not known any more.
        """
        assert self.seen is not None
        *tensors, kept = saved
        inputs = [*self.others]
        for place, tensor in zip(self.tensors, tensors, strict=True):
            inputs[place] = tensor
        views = (None if view is None else view.of(kept) for view in self.seen.views)
        return tuple(inputs), (*[None] * self.results, *views)


class Passes:
    """A node's passes, by what its inputs are."""

    def __init__(self) -> None:
        self.tables: dict[tuple[type, ...], tuple[Any, dict[Any, Pass]]] = {}

    def find(self, inputs: tuple[Any, ...]) -> Pass | None:
        """Return what is known for inputs alike; None if nothing may be."""
        if not may_replay(inputs[0]):
            return None
        kinds = tuple(map(type, inputs))
        if kinds not in self.tables:
            self.tables[kinds] = reader(kinds), {}
        read, table = self.tables[kinds]
        if read is None:
            return None
        key = read(*inputs)
        found = table.get(key)
        if found is None:
            if len(table) >= MOST:
                table.clear()
            found = table[key] = Pass(inputs)
        return found


def may_replay(x: Any) -> bool:
    """Whether nobody looks at what a node does, or wants other things done.

    A checkpoint wants as many tensors saved when it runs the forward pass again, which might be
    the time from which on all is kept in one.
    """
    return (
        type(x) is Tensor
        and on_gpu(x)
        and not RUNNING.compiles_ahead
        and RUNNING.watch is None
        and not torch._C._len_torch_dispatch_stack()
        and torch._C._autograd._top_saved_tensors_default_hooks(True) is None
    )


def on_gpu(x: Tensor) -> bool:
    """Whether there are launches to speak of."""
    return x.is_cuda


def key_of(gradients: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """All that a backward pass's launches depend on, beside the forward pass.

    Passes whose graph is kept leave alone what others write over.
    """
    sent = (
        None if g is None else (g.shape, g.dtype, g.data_ptr() % ALIGNMENT, g.is_contiguous())
        for g in gradients
    )
    return torch._C._autograd._get_current_graph_task_keep_graph(), *sent


def blocks(tensors: Iterable[Tensor], names: Iterable[str]) -> list[Block]:
    """The memory of a function's arguments."""
    return [
        block(t, f"p{name}", name) for name, t in zip(names, tensors, strict=True) if t.numel() > 0
    ]
