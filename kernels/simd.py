"""Sixteen float32 lanes as one numba value: the vocabulary in which the CPU kernels are written.

Numba's own loop vectoriser must prove that arrays do not overlap, and gives up on the scans. A
value of this type is one LLVM vector, which LLVM splits into whatever registers the machine has.
Imported on first use only, since numba takes a second to load.
"""

# mypy: disable-error-code="no-untyped-def,misc,untyped-decorator"

import hashlib
import inspect
import operator
from pathlib import Path
from typing import Any

import llvmlite.ir as ir
import numpy as np
from numba import float32, int64, njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

LANES = 16
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)


def compiled(function: Any) -> Any:
    """Compile without the interpreter lock; keep the machine code beside the source if allowed."""
    function = inspect.unwrap(function)  # numba cannot look through a run-time type checker
    # numba forgets its cache when the function's file changes; this file is compiled in as well
    function.__qualname__ += "_" + hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no folder that it may write to
        return njit(**options)(function)


def _inlined(function: Any) -> Any:
    return njit(inline="always")(inspect.unwrap(function))


def _primitive(function: Any) -> Any:
    return intrinsic(inspect.unwrap(function))


class Lanes(types.Type):
    """The numba type of sixteen float32 lanes."""

    def __init__(self):
        super().__init__(name="Lanes")


lanes = Lanes()


@register_model(Lanes)
class LanesModel(models.PrimitiveModel):
    """Lanes are one LLVM vector."""

    def __init__(self, manager, kind):
        super().__init__(manager, kind, _VECTOR)


def _constant(value):
    return ir.Constant(_VECTOR, [float(np.float32(value))] * LANES)


def _integers(value):
    return ir.Constant(_INTEGERS, [value] * LANES)


def _splat(builder, scalar):
    one = builder.insert_element(
        ir.Constant(_VECTOR, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0)
    )
    zeros = ir.Constant(_INTEGERS, [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), zeros)


def _call(builder, name, *values):
    kind = ir.FunctionType(values[0].type, [value.type for value in values])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f32")
    return builder.call(function, values)


def _address(context, builder, array_type, array, index):
    data = cgutils.create_struct_proxy(array_type)(context, builder, value=array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


@_primitive
def load(typing, array, index):
    """Sixteen neighbours of a flat array, from ``index`` on; no alignment needed."""

    def generate(context, builder, signature, arguments):
        address = _address(context, builder, signature.args[0], *arguments)
        return builder.load(address, align=4)

    return lanes(array, int64), generate


@_primitive
def store(typing, array, index, value):
    """Write sixteen neighbours of a flat array, from ``index`` on."""

    def generate(context, builder, signature, arguments):
        address = _address(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], address, align=4)
        return context.get_dummy_value()

    return types.void(array, int64, lanes), generate


def _prefetch(context, builder, signature, arguments, write):
    array = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0])
    pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    address = builder.bitcast(builder.gep(array.data, [arguments[1]]), pointer)
    kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [address, number(write), number(3), number(1)])
    return context.get_dummy_value()


@_primitive
def prefetch(typing, array, index):
    """Ask for a cache line of a flat array that is read soon; any index is safe."""
    return types.void(array, int64), lambda *given: _prefetch(*given, write=0)


@_primitive
def prefetch_to_write(typing, array, index):
    """Ask for a cache line that is written soon: writes retire in order, so one miss holds all."""
    return types.void(array, int64), lambda *given: _prefetch(*given, write=1)


@_primitive
def splat(typing, scalar):
    """One float32 in every lane."""
    return lanes(float32), lambda context, builder, signature, arguments: _splat(
        builder, arguments[0]
    )


@_primitive
def fma(typing, a, b, c):
    """``a * b + c``, rounded once where the machine can."""
    return lanes(lanes, lanes, lanes), lambda context, builder, signature, arguments: _call(
        builder, "fmuladd", *arguments
    )


@_primitive
def total(typing, value):
    """The sum of all lanes, always in the same order."""

    def generate(context, builder, signature, arguments):
        value, width = arguments[0], LANES
        while width > 1:
            width //= 2
            low, high = (
                builder.shuffle_vector(
                    value,
                    value,
                    ir.Constant(
                        ir.VectorType(ir.IntType(32), width), [*range(begin, begin + width)]
                    ),
                )
                for begin in (0, width)
            )
            value = builder.fadd(low, high)
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    return float32(lanes), generate


@_primitive
def maximum(typing, a, b):
    """The larger of each lane."""

    def generate(context, builder, signature, arguments):
        # the comparison and the choice are one instruction; llvm.maxnum, minding NaN, is three
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return lanes(lanes, lanes), generate


def _binary(name, operation):
    @_primitive
    def apply(typing, a, b):
        return lanes(lanes, lanes), lambda context, builder, signature, arguments: getattr(
            builder, name
        )(*arguments)

    @overload(operation, inline="always")
    def _(a, b):
        return (lambda a, b: apply(a, b)) if a is lanes and b is lanes else None


for _name, _operation in [
    ("fadd", operator.add),
    ("fsub", operator.sub),
    ("fmul", operator.mul),
    ("fdiv", operator.truediv),
]:
    _binary(_name, _operation)

# (2**f - 1) / f on [-1/2, 1/2]: Chebyshev interpolation, largest relative error 2e-9
_POWER = np.polynomial.chebyshev.cheb2poly(
    np.polynomial.chebyshev.chebinterpolate(
        lambda x: np.where(x == 0, np.log(2), np.expm1(np.log(2) * x / 2) / np.where(x, x / 2, 1)),
        6,
    )
) * 2.0 ** np.arange(7)
# 1.5 * 2**23: adding it rounds to an integer and leaves that integer in the low mantissa bits
_MAGIC = 12582912.0


def _power_of_two(builder, x):
    """``2**f - 1`` and ``2**k`` for ``x = k + f``, ``k`` the nearest integer."""
    low, high = _constant(-126.0), _constant(127.0)
    x = builder.select(builder.fcmp_ordered(">", x, low), x, low)
    x = builder.select(builder.fcmp_ordered("<", x, high), x, high)
    shifted = builder.fadd(x, _constant(_MAGIC))
    part = builder.fsub(x, builder.fsub(shifted, _constant(_MAGIC)))
    power = _constant(_POWER[6])
    for coefficient in _POWER[5::-1]:
        power = _call(builder, "fmuladd", power, part, _constant(coefficient))
    exponent = builder.shl(builder.bitcast(shifted, _INTEGERS), _integers(23))
    scale = builder.bitcast(builder.add(exponent, _integers(0x3F800000)), _VECTOR)
    return builder.fmul(power, part), scale


@_primitive
def exp2(typing, x):
    """``2**x`` to float32's relative rounding; ``x`` is cut to [-126, 127]."""

    def generate(context, builder, signature, arguments):
        power, scale = _power_of_two(builder, arguments[0])
        return _call(builder, "fmuladd", power, scale, scale)

    return lanes(lanes), generate


@_primitive
def exp2m1(typing, x):
    """``2**x - 1`` to float32's relative rounding, near zero too; ``x`` is cut to [-126, 127].

    Exactness near zero is what lets a state decay slowly over 64k frames without drifting.
    """

    def generate(context, builder, signature, arguments):
        power, scale = _power_of_two(builder, arguments[0])
        return _call(builder, "fmuladd", power, scale, builder.fsub(scale, _constant(1.0)))

    return lanes(lanes), generate


@_inlined
def softplus(x):
    """``log(1 + exp(x))`` to float32's relative rounding, far below zero too."""
    zero = splat(float32(0.0))
    small = exp2(maximum(x, zero - x) * splat(float32(-1.4426950408889634)))
    # log1p(e) = 2 atanh(e / (2 + e)), whose argument is at most 1/3
    s = small / (small + splat(float32(2.0)))
    q = s * s
    p = splat(float32(2.0 / 17.0))
    for odd in (15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0):
        p = fma(p, q, splat(float32(2.0) / float32(odd)))
    return fma(p, s, maximum(x, zero))


@_inlined
def sigmoid(x):
    """``1 / (1 + exp(-x))``."""
    one = splat(float32(1.0))
    return one / (exp2(x * splat(float32(-1.4426950408889634))) + one)
