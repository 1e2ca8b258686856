"""`selective_scan` as a PyTorch operator: Triton on CUDA, numba on CPU, autograd on both."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vidmamba.kernels.operators import define, may_spend, nearest, register_gradient
from vidmamba.kernels.selective_scan.checks import (
    as_gradient,
    check_arguments,
    count_videos,
    cut,
    fit,
)
from vidmamba.kernels.selective_scan.reference import selective_scan_reference


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
    offsets: Tensor | None = None,
    reverse: bool = False,
) -> Any:
    """Scan ``h[t] = exp(delta[t] A) h[t-1] + delta[t] u[t] B[t]``; ``y[t] = C[t] h[t]``.

    The states are float32 whatever the inputs are (float64 for float64 inputs, which go through
    the slow reference). Gradients flow through every tensor; they are the same bits every time.

    Args:
        u: Inputs of shape (B, T, D).
        delta: Step sizes of the same shape, before bias and softplus.
        A: Decay rates of shape (D, N), real, usually negative.
        B: Input projections of shape (B, T, N).
        C: Output projections of shape (B, T, N).
        D: Skip of shape (D,): adds ``D u`` to the outputs.
        z: Gate of u's shape: multiplies the outputs, skip included, by ``silu(z)``.
        delta_bias: Of shape (D,), added to delta.
        delta_softplus: Whether softplus is applied to delta after the bias.
        initial_state: Of shape (videos, D, N); zeros if absent. Without offsets every row of the
            batch is one video.
        return_final_state: Return ``(y, state)`` with the last state (videos, D, N) of each video.
        offsets: Of shape (videos + 1,), int32 or int64, from 0 to T and never falling: frames
            ``offsets[i]`` up to ``offsets[i + 1]`` are video i. B must be 1.
        reverse: Run from every video's last frame to its first.

    Raises:
        ValueError: If shapes, dtypes or devices do not fit, with the values.
    """
    check_arguments(u, delta, A, B, C, D, z, delta_bias, initial_state, offsets)
    if u.dtype == torch.float64:
        y, state = selective_scan_reference(
            u, delta, A, B, C, D=D, z=z, delta_bias=delta_bias, delta_softplus=delta_softplus,
            initial_state=initial_state, offsets=offsets, reverse=reverse,
        )  # fmt: skip
        return (y, state) if return_final_state else y
    tensors = [u, delta, A, B, C, D, z, delta_bias, initial_state]
    needs_grad = any(t is not None and t.requires_grad for t in tensors)
    # the dispatcher's way to the gradient does not know torch.func, Dynamo not this one's arguments
    under_transforms = torch._C._are_functorch_transforms_active()
    y, state, _ = (_Scan.apply if under_transforms else _forward)(
        *(None if t is None else t.contiguous() for t in tensors),
        offsets, delta_softplus, reverse, torch.is_grad_enabled() and needs_grad,
    )  # fmt: skip
    return (y, state) if return_final_state else y


def _forward_on_cpu(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
    keep_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the outputs, the last states and, if kept, the states at the chunks' starts."""
    # imported on first use: numba takes a second to load
    from vidmamba.kernels.selective_scan.cpu import launch_forward

    return launch_forward(
        u, delta, A, B, C, D, z, delta_bias, initial_state, offsets,
        delta_softplus, reverse, keep_states,
    )  # fmt: skip


def _fake_forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
    keep_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    width, num_states = A.shape
    chunks = cut(u, offsets, u.device.type)
    return (
        torch.empty_like(u),
        u.new_empty(count_videos(u, offsets), width, num_states, dtype=torch.float32),
        u.new_empty(
            chunks.kept if keep_states else 0,
            num_states,
            chunks.width,
            dtype=torch.float32,
        ),
    )


def _backward_on_cpu(
    grad_y: Tensor | None,
    grad_final: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    states: Tensor,
    delta_softplus: bool,
    reverse: bool,
) -> list[Tensor]:
    """Return the gradients of u, delta, ..., initial_state; an empty tensor for one not given."""
    from vidmamba.kernels.selective_scan.cpu import launch_backward

    return launch_backward(
        grad_y, grad_final, u, delta, A, B, C, D, z, delta_bias, initial_state, offsets, states,
        delta_softplus, reverse,
    )  # fmt: skip


def _fake_backward(
    grad_y: Tensor | None,
    grad_final: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    states: Tensor,
    delta_softplus: bool,
    reverse: bool,
) -> list[Tensor]:
    inputs = (u, delta, A, B, C, D, z, delta_bias, initial_state)
    return [u.new_empty(0) if t is None else torch.empty_like(t) for t in inputs]


def _forward_on_cuda(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    delta_softplus: bool,
    reverse: bool,
    keep_states: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    # imported on first use: Triton is installed only where it can run
    from vidmamba.kernels.selective_scan.cuda import launch_forward

    if wide := u.dtype == torch.float64:
        u, delta, A, B, C, D, z, delta_bias, initial_state = _in_float32(
            u, delta, A, B, C, D, z, delta_bias, initial_state
        )
    y, final, states = launch_forward(
        u, delta, A, B, C, D, z, delta_bias, initial_state, offsets,
        delta_softplus, reverse, keep_states,
    )  # fmt: skip
    return y.double() if wide else y, final, states


def _backward_on_cuda(
    grad_y: Tensor | None,
    grad_final: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    states: Tensor,
    delta_softplus: bool,
    reverse: bool,
    spend: bool = False,
    over: bool = False,
) -> list[Tensor]:
    # the last two are not the operator's, which changes nothing: `find_gradients` asks for them
    from vidmamba.kernels.selective_scan.cuda_backward import launch_backward

    if wide := u.dtype == torch.float64:
        grad_y, grad_final, u, delta, A, B, C, D, z, delta_bias, initial_state = _in_float32(
            grad_y, grad_final, u, delta, A, B, C, D, z, delta_bias, initial_state
        )
    found = launch_backward(
        grad_y, grad_final, u, delta, A, B, C, D, z, delta_bias, initial_state, offsets, states,
        delta_softplus, reverse, spend, over,
    )  # fmt: skip
    return [grad.double() for grad in found] if wide else found


def _in_float32(*tensors: Tensor | None) -> list[Any]:
    """What kernels are given of float64, as on the CPU; `selective_scan` asks the reference."""
    return [None if t is None else t.float() for t in tensors]


_forward = define("selective_scan", cpu=_forward_on_cpu, cuda=_forward_on_cuda, fake=_fake_forward)
define("selective_scan_backward", cpu=_backward_on_cpu, cuda=_backward_on_cuda, fake=_fake_backward)


def find_gradients(*arguments: Any, over: bool = False) -> list[Tensor]:
    """Do what the backward operator does in a node of autograd, with less memory in eager mode.

    u's gradient may take the states' place; if they may be written ``over``, delta's takes delta's,
    and z's takes ``grad_y``'s.
    """
    _, _, u, *_ = arguments
    offsets, states, _, reverse = arguments[11:]
    found: list[Tensor]
    if (
        torch.compiler.is_compiling()
        or not u.is_cuda
        or u.dtype == torch.float64
        or nearest(u) is torch.ops.vidmamba
    ):
        found = nearest(u).selective_scan_backward(*arguments)
        return found
    spend = may_spend(u) and fit(states, u, offsets)
    found = nearest(u).selective_scan_backward(*arguments, spend, over)
    return [as_gradient(states, u, reverse), *found[1:]] if spend else found


class _Scan(torch.autograd.Function):
    """The operator with its gradient, as `torch.func` and the dispatcher want it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        return _forward(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.softplus, ctx.reverse, _ = inputs
        ctx.mark_non_differentiable(output[2])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, output[2])

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_y: Tensor | None, grad_final: Tensor | None, _: Any
    ) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        gradients = find_gradients(
            None if grad_y is None else grad_y.contiguous(),
            None if grad_final is None else grad_final.contiguous(),
            *tensors, ctx.softplus, ctx.reverse,
        )  # fmt: skip
        given = [None if t is None else g for t, g in zip(tensors[:9], gradients, strict=True)]
        return *given, None, None, None, None


register_gradient(_forward, _Scan)
