"""The selective scan's step in Triton: one launch, the state read and written once."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import torch
import triton.language as tl
from torch import Tensor

from vidmamba.kernels.selective_scan.kernel import LOG2_E, exp2, jit, load_row, sigmoid, softplus
from vidmamba.kernels.sizes import cdiv, power_of_two

STATES_IN_REGISTERS = 1024  # of a program of one warp


def launch_step(
    state: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> Tensor:
    """Step contiguous tensors; see `selective_scan_step`."""
    (batch, frames, width), num_states = u.shape, A.shape[1]
    y = torch.empty_like(u)
    block_n = power_of_two(num_states)
    block_d = max(STATES_IN_REGISTERS // block_n, 1)
    step_kernel[(batch, cdiv(width, block_d))](
        state, u, delta, A, B, C, u if D is None else D, u if z is None else z,
        u if delta_bias is None else delta_bias, y, frames, width, num_states,
        HAS_SKIP=D is not None, HAS_Z=z is not None, HAS_BIAS=delta_bias is not None,
        SOFTPLUS=delta_softplus, NATIVE=u.is_cuda and torch.version.hip is None,
        PRECISE=u.dtype != torch.bfloat16, BLOCK_D=block_d, BLOCK_N=block_n, num_warps=1,
    )  # fmt: skip
    return y


@jit
def step_kernel(
    state, u, delta, A, B, C, skip, z, bias, y, T, D, N,
    HAS_SKIP: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr,
    NATIVE: tl.constexpr, PRECISE: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One video and one block of channels through all new frames."""
    video = tl.program_id(0).to(tl.int64)
    d, n = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D), tl.arange(0, BLOCK_N)
    real = d < D
    here = real[:, None] & (n < N)[None, :]
    p_state = state + video * D * N + d[:, None] * N + n[None, :]
    h = tl.load(p_state, mask=here, other=0.0)
    rate = tl.load(A + d[:, None] * N + n[None, :], mask=here, other=0.0).to(tl.float32) * LOG2_E
    shift = load_row(bias, d, real, HAS_BIAS)
    through = load_row(skip, d, real, HAS_SKIP)
    for t in range(T):
        at = (video * T + t) * D + d
        size = tl.load(delta + at, mask=real, other=0.0).to(tl.float32) + shift
        if SOFTPLUS:
            size = softplus(size, NATIVE, PRECISE)
        value = tl.load(u + at, mask=real, other=0.0).to(tl.float32)
        p_row = (video * T + t) * N + n
        gain = tl.load(B + p_row, mask=n < N, other=0.0).to(tl.float32)
        look = tl.load(C + p_row, mask=n < N, other=0.0).to(tl.float32)
        h = h * exp2(size[:, None] * rate, NATIVE) + (size * value)[:, None] * gain[None, :]
        out = tl.sum(h * look[None, :], axis=1) + value * through
        if HAS_Z:
            gate = tl.load(z + at, mask=real, other=0.0).to(tl.float32)
            out *= gate * sigmoid(gate, NATIVE)
        tl.store(y + at, out.to(y.dtype.element_ty), mask=real)
    tl.store(p_state, h, mask=here)
