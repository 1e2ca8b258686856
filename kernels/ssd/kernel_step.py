"""Mamba-2's step in Triton: one launch, the state read and written once."""

from typing import no_type_check

import torch
import triton.language as tl
from torch import Tensor

from vidmamba.kernels.jit import jit
from vidmamba.kernels.selective_scan.kernel import LOG2_E, exp2, load_row, sigmoid, softplus
from vidmamba.kernels.sizes import cdiv, power_of_two

STATES_IN_REGISTERS = 4096  # of a program of four warps


def launch_step(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
) -> Tensor:
    """Step contiguous tensors; see `ssd_step`."""
    (batch, frames, heads, width), (groups, states) = x.shape, B.shape[2:]
    y = torch.empty_like(x)
    block_n = power_of_two(states)
    block_p = min(power_of_two(width), max(STATES_IN_REGISTERS // block_n, 1))
    step_kernel[(batch * heads, cdiv(width, block_p))](
        state, x, dt, A, B, C, x if D is None else D, x if z is None else z,
        x if dt_bias is None else dt_bias, y, frames, heads, width, states, groups,
        heads // groups, HAS_SKIP=D is not None, HAS_Z=z is not None,
        HAS_BIAS=dt_bias is not None, SOFTPLUS=dt_softplus,
        NATIVE=x.is_cuda and torch.version.hip is None, PRECISE=x.dtype != torch.bfloat16,
        BLOCK_P=block_p, BLOCK_N=block_n, num_warps=4,
    )  # fmt: skip
    return y


@jit(do_not_specialize=["T"])
@no_type_check
def step_kernel(
    state, x, dt, A, B, C, skip, z, bias, y, T, H, P, N, G, heads_a_group,
    HAS_SKIP: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr,
    NATIVE: tl.constexpr, PRECISE: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One video's head and a block of its channels through all new frames."""
    video, head = (tl.program_id(0) // H).to(tl.int64), tl.program_id(0) % H
    p, n = tl.program_id(1) * BLOCK_P + tl.arange(0, BLOCK_P), tl.arange(0, BLOCK_N)
    real = p < P
    here = real[:, None] & (n < N)[None, :]
    p_state = state + ((video * H + head) * P + p[:, None]) * N + n[None, :]
    h = tl.load(p_state, mask=here, other=0.0)
    one = head + p * 0  # the head's parameters, once a channel
    rate = tl.load(A + head).to(tl.float32) * LOG2_E
    shift = load_row(bias, one, real, HAS_BIAS)
    through = load_row(skip, one, real, HAS_SKIP)
    for t in range(T):
        row = (video * T + t) * H + head
        size = tl.load(dt + row + p * 0, mask=real, other=0.0).to(tl.float32) + shift
        if SOFTPLUS:
            size = softplus(size, NATIVE, PRECISE)
        value = tl.load(x + row * P + p, mask=real, other=0.0).to(tl.float32)
        shared = ((video * T + t) * G + head // heads_a_group) * N + n
        gain = tl.load(B + shared, mask=n < N, other=0.0).to(tl.float32)
        look = tl.load(C + shared, mask=n < N, other=0.0).to(tl.float32)
        h = h * exp2(size * rate, NATIVE)[:, None] + (size * value)[:, None] * gain[None, :]
        out = tl.sum(h * look[None, :], axis=1) + value * through
        if HAS_Z:
            gate = tl.load(z + row * P + p, mask=real, other=0.0).to(tl.float32)
            out *= gate * sigmoid(gate, NATIVE)
        tl.store(y + row * P + p, out.to(y.dtype.element_ty), mask=real)
    tl.store(p_state, h, mask=here)
