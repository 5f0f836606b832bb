"""Mathematical functions of one operand. Each stands as one row: its value and its derivative side by side.

They are nobody's hot path, so they are array code for NumPy and CuPy.
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
from fastnet.errors import KindError
from fastnet.ops._numeric import rounded, wide
from fastnet.ops._operands import cast, check_tensor, compute


class Unary(ArrayFunction):
    """A function of one operand given by value(x) and derivative(grad, x, result)."""

    value: Callable
    derivative: Callable
    saves: str  # "x", "r" (the result) or "xr": what the derivative needs

    @classmethod
    def _forward(cls, ctx: Any, x: Any) -> Any:
        with np.errstate(all="ignore"):
            result = compute(cls.value, x.dtype, x)
        ctx.save(x if "x" in cls.saves else None, result if "r" in cls.saves else None)
        return result

    @classmethod
    def _backward(cls, ctx: Any, grad: Any) -> Any:
        x, result = ctx.saved
        with np.errstate(all="ignore"):
            return rounded(
                cls.derivative(wide(grad), None if x is None else wide(x), None if result is None else wide(result)),
                grad.dtype,
            )


def unary(
    name: str, value: Callable, derivative: Callable, doc: str, *, saves: str = "x", integers: str = "float"
) -> Callable:
    """A differentiable function. ``integers``: "float" (converted to the default dtype) or "keep"."""
    cls: Any = type(
        name.capitalize(),
        (Unary,),
        {"value": staticmethod(value), "derivative": staticmethod(derivative), "saves": saves},
    )
    cls.forward = staticmethod(cls._forward)
    cls.backward = staticmethod(cls._backward)

    def operation(input: Tensor) -> Tensor:
        check_tensor(name, input)
        if input._data.dtype.kind in "iub":
            if integers == "float":
                input = cast(input, _dtypes.get_default_dtype())
            elif input._data.dtype.kind == "b" and name != "sign":
                raise NotImplementedError(f"{name}: not implemented for bool")
            elif integers == "keep":
                return Tensor._wrap(value(input._data))
        return cls.apply(input)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = doc
    return operation


def zero_gradient(g: Any, x: Any, r: Any) -> Any:
    return namespace(g).zeros_like(g)


exp = unary("exp", np.exp, lambda g, x, r: g * r, "e to the power of each element.", saves="r")
exp2 = unary("exp2", np.exp2, lambda g, x, r: g * r * math.log(2), "2 to the power of each element.", saves="r")
expm1 = unary("expm1", np.expm1, lambda g, x, r: g * (r + 1), "exp(x) - 1, accurate near 0.", saves="r")
log = unary("log", np.log, lambda g, x, r: g / x, "The natural logarithm.")
log2 = unary("log2", np.log2, lambda g, x, r: g / (x * math.log(2)), "The logarithm to base 2.")
log10 = unary("log10", np.log10, lambda g, x, r: g / (x * math.log(10)), "The logarithm to base 10.")
log1p = unary("log1p", np.log1p, lambda g, x, r: g / (1 + x), "log(1 + x), accurate near 0.")
sqrt = unary("sqrt", np.sqrt, lambda g, x, r: g / (2 * r), "The square root.", saves="r")
rsqrt = unary("rsqrt", lambda x: 1 / np.sqrt(x), lambda g, x, r: -0.5 * g * r * r * r, "1 / sqrt(x).", saves="r")
reciprocal = unary("reciprocal", lambda x: 1 / x, lambda g, x, r: -g * r * r, "1 / x.", saves="r")
sin = unary("sin", np.sin, lambda g, x, r: g * np.cos(x), "The sine.")
cos = unary("cos", np.cos, lambda g, x, r: -g * np.sin(x), "The cosine.")
tan = unary("tan", np.tan, lambda g, x, r: g * (1 + r * r), "The tangent.", saves="r")
asin = unary("asin", np.arcsin, lambda g, x, r: g / np.sqrt(1 - x * x), "The inverse sine.")
acos = unary("acos", np.arccos, lambda g, x, r: -g / np.sqrt(1 - x * x), "The inverse cosine.")
atan = unary("atan", np.arctan, lambda g, x, r: g / (1 + x * x), "The inverse tangent.")
sinh = unary("sinh", np.sinh, lambda g, x, r: g * np.cosh(x), "The hyperbolic sine.")
cosh = unary("cosh", np.cosh, lambda g, x, r: g * np.sinh(x), "The hyperbolic cosine.")
_square = unary("square", np.square, lambda g, x, r: 2 * g * x, "x * x.", integers="keep")
abs = unary("abs", np.abs, lambda g, x, r: g * np.sign(x), "The absolute value.", integers="keep")
sign = unary("sign", lambda x: _sign(x), zero_gradient, "-1, 0 or 1; 0 for NaN.", saves="", integers="keep")
floor = unary("floor", np.floor, zero_gradient, "Rounded down.", saves="", integers="keep")
ceil = unary("ceil", np.ceil, zero_gradient, "Rounded up.", saves="", integers="keep")
trunc = unary("trunc", np.trunc, zero_gradient, "Rounded towards zero.", saves="", integers="keep")
_round = unary("round", np.round, zero_gradient, "", saves="", integers="keep")
_negative = unary("neg", np.negative, lambda g, x, r: -g, "", saves="", integers="keep")


def _sign(x: Any) -> Any:
    return x.copy() if x.dtype.kind == "b" else ((x > 0).astype(x.dtype) - (x < 0).astype(x.dtype)).astype(x.dtype)


def square(input: Tensor) -> Tensor:
    """x * x; of bools, int64."""
    check_tensor("square", input)
    return _square(cast(input, _dtypes.int64) if input.dtype is bool_ else input)


def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """Rounded to the nearest, ties to even, at ``decimals`` digits after the point."""
    return _round(input) if decimals == 0 else _round(input * 10.0**decimals) / 10.0**decimals


def neg(input: Tensor) -> Tensor:
    """-x."""
    check_tensor("neg", input)
    if input._data.dtype == np.bool_:
        raise KindError("Negation, the `-` operator, on a bool tensor is not supported; use `~` or logical_not()")
    return _negative(input)
