"""Loads and stores of one number a lane, in Triton without its search for wide ones.

For every load and store of a tile, Triton compares all operations that may be connected with it, in
time that grows with the square of the kernel's length: of the gradients' kernel, thirteen seconds
of compilation out of sixteen. A lane holds whole columns here, so that there is nothing to find.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

import triton
import triton.language as tl

from vidmamba.kernels.jit import jit as triton_jit

jit = triton_jit()


@triton.constexpr_function
def write_load(bits):
    """PTX: the number at an address, or zero."""
    kind = "f32" if bits == 32 else "b16"
    zero = "0f00000000" if bits == 32 else "0x0"
    return (
        f"{{ .reg .pred p; setp.ne.u32 p, $2, 0; mov.{kind} $0, {zero};"
        f"@p ld.global.{kind} $0, [$1]; }}"
    )


@triton.constexpr_function
def write_load_always(bits):
    """PTX: the number at an address."""
    return f"ld.global.{'f32' if bits == 32 else 'b16'} $0, [$1];"


@triton.constexpr_function
def write_store(bits):
    """PTX: the number to the address, or nowhere."""
    kind = "f32" if bits == 32 else "b16"
    return f"{{ .reg .pred p; setp.ne.u32 p, $3, 0;@p st.global.{kind} [$1], $2; mov.u32 $0, 0; }}"


@triton.constexpr_function
def kind_of(bits):
    """The constraint of a register of so many bits."""
    return "f" if bits == 32 else "h"


@jit
def load(p, at, there, NATIVE: tl.constexpr):
    """Numbers of memory, zero where they are not there."""
    if NATIVE:
        BITS: tl.constexpr = p.dtype.element_ty.primitive_bitwidth
        x = tl.inline_asm_elementwise(
            write_load(BITS), "=" + kind_of(BITS) + ",l,r",
            [(p + at).to(tl.int64), there.to(tl.int32)], dtype=p.dtype.element_ty, is_pure=False,
            pack=1,
        )  # fmt: skip
    else:
        x = tl.load(p + at, mask=there, other=0.0)
    return x


@jit
def load_always(p, at, NATIVE: tl.constexpr):
    """Numbers of memory."""
    if NATIVE:
        BITS: tl.constexpr = p.dtype.element_ty.primitive_bitwidth
        x = tl.inline_asm_elementwise(
            write_load_always(BITS), "=" + kind_of(BITS) + ",l", [(p + at).to(tl.int64)],
            dtype=p.dtype.element_ty, is_pure=False, pack=1,
        )  # fmt: skip
    else:
        x = tl.load(p + at)
    return x


@jit
def store(p, at, x, there, NATIVE: tl.constexpr):
    """Write numbers, in the memory's dtype, where they are there."""
    x = x.to(p.dtype.element_ty)
    if NATIVE:
        BITS: tl.constexpr = p.dtype.element_ty.primitive_bitwidth
        tl.inline_asm_elementwise(
            write_store(BITS), "=r,l," + kind_of(BITS) + ",r",
            [(p + at).to(tl.int64), x, there.to(tl.int32)], dtype=tl.int32, is_pure=False, pack=1,
        )  # fmt: skip
    else:
        tl.store(p + at, x, mask=there)


@triton.constexpr_function
def write_load_shared(bits):
    """PTX: the number at an address of shared memory."""
    return f"ld.shared.{'f32' if bits == 32 else 'b16'} $0, [$1];"


@jit
def load_shared(at, rows, lane, p):
    """Rows of 32 numbers of p's kind that lie at an address of shared memory, a column a lane."""
    BITS: tl.constexpr = p.dtype.element_ty.primitive_bitwidth
    return tl.inline_asm_elementwise(
        write_load_shared(BITS), "=" + kind_of(BITS) + ",r",
        [(at + lane * (BITS // 8))[None, :] + rows[:, None] * (BITS * 4)],
        dtype=p.dtype.element_ty, is_pure=False, pack=1,
    )  # fmt: skip
