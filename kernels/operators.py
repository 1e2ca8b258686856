"""Registers PyTorch operators with little between a call and its kernel.

`torch.library.custom_op` puts tens of microseconds of Python around each call: in eager mode, most
of what a mixer costs below 16k frames. The same registrations are made here one by one.
"""

from collections.abc import Callable, Iterable
from functools import cache, partial, wraps
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from vidmamba.kernels.replay import Pass, Passes, can_watch, key_of, may_replay, replayed, watched
from vidmamba.kernels.running import RUNNING

_LIBRARY = torch.library.Library("vidmamba", "FRAGMENT")
_KERNELS = {"cpu": SimpleNamespace(), "cuda": SimpleNamespace()}


def define(
    name: str,
    *,
    cpu: Callable[..., Any],
    cuda: Callable[..., Any],
    fake: Callable[..., Any],
    mutates: Iterable[str] = (),
) -> Any:
    """Register ``vidmamba::name`` and return it.

    Args:
        name: Of the operator.
        cpu: Its kernel for the CPU, whose annotations are the operator's.
        cuda: Its kernel for CUDA.
        fake: Makes results of the right shape, dtype and device, for tracing.
        mutates: The arguments that it changes.
    """
    mutates = tuple(mutates)
    schema = torch.library.infer_schema(cpu, mutates_args=mutates)
    _LIBRARY.define(name + schema, tags=[torch.Tag.pt2_compliant_tag])
    cuda = on_its_device(cuda)
    for device, kernel in (("cpu", cpu), ("cuda", cuda if mutates else replayed(cuda))):
        _LIBRARY.impl(name, kernel, device.upper())
        setattr(_KERNELS[device], name, kernel)
    operator = getattr(torch.ops.vidmamba, name).default
    torch.library.register_fake(operator.name(), fake, lib=_LIBRARY)
    if not mutates:
        torch.library.register_vmap(operator.name(), one_by_one(operator), lib=_LIBRARY)
    return operator


def on_its_device(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``kernel``, run on its tensors' GPU; Triton would launch on the current one.

    There is a tensor among the arguments, and all are on one GPU, which operators check.
    """

    @wraps(kernel)
    def run(*arguments: Any) -> Any:
        device = next(a for a in arguments if isinstance(a, Tensor)).get_device()
        if device == torch._C._cuda_getDevice():  # torch.cuda's own looks for forks first
            return run_here(kernel, *arguments)
        with torch.cuda.device(device):
            return run_here(kernel, *arguments)

    return run


def run_here(kernel: Callable[..., Any], *arguments: Any) -> Any:
    """Run a kernel, and say so if nothing around it has."""
    if RUNNING.call is not None:
        return kernel(*arguments)
    RUNNING.call = partial(kernel, *arguments)
    try:
        return kernel(*arguments)
    finally:
        RUNNING.call = None


def nearest(x: Tensor) -> Any:
    """Return what has our operators by name, for use on ``x`` in the lines of a node of autograd.

    In eager mode these are the kernels for its device: dispatch takes longer than some of them.
    """
    if (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or (torch._C._len_torch_dispatch_stack() and RUNNING.watch is None)
        or type(x) not in (Tensor, torch.nn.Parameter)
    ):
        return torch.ops.vidmamba
    return _KERNELS.get(x.device.type, torch.ops.vidmamba)


def may_spend(x: Tensor) -> bool:
    """Return whether a node's backward pass, on ``x``, may write over what only it has kept.

    Not where the graph is kept, whose nodes may be asked again, nor if others than eager mode see
    what is done.
    """
    if torch.compiler.is_compiling() or nearest(x) is torch.ops.vidmamba:
        return False
    return not torch._C._autograd._get_current_graph_task_keep_graph()


def apply(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """Return ``function.apply(*arguments)``, sooner in eager mode."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return function.apply(*arguments)
    if _is_differentiated():
        return _for_eager_mode(function).apply(*arguments)
    lines = _without_gradients(function)
    with torch._C._AutoDispatchBelowAutograd():
        return (replayed(lines) if may_replay(arguments[0]) else lines)(*arguments)


def _is_differentiated() -> bool:
    """Whether autograd must know of a call: in its forward mode, without gradients too."""
    return torch.is_grad_enabled() or forward_ad._current_level >= 0


@cache
def _without_gradients(function: Any) -> Any:
    """Return what a node gives to its caller, as a function."""
    results = getattr(function, "results", None)

    def lines(*arguments: Any) -> Any:
        outputs = function.forward(*arguments)
        return outputs[:results] if results else outputs

    return lines


@cache
def _for_eager_mode(function: Any) -> Any:
    """Return the same function with less between its lines.

    Where there is a setup_context, as `torch.func` wants it, PyTorch inspects the signature at
    every call, which costs more than a kernel's launch; and what happens inside is no business of
    autograd's, whose dispatch is passed by. Nor are outputs that only its own backward pass reads:
    with an attribute ``results``, a function returns no more than so many. Passes that come again
    are not run, but done again: see `replay`.
    """
    first = getattr(function, "results", None)
    passes = Passes()

    def forward(ctx: Any, *inputs: Any) -> Any:
        found = passes.find(inputs)
        if found is not None and found.seen is not None:
            with torch._C._AutoDispatchBelowAutograd():
                again = found.seen.forward(*inputs)
            if again is not None:
                outputs, kept = again
                ctx.set_materialize_grads(found.materialized)
                ctx.save_for_backward(*(inputs[i] for i in found.tensors), kept)
                ctx.found = found
                return outputs if first else outputs[0]
        RUNNING.call = partial(run_both_ways, function, inputs)
        try:
            with torch._C._AutoDispatchBelowAutograd():
                outputs = _forward(function, ctx, inputs, found)
        finally:
            RUNNING.call = None
        function.setup_context(ctx, inputs, outputs)
        return outputs[:first] if first else outputs

    def backward(ctx: Any, *gradients: Any) -> Any:
        # asked for out here: a checkpoint now runs the forward pass again, which autograd must see
        saved, found = ctx.saved_tensors, getattr(ctx, "found", None)
        differentiated = torch.is_grad_enabled()
        own = _Context()
        if found is None:
            vars(own).update(vars(ctx))
            own.save_for_backward(*saved)
        else:
            again = None if differentiated else found.backward.get(key_of(gradients))
            if again is not None:
                with torch._C._AutoDispatchBelowAutograd():
                    results = again(*gradients, *saved)
                if results is not None:
                    return results
            inputs, outputs = found.restore(saved)
            function.setup_context(own, inputs, outputs)
        if differentiated:  # somebody wants second derivatives
            return function.backward(own if found else ctx, *gradients)
        with torch._C._AutoDispatchBelowAutograd():
            return _backward(lines, own, gradients)

    # what `once_differentiable` puts around them has been looked after
    lines = getattr(function.backward, "__wrapped__", function.backward)
    members = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type(function.__name__, (torch.autograd.Function,), members)


def _forward(function: Any, ctx: Any, inputs: tuple[Any, ...], found: Pass | None) -> Any:
    """Run a forward pass; look on, if one like it will come again."""
    if found is None or not found.awaits_watch() or not can_watch(inputs):
        return function.forward(*inputs)
    outputs, watch = watched(partial(function.forward, *inputs))
    first = getattr(function, "results", None)
    whole = (outputs,) if isinstance(outputs, Tensor) else outputs
    own = _Context()
    function.setup_context(own, inputs, outputs)
    found.materialized = own.materialized
    ctx.watched = found.see_forward(watch, inputs, whole, first or len(whole))
    return outputs


def _backward(lines: Any, own: Any, gradients: tuple[Any, ...]) -> Any:
    """Run a backward pass; look on, if its forward pass was looked at."""
    seen = own.watched
    if seen is None or seen.of.seen is not None or not can_watch(seen.tensors):
        return lines(own, *gradients)
    results, watch = watched(partial(lines, own, *gradients))
    seen.see_backward(watch, gradients, (results,) if isinstance(results, Tensor) else results)
    return results


class _Context:
    """Stands in for the context of a node of autograd."""

    saved: tuple[Tensor | None, ...] = ()
    materialized = True
    watched: Any = None

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        self.saved = tensors

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """Given out once, so that lines can let go of them one by one."""
        saved, self.saved = self.saved, ()
        return saved

    def set_materialize_grads(self, value: bool) -> None:
        self.materialized = value

    def mark_non_differentiable(self, *_: Tensor) -> None:
        pass


def run_both_ways(function: Any, inputs: tuple[Any, ...]) -> None:
    """Run the lines of a node forward and backward, outside of autograd's graph."""
    outputs = function.forward(*inputs)
    ctx = _Context()
    function.setup_context(ctx, inputs, outputs)
    first, *others = outputs if isinstance(outputs, tuple) else (outputs,)
    # numbers do not matter: results stand in for their gradients
    function.backward(ctx, first, *(each if ctx.materialized else None for each in others))


def register_gradient(operator: Any, function: type[torch.autograd.Function]) -> None:
    """Let autograd go through ``function``, whose forward calls ``operator``."""

    def differentiable(*arguments: Any) -> Any:
        if _is_differentiated():
            return apply(function, *arguments)
        with torch._C._AutoDispatchBelowAutograd():
            return operator(*arguments)

    _LIBRARY.impl(operator.name(), differentiable, "Autograd")


def one_by_one(operator: Callable[..., Any]) -> Callable[..., Any]:
    """Return the rule by which `torch.func.vmap` applies an operator to each example alone."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> Any:
        results = [
            operator(
                *(
                    a if dim is None else a.select(dim, i).contiguous()
                    for a, dim in zip(arguments, in_dims, strict=True)
                )
            )
            for i in range(info.batch_size)
        ]
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        stacked = [torch.stack(parts) for parts in zip(*results, strict=True)]
        if isinstance(results[0], list):
            return stacked, [0] * len(stacked)
        return tuple(stacked), (0,) * len(stacked)

    return rule


def mark_changed(*tensors: Tensor) -> None:
    """Tell autograd that a kernel wrote to ``tensors``, which it may have kept."""
    torch.autograd.graph.increment_version([t for t in tensors if not t.is_inference()])
