"""`causal_conv1d` as a PyTorch operator: Triton on CUDA, Numba on CPU, autograd on both."""

from typing import Any

import torch
from torch import Tensor

from vidmamba.kernels.causal_conv1d.state import add_gradient_of_last_inputs, last_inputs
from vidmamba.kernels.operators import apply, define, mark_changed, one_by_one, register_gradient

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
MAX_TAPS = 8


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
    offsets: Tensor | None = None,
    reverse: bool = False,
) -> Any:
    """Convolve every channel with its own taps over the current frame and the K-1 before it.

    y[t] = activation(bias + sum over k of weight[:, k] * x[t - (K-1) + k]), in float32 whatever the
    inputs are (float64 for float64), rounded to x's dtype; frames before a video are zero or
    the initial state. Under autocast the op follows x's dtype.

    Args:
        x: Frames (B, T, D).
        weight: Taps (D, K), K from 1 to 8, the last one for the current frame.
        bias: (D,).
        activation: "silu" or None.
        initial_state: The K-1 inputs before each video (S, K-1, D), the oldest first.
        return_final_state: Return ``(y, state)``, the state being the last K-1 inputs of each video
            in the order in which they were taken: the next chunk's initial state.
        offsets: Int (S+1,), 0 first and T last: frames ``offsets[i]`` to ``offsets[i+1]`` are
            video i, and no video sees another. B must be 1. Without it, S is B.
        reverse: Run against time, each video from its last frame to its first, as if flipped.

    Raises:
        ValueError: If shapes, dtypes or devices do not fit; the message has the values.
    """
    _check(x, weight, bias, initial_state, offsets, activation)
    tensors = (x, weight, bias, initial_state, offsets)
    given = (None if t is None else t.contiguous() for t in tensors)
    y, state = apply(_Conv, *given, activation == "silu", reverse, return_final_state)
    return (y, state) if return_final_state else y


def _check(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    activation: str | None,
) -> None:
    # checked here, not only by the annotations: past this line a wrong shape is a wild pointer
    if x.ndim != 3 or x.dtype not in DTYPES:
        raise ValueError(f"x must be floating-point (B, T, D), got {x.dtype} {[*x.shape]}")
    if 0 in x.shape:
        raise ValueError(f"x must have a shape (B, T, D) without zeros, got {[*x.shape]}")
    if activation not in (None, "silu"):
        raise ValueError(f"activation must be None or 'silu', got {activation!r}")
    videos, _, width = x.shape
    if weight.ndim != 2 or weight.shape[0] != width or not 1 <= weight.shape[1] <= MAX_TAPS:
        expected = f"(D, K) with D={width} and K from 1 to {MAX_TAPS}"
        raise ValueError(f"weight must be {expected}, got {[*weight.shape]}")
    if offsets is not None:
        if offsets.ndim != 1 or offsets.dtype not in (torch.int32, torch.int64) or len(offsets) < 2:
            got = f"{offsets.dtype} {[*offsets.shape]}"
            raise ValueError(f"offsets must be int32 or int64 (S+1,) with S >= 1, got {got}")
        if videos != 1:
            raise ValueError(f"with offsets, x must be one packed row (1, T, D), got B={videos}")
        videos = len(offsets) - 1
    _check_shape("bias", bias, (width,))
    _check_shape("initial_state", initial_state, (videos, weight.shape[1] - 1, width))
    named = {"weight": weight, "bias": bias, "initial_state": initial_state, "offsets": offsets}
    for name, tensor in named.items():
        if tensor is not None and tensor.device != x.device:
            raise ValueError(f"{name} must be on x's device {x.device}, got {tensor.device}")
        if tensor is not None and name != "offsets" and tensor.dtype not in DTYPES:
            raise ValueError(f"{name} must be floating-point, got {tensor.dtype}")


def _check_shape(name: str, tensor: Tensor | None, shape: tuple[int, ...]) -> None:
    if tensor is not None and tensor.shape != shape:
        raise ValueError(f"{name} must be {[*shape]}, got {[*tensor.shape]}")


def conv_on_cpu(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    silu: bool,
    reverse: bool,
    keep_state: bool,
) -> tuple[Tensor, Tensor]:
    """Return the results and, if kept, the last inputs of each video."""
    # imported on first use: Numba takes half a second
    from vidmamba.kernels.causal_conv1d.cpu import conv_cpu

    _check_offsets(offsets, x.shape[1])
    y = conv_cpu(x, weight, bias, initial_state, offsets, silu=silu, reverse=reverse)
    if not keep_state:
        return y, x.new_empty(0)
    return y, last_inputs(x, initial_state, offsets, weight.shape[1] - 1, reverse=reverse)


def _conv_on_cuda(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    silu: bool,
    reverse: bool,
    keep_state: bool,
) -> tuple[Tensor, Tensor]:
    # imported on first use: Triton is installed only where it can run
    from vidmamba.kernels.causal_conv1d.kernel import launch_conv

    how: dict[str, Any] = {"silu": silu, "reverse": reverse, "keep_state": keep_state}
    return launch_conv(x, weight, bias, initial_state, offsets, **how)


def _check_offsets(offsets: Tensor | None, frames: int) -> None:
    """Refuse bad boundaries; on CUDA nobody looks, for that would wait for the device."""
    if offsets is None:
        return
    if offsets[0] != 0 or offsets[-1] != frames or bool((offsets.diff() < 0).any()):
        shown = offsets.tolist() if len(offsets) <= 16 else f"{offsets[:16].tolist()}..."
        raise ValueError(f"offsets must rise from 0 to T={frames}, got {shown}")


def fake_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    silu: bool,
    reverse: bool,
    keep_state: bool,
) -> tuple[Tensor, Tensor]:
    """Return tensors like the convolution's, without memory."""
    if not keep_state:
        return x.new_empty(x.shape), x.new_empty(0)
    videos = x.shape[0] if offsets is None else offsets.shape[0] - 1
    return x.new_empty(x.shape), x.new_empty(videos, weight.shape[1] - 1, x.shape[2])


def backward_on_cpu(
    grad_y: Tensor,
    grad_last: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    silu: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight, bias and state, empty where none was given."""
    from vidmamba.kernels.causal_conv1d.cpu import conv_cpu_backward

    grad_x, grad_weight, grad_bias, grad_state = conv_cpu_backward(
        grad_y, x, weight, bias, initial_state, offsets, silu=silu, reverse=reverse
    )
    if grad_last is not None:
        add_gradient_of_last_inputs(grad_last, grad_x, grad_state, offsets, reverse=reverse)
    return (
        grad_x,
        grad_weight.to(weight.dtype),
        x.new_empty(0) if bias is None else grad_bias.to(bias.dtype, copy=True),
        x.new_empty(0) if initial_state is None else grad_state.to(initial_state.dtype),
    )


def _backward_on_cuda(
    grad_y: Tensor,
    grad_last: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    silu: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from vidmamba.kernels.causal_conv1d.kernel_backward import launch_conv_backward

    given = (grad_y, grad_last, x, weight, bias, initial_state, offsets)
    return launch_conv_backward(*given, silu=silu, reverse=reverse)


def fake_backward(
    grad_y: Tensor,
    grad_last: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial_state: Tensor | None,
    offsets: Tensor | None,
    silu: bool,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return tensors like the gradients, without memory."""
    grads = (x, weight, bias, initial_state)
    made = [x.new_empty(0) if t is None else t.new_empty(t.shape) for t in grads]
    return made[0], made[1], made[2], made[3]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.silu, ctx.reverse, ctx.keep_state = inputs[5:]
    ctx.save_for_backward(*inputs[:5])


def _backward(ctx: Any, grad_y: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias, initial_state, offsets = ctx.saved_tensors
    last = grad_last.contiguous() if ctx.keep_state else None
    # with gradients on, someone asks for second derivatives, or torch.func for first ones
    operator = _ConvBackward.apply if torch.is_grad_enabled() else _conv_backward
    grads = operator(
        grad_y.contiguous(), last, x, weight, bias, initial_state, offsets, ctx.silu, ctx.reverse
    )
    grad_bias = None if bias is None else grads[2]
    grad_state = None if initial_state is None else grads[3]
    return grads[0], grads[1], grad_bias, grad_state, None, None, None, None


class _Conv(torch.autograd.Function):
    """The operator once more, for `torch.func`, which cannot differentiate custom operators."""

    @staticmethod
    def forward(  # named one by one: torch 2.11's dynamo takes the first of *inputs for a context
        x: Any,
        weight: Any,
        bias: Any,
        initial_state: Any,
        offsets: Any,
        silu: bool,
        reverse: bool,
        keep_state: bool,
    ) -> tuple[Tensor, Tensor]:
        return _conv(x, weight, bias, initial_state, offsets, silu, reverse, keep_state)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _setup_context(ctx, inputs, output)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _backward(ctx, *grads)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
        return one_by_one(_Conv.apply)(info, in_dims, *inputs)


class _ConvBackward(torch.autograd.Function):
    """The gradients' operator, of which no derivative is known."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        return tuple(_conv_backward(*inputs))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError("causal_conv1d has first derivatives only")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
        return one_by_one(_ConvBackward.apply)(info, in_dims, *inputs)


_conv = define("causal_conv1d", cpu=conv_on_cpu, cuda=_conv_on_cuda, fake=fake_conv)
_conv_backward = define(
    "causal_conv1d_backward", cpu=backward_on_cpu, cuda=_backward_on_cuda, fake=fake_backward
)
register_gradient(_conv, _Conv)
register_gradient(_conv_backward, _ConvBackward)


def causal_conv1d_step(
    x: Tensor,
    state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
) -> Tensor:
    """Convolve the next frame (B, D), or the next few (B, T, D), and move the state on in place.

    Without gradients. ``state`` (B, K-1, D) is what `causal_conv1d` returns or zeros.
    """
    frames = x[:, None] if x.ndim == 2 else x
    _check(frames, weight, bias, state, None, activation)
    if not state.is_contiguous():
        raise ValueError(f"state is written in place and must be contiguous, got {state.stride()}")
    bias = bias if bias is None else bias.contiguous()
    y = _conv_step(frames.contiguous(), state, weight.contiguous(), bias, activation == "silu")
    return y[:, 0] if x.ndim == 2 else y


def _step_on_cpu(
    x: Tensor, state: Tensor, weight: Tensor, bias: Tensor | None, silu: bool
) -> Tensor:
    from vidmamba.kernels.causal_conv1d.cpu import conv_cpu

    mark_changed(state)
    y = conv_cpu(x, weight, bias, state, None, silu=silu, reverse=False)
    state.copy_(last_inputs(x, state, None, weight.shape[1] - 1, reverse=False))
    return y


def _step_on_cuda(
    x: Tensor, state: Tensor, weight: Tensor, bias: Tensor | None, silu: bool
) -> Tensor:
    from vidmamba.kernels.causal_conv1d.kernel import launch_step

    mark_changed(state)
    return launch_step(x, state, weight, bias, silu=silu)


def _fake_step(x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape)


_conv_step = define(
    "causal_conv1d_step", cpu=_step_on_cpu, cuda=_step_on_cuda, fake=_fake_step, mutates=("state",)
)
