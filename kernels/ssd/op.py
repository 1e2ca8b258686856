"""`ssd` as a PyTorch operator: Triton on CUDA, matrix products elsewhere, autograd by hand."""

from typing import Any

import torch
from torch import Tensor

from vidmamba.kernels.operators import apply, define, one_by_one, register_gradient
from vidmamba.kernels.ssd import chunked, chunked_backward
from vidmamba.kernels.ssd.checks import check_arguments, count_videos
from vidmamba.kernels.ssd.chunks import count_blocks
from vidmamba.kernels.ssd.plan import fits, kept_size


def ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
    offsets: Tensor | None = None,
    reverse: bool = False,
) -> Any:
    """Scan ``h[t] = exp(dt[t] A) h[t-1] + dt[t] x[t] B[t]``; ``y[t] = C[t] h[t]``, head by head.

    The states are float32 whatever the inputs are (float64 for float64). Gradients flow through
    every tensor; they are the same bits every time.

    Args:
        x: Inputs of shape (B, T, H, P): H heads of width P.
        dt: Step sizes of shape (B, T, H), before bias and softplus.
        A: Decay rates of shape (H,), real, usually negative.
        B: Input projections of shape (B, T, G, N); H/G neighbouring heads share a group's.
        C: Output projections of the same shape.
        D: Skip of shape (H,): adds ``D x`` to the outputs.
        z: Gate of x's shape: multiplies the outputs, skip included, by ``silu(z)``.
        dt_bias: Of shape (H,), added to dt.
        dt_softplus: Whether softplus is applied to dt after the bias.
        initial_state: Of shape (videos, H, P, N); zeros if absent. Without offsets every row of
            the batch is one video.
        return_final_state: Return ``(y, state)`` with the last state (videos, H, P, N) of each
            video.
        offsets: Of shape (videos + 1,), int32 or int64, from 0 to T and never falling: frames
            ``offsets[i]`` up to ``offsets[i + 1]`` are video i. B must be 1.
        reverse: Run from every video's last frame to its first.

    Raises:
        ValueError: If shapes, dtypes or devices do not fit, with the values.
    """
    check_arguments(x, dt, A, B, C, D, z, dt_bias, initial_state, offsets)
    tensors = [x, dt, A, B, C, D, z, dt_bias, initial_state]
    given = (None if t is None else t.contiguous() for t in tensors)
    how = (offsets, dt_softplus, reverse, torch.is_grad_enabled())
    y, state, _ = apply(_Ssd, *given, *how)
    return (y, state) if return_final_state else y


def _forward_on_cpu(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    dt_softplus: bool,
    reverse: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the outputs, the last states, and what the backward pass wants of this one.

    Without ``keep`` no backward pass can follow.
    """
    given = chunked.Inputs(x, dt, A, B, C, D, z, dt_bias, initial_state)
    return chunked.forward(given, offsets, softplus=dt_softplus, reverse=reverse)


def _fake_forward(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    dt_softplus: bool,
    reverse: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    heads, width = x.shape[2:]
    groups, states = B.shape[2:]
    dtype = chunked.working_dtype(x)
    kept: Any = (count_blocks(x, offsets), groups, states, heads // groups, width)
    if _has_kernels(x, B):
        kept = kept_size(x, B, offsets, inner=keep)
    return (
        torch.empty_like(x),
        x.new_empty(count_videos(x, offsets), heads, width, states, dtype=dtype),
        x.new_empty(kept, dtype=dtype),
    )


def _forward_on_cuda(x: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Take what `_forward_on_cpu` takes."""
    if not _has_kernels(x, others[2]):
        return _forward_on_cpu(x, *others)
    # imported on first use: Triton is installed only where it can run
    from vidmamba.kernels.ssd.cuda import launch_forward

    *given, offsets, softplus, reverse, keep = others
    return launch_forward(chunked.Inputs(x, *given), offsets, softplus, reverse, keep=keep)


def _has_kernels(x: Tensor, B: Tensor) -> bool:
    """Triton's kernels work in float32 at most, and hold a head's states on the chip."""
    return x.is_cuda and x.dtype != torch.float64 and fits(x, B)


def _backward_on_cpu(
    grad_y: Tensor | None,
    grad_final: Tensor | None,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    kept: Tensor,
    dt_softplus: bool,
    reverse: bool,
) -> list[Tensor]:
    """Return the gradients of x, dt, ..., initial_state; an empty tensor for one not given."""
    given = chunked.Inputs(x, dt, A, B, C, D, z, dt_bias, initial_state)
    grads = chunked_backward.backward(
        grad_y, grad_final, given, offsets, kept, softplus=dt_softplus, reverse=reverse
    )
    return [x.new_empty(0) if g is None else g for g in grads]


def _backward_on_cuda(
    grad_y: Tensor | None, grad_final: Tensor | None, x: Tensor, *others: Any
) -> list[Tensor]:
    """Take what `_backward_on_cpu` takes."""
    if not _has_kernels(x, others[2]):
        return _backward_on_cpu(grad_y, grad_final, x, *others)
    from vidmamba.kernels.ssd.cuda import launch_backward

    *inputs, offsets, kept, softplus, reverse = others
    given = chunked.Inputs(x, *inputs)
    grads = launch_backward(grad_y, grad_final, given, offsets, kept, softplus, reverse)
    return [x.new_empty(0) if g is None else g for g in grads]


def _fake_backward(
    grad_y: Tensor | None,
    grad_final: Tensor | None,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    kept: Tensor,
    dt_softplus: bool,
    reverse: bool,
) -> list[Tensor]:
    inputs = (x, dt, A, B, C, D, z, dt_bias, initial_state)
    return [x.new_empty(0) if t is None else torch.empty_like(t) for t in inputs]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.softplus, ctx.reverse, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, output[2])


def _differentiate(
    ctx: Any, grad_y: Tensor | None, grad_final: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors
    # with gradients on, someone asks for second derivatives, or torch.func for first ones
    operator = _SsdBackward.apply if torch.is_grad_enabled() else _backward
    gradients = operator(
        None if grad_y is None else grad_y.contiguous(),
        None if grad_final is None else grad_final.contiguous(),
        *tensors, ctx.softplus, ctx.reverse,
    )  # fmt: skip
    given = [None if t is None else g for t, g in zip(tensors[:9], gradients, strict=True)]
    return *given, None, None, None, None


class _Ssd(torch.autograd.Function):
    """The operator once more, for `torch.func`, which cannot differentiate custom operators."""

    @staticmethod
    def forward(  # named one by one: torch 2.11's dynamo takes the first of *inputs for a context
        x: Any,
        dt: Any,
        A: Any,
        B: Any,
        C: Any,
        D: Any,
        z: Any,
        dt_bias: Any,
        initial_state: Any,
        offsets: Any,
        softplus: bool,
        reverse: bool,
        keep: bool,
    ) -> tuple[Tensor, ...]:
        given = (x, dt, A, B, C, D, z, dt_bias, initial_state, offsets)
        return _forward(*given, softplus, reverse, keep)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _setup_context(ctx, inputs, output)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _differentiate(ctx, *grads)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
        return one_by_one(_Ssd.apply)(info, in_dims, *inputs)


class _SsdBackward(torch.autograd.Function):
    """The gradients' operator, of which no derivative is known."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        return tuple(_backward(*inputs))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError("ssd has first derivatives only")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
        return one_by_one(_SsdBackward.apply)(info, in_dims, *inputs)


_forward = define("ssd", cpu=_forward_on_cpu, cuda=_forward_on_cuda, fake=_fake_forward)
_backward = define(
    "ssd_backward", cpu=_backward_on_cpu, cuda=_backward_on_cuda, fake=_fake_backward
)
register_gradient(_forward, _Ssd)
register_gradient(_backward, _SsdBackward)
