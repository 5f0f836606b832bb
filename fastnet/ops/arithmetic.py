"""Elementwise arithmetic of two or three operands, with PyTorch's type promotion and broadcasting.

Each differentiable function stands as one row: its value and its derivatives side by side. They are nobody's hot path,
so they are array code for NumPy and CuPy; what a training step spends time in is in the kernel families.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._device import namespace
from fastnet._dtypes import bool_
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.ops._numeric import is_short, rounded, unbroadcast, wide
from fastnet.ops._operands import cast, check_both, compute, number, operands, priority, result_type, shape_of, wrapped
from fastnet.ops.comparisons import lt, plain_binary
from fastnet.ops.elementwise import abs as absolute
from fastnet.ops.selection import where


class Add(ArrayFunction):
    """a + b."""

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any, dtype: Any) -> Any:
        ctx.shapes = shape_of(a), shape_of(b)
        return compute(np.add, dtype, a, b)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        need = ctx.needs_input_grad
        return (
            unbroadcast(grad, ctx.shapes[0]) if need[0] else None,
            unbroadcast(grad, ctx.shapes[1]) if need[1] else None,
            None,
        )


class Subtract(ArrayFunction):
    """a - b."""

    node_name = "SubBackward0"

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any, dtype: Any) -> Any:
        ctx.shapes = shape_of(a), shape_of(b)
        return compute(np.subtract, dtype, a, b)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        need = ctx.needs_input_grad
        return (
            unbroadcast(grad, ctx.shapes[0]) if need[0] else None,
            unbroadcast(-grad, ctx.shapes[1]) if need[1] else None,
            None,
        )


class Binary(ArrayFunction):
    """A function of two operands given by value(a, b) and derivative(grad, a, b, result) for each of them."""

    value: Callable
    left: Callable
    right: Callable
    # Of a, b and r, the result, those that each derivative needs: what is kept must not change in place.
    left_saves: str
    right_saves: str

    @classmethod
    def _forward(cls, ctx: Any, a: Any, b: Any, dtype: Any) -> Any:
        result = compute(cls.value, dtype, a, b)
        ctx.shapes = shape_of(a), shape_of(b)
        need = ctx.needs_input_grad
        kept = (cls.left_saves if need[0] else "") + (cls.right_saves if need[1] else "")
        ctx.save(a if "a" in kept else None, b if "b" in kept else None, result if "r" in kept else None)
        return result

    @classmethod
    def _backward(cls, ctx: Any, grad: Any) -> Any:
        a, b, result = ctx.saved
        dtype = grad.dtype
        if is_short(grad):
            grad, a, b, result = (wide(x) if hasattr(x, "dtype") else x for x in (grad, a, b, result))
        out = []
        with np.errstate(all="ignore"):
            for need, rule, shape in zip(ctx.needs_input_grad, (cls.left, cls.right), ctx.shapes, strict=False):
                out.append(rounded(unbroadcast(rule(grad, a, b, result), shape), dtype) if need else None)
        return (*out, None)


def binary(
    name: str, value: Callable, left: Callable, right: Callable, left_saves: str = "ab", right_saves: str = "ab"
) -> type[Binary]:
    cls: Any = type(
        name,
        (Binary,),
        {
            "value": staticmethod(value),
            "left": staticmethod(left),
            "right": staticmethod(right),
            "left_saves": left_saves,
            "right_saves": right_saves,
        },
    )
    cls.forward = staticmethod(cls._forward)
    cls.backward = staticmethod(cls._backward)
    return cls


def _pow_exponent(g: Any, a: Any, b: Any, r: Any) -> Any:
    xp = namespace(g)
    a = xp.asarray(a, g.dtype)  # a number's conditions would be the host's
    return xp.where(a == 0, xp.where(b >= 0, xp.zeros_like(g), -math.inf * g), g * r * xp.log(a))


def _pow_base(g: Any, a: Any, b: Any, r: Any) -> Any:
    slope = g * b * a ** (b - 1)
    if isinstance(b, (int, float, np.generic)):
        return (namespace(g).zeros_like(g) if b == 0 else slope).astype(g.dtype)
    return namespace(g).where(b == 0, 0, slope).astype(g.dtype)


def _power(a: Any, b: Any) -> Any:
    """a to the power b; of integers to negative powers the whole part."""
    if b.dtype.kind != "i" or not (b < 0).any():
        return np.power(a, b)
    xp = np if isinstance(a, (np.ndarray, np.generic)) else namespace(a)
    inverse = xp.where(a == 1, 1, xp.where(a == -1, xp.where(b % 2 == 0, 1, -1), 0)).astype(b.dtype)
    return xp.where(b < 0, inverse, np.power(a, xp.maximum(b, 0)))


def _half_ties(g: Any, chosen: Any, tied: Any) -> Any:
    xp = namespace(g)
    return xp.where(chosen, g, xp.where(tied, g / 2, 0)).astype(g.dtype)


Multiply = binary("Mul", np.multiply, lambda g, a, b, r: g * b, lambda g, a, b, r: g * a, "b", "a")
Divide = binary("Div", np.true_divide, lambda g, a, b, r: g / b, lambda g, a, b, r: -g * (a / b) / b, "b")
DivideFloor = binary("Div", np.floor_divide, lambda g, a, b, r: 0 * g, lambda g, a, b, r: 0 * g, "", "")
DivideTrunc = binary(
    "Div", lambda a, b: np.trunc(np.true_divide(a, b)), lambda g, a, b, r: 0 * g, lambda g, a, b, r: 0 * g, "", ""
)
Power = binary("Pow", _power, _pow_base, _pow_exponent, "ab", "abr")
Maximum = binary(
    "Maximum",
    np.maximum,
    lambda g, a, b, r: _half_ties(g, a > b, a == b),
    lambda g, a, b, r: _half_ties(g, b > a, a == b),
)
Minimum = binary(
    "Minimum",
    np.minimum,
    lambda g, a, b, r: _half_ties(g, a < b, a == b),
    lambda g, a, b, r: _half_ties(g, b < a, a == b),
)
Remainder = binary(
    "Remainder", np.remainder, lambda g, a, b, r: g, lambda g, a, b, r: -g * np.floor_divide(a, b), left_saves=""
)
Fmod = binary("Fmod", np.fmod, lambda g, a, b, r: g, lambda g, a, b, r: -g * np.trunc(a / b), left_saves="")
Atan2 = binary(
    "Atan2", np.arctan2, lambda g, a, b, r: g * b / (a * a + b * b), lambda g, a, b, r: -g * a / (a * a + b * b)
)


def add(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """``input + alpha * other``, broadcast.

    >>> import fastnet
    >>> fastnet.tensor([1.0, 2.0]) + 1
    tensor([2., 3.])
    """
    a, b, dtype = operands("add", input, other)
    return Add.apply(a, b if alpha == 1 and alpha is not True else _times(b, alpha, dtype), dtype)


def _times(b: Any, alpha: Any, dtype: np.dtype) -> Any:
    """alpha times an operand, in the dtype that both are in already."""
    alpha = number(alpha)
    if isinstance(alpha, bool) and dtype != np.bool_:
        raise KindError("Boolean alpha only supported for Boolean results.")
    if isinstance(alpha, float) and dtype.kind in "iub":
        raise KindError("For integral input tensors, argument alpha must not be a floating point number.")
    if not isinstance(b, Tensor):
        return b * alpha
    return Multiply.apply(
        b,
        dtype.type(alpha)
        if dtype.kind == "b"
        else wrapped(alpha, _dtypes.FROM_NUMPY[dtype])
        if dtype.kind in "iu"
        else alpha,
        dtype,
    )


def sub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """``input - alpha * other``, broadcast."""
    a, b, dtype = operands("sub", input, other)
    if dtype == np.bool_ or _is_bool(input) or _is_bool(other):
        raise KindError("Subtraction, the `-` operator, with a bool tensor is not supported; use `^` or logical_xor()")
    return Subtract.apply(a, b if alpha == 1 and alpha is not True else _times(b, alpha, dtype), dtype)


def _is_bool(x: Any) -> bool:
    return x._data.dtype == np.bool_ if isinstance(x, Tensor) else isinstance(x, bool)


def mul(input: Any, other: Any) -> Tensor:
    """``input * other``, broadcast."""
    a, b, dtype = operands("mul", input, other)
    return Multiply.apply(a, b, dtype)


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """``input / other``; integers give the default float dtype. ``rounding_mode`` is None, "trunc" or "floor"."""
    if rounding_mode == "floor":
        a, b, dtype = operands("div", input, other)
        if dtype.kind in "iub":
            return floor_divide(input, other)
        with np.errstate(all="ignore"):
            return DivideFloor.apply(a, b, dtype)
    if rounding_mode not in (None, "trunc"):
        raise InputError(
            f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'"
        )
    common = result_type(input, other)
    a, b, dtype = operands("div", input, other, floating=True)
    with np.errstate(all="ignore"):
        if rounding_mode is None:
            return Divide.apply(a, b, dtype)
        if not common.is_floating_point:
            _integer_zero("div", input, other)
        return cast(DivideTrunc.apply(a, b, dtype), common)


def pow(input: Any, exponent: Any) -> Tensor:
    """``input`` to the power ``exponent``."""
    a, b, dtype = operands("pow", input, exponent)
    if dtype == np.bool_:
        raise NotImplementedError("pow: not implemented for bool")
    if dtype.kind in "iu" and not isinstance(b, Tensor) and b < 0:
        raise InputError("Integers to negative integer powers are not allowed.")
    with np.errstate(all="ignore"):
        return Power.apply(a, b, dtype)


_floor_divide_float = plain_binary("floor_divide", np.floor_divide, "")


def _check_not_bools(name: str, input: Any, other: Any) -> None:
    if _is_bool(input) and _is_bool(other):
        raise NotImplementedError(f"{name}: not implemented for bool")


def _integer_zero(name: str, input: Any, other: Any) -> None:
    """Integer division by zero raises, as PyTorch's does on the CPU."""
    if not result_type(input, other).is_floating_point:
        zero = (other._data == 0).any() if isinstance(other, Tensor) else other == 0
        if zero:
            raise InputError("ZeroDivisionError")


def floor_divide(input: Any, other: Any) -> Tensor:
    """``input // other``, rounded down."""
    _check_not_bools("floor_divide", input, other)
    _integer_zero("floor_divide", input, other)
    return _floor_divide_float(input, other)


def remainder(input: Any, other: Any) -> Tensor:
    """``input % other`` with the sign of ``other``, as Python's."""
    _check_not_bools("remainder", input, other)
    _integer_zero("remainder", input, other)
    a, b, dtype = operands("remainder", input, other)
    with np.errstate(all="ignore"):
        return Remainder.apply(a, b, dtype)


def fmod(input: Any, other: Any) -> Tensor:
    """The remainder with the sign of ``input``, as C's."""
    _check_not_bools("fmod", input, other)
    _integer_zero("fmod", input, other)
    a, b, dtype = operands("fmod", input, other)
    with np.errstate(all="ignore"):
        return Fmod.apply(a, b, dtype)


def maximum(input: Tensor, other: Tensor) -> Tensor:
    """The greater of two tensors, elementwise; NaN if either is; equal operands share the gradient."""
    check_both("maximum", input, other)
    return Maximum.apply(*operands("maximum", input, other))


def minimum(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of two tensors, elementwise; NaN if either is; equal operands share the gradient."""
    check_both("minimum", input, other)
    return Minimum.apply(*operands("minimum", input, other))


def atan2(input: Tensor, other: Tensor) -> Tensor:
    """The angle of the point (other, input)."""
    check_both("atan2", input, other)
    return Atan2.apply(*operands("atan2", input, other, floating=True))


def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """``input + weight * (end - input)``, computed from the nearer end."""
    check_both("lerp", input, end)
    if not input.dtype.is_floating_point or input.dtype is not end.dtype:
        raise KindError(f"lerp: expected floating-point tensors of one dtype, got {input.dtype} and {end.dtype}")
    difference = sub(end, input)
    if not isinstance(weight, Tensor):
        weight = float(weight)
        if abs(weight) < 0.5:
            return add(input, mul(difference, weight))
        return sub(end, mul(difference, 1 - weight))
    if weight.dtype is not input.dtype:
        raise KindError(f"lerp: expected dtype {input.dtype} for `weight` but got dtype {weight.dtype}")
    return where(
        lt(absolute(weight), 0.5), add(input, mul(difference, weight)), sub(end, mul(difference, sub(1, weight)))
    )


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """``input + value * tensor1 * tensor2``."""
    common = _dtypes.result_type_of([priority(x) for x in (input, tensor1, tensor2)])
    if common is bool_:
        raise NotImplementedError("addcmul: not implemented for bool")
    value = value if common.is_floating_point else int(value)
    return add(input, mul(mul(tensor1, value), tensor2) if value != 1 else mul(tensor1, tensor2))


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """``input + value * tensor1 / tensor2``, of floating-point tensors."""
    if not result_type(tensor1, tensor2).is_floating_point:
        raise InputError("Integer division with addcdiv is not supported: use div and add")
    quotient = div(tensor1, tensor2)
    return add(input, quotient if value == 1 else mul(quotient, value))
