"""Elementwise arithmetic, comparisons and mathematical functions, with PyTorch's type promotion and broadcasting.

Each differentiable function stands as one row: its value and its derivative side by side. They are nobody's hot path,
so they are array code for NumPy and CuPy; what a training step spends time in is in the kernel families.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._device import namespace
from fastnet._dtypes import bool_
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction, is_grad_enabled
from fastnet.autograd.views import check_overlap, rebase, recorded_in_place
from fastnet.ops._numeric import is_short, rounded, unbroadcast, wide

# ---- operands ------------------------------------------------------------------------------------------------------


class Cast(ArrayFunction):
    """x in another dtype."""

    node_name = "ToCopyBackward0"

    @staticmethod
    def forward(ctx: Any, x: Any, dtype: Any) -> Any:
        ctx.dtype = x.dtype
        # Float to integer: NumPy warns of values that do not fit, whose result is undefined in PyTorch too.
        with np.errstate(invalid="ignore", over="ignore"):
            return x.astype(dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return rounded(grad, ctx.dtype), None


def cast(x: Tensor, dtype: _dtypes.dtype) -> Tensor:
    """x in ``dtype``; x itself if it has that already."""
    return x if x._data.dtype == dtype.numpy else Cast.apply(x, dtype.numpy)


def _priority(x: Any) -> tuple[_dtypes.dtype, int]:
    if isinstance(x, Tensor):
        return _dtypes.of_array(x._data), 2 if x._data.ndim else 1
    return _dtypes.of_scalar(x), 0


def result_type(a: Any, b: Any) -> _dtypes.dtype:
    """The dtype of an operation on tensors or numbers, as ``torch.result_type``."""
    return _dtypes.result_type_of([_priority(a), _priority(b)])


def operands(name: str, a: Any, b: Any, *, floating: bool = False) -> tuple[Any, Any, np.dtype]:
    """Both operands in their common dtype: tensors cast, numbers left to be converted by the array library."""
    ta, tb = isinstance(a, Tensor), isinstance(b, Tensor)
    if ta and tb:
        da = a._data.dtype
        if da == b._data.dtype and not floating:
            _check_same_device(name, a, b)
            return a, b, da
    elif not ta and not tb:
        raise TypeError(f"{name}: expected at least one Tensor, got {type(a).__name__} and {type(b).__name__}")
    try:
        common = result_type(a, b)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    if floating and not common.is_floating_point:
        common = _dtypes.get_default_dtype()
    if ta:
        a = cast(a, common)
    if tb:
        b = cast(b, common)
    if ta and tb:
        _check_same_device(name, a, b)
    if common.category == 1:  # a Python number beyond the integer type wraps, as in PyTorch
        a, b = (x if isinstance(x, Tensor) else _wrapped(x, common) for x in (a, b))
    return a, b, common.numpy


def _wrapped(x: Any, dtype: _dtypes.dtype) -> Any:
    return int(np.asarray(int(x) & (2 ** (8 * dtype.itemsize) - 1), np.uint64).astype(dtype.numpy))


def _check_same_device(name: str, a: Tensor, b: Tensor) -> None:
    if isinstance(a._data, np.ndarray) is not isinstance(b._data, np.ndarray):
        raise ValueError(f"{name}: expected all tensors to be on the same device, got {a.device} and {b.device}")
    if a._data.shape != b._data.shape:
        check_broadcast(name, a._data.shape, b._data.shape)


def check_broadcast(name: str, a: tuple, b: tuple) -> None:
    """ValueError unless the shapes broadcast together."""
    for i in range(1, min(len(a), len(b)) + 1):
        if a[-i] != b[-i] and a[-i] != 1 and b[-i] != 1:
            raise ValueError(
                f"{name}: the size of tensor a ({a[-i]}) must match the size of tensor b ({b[-i]}) at non-singleton "
                f"dimension {max(len(a), len(b)) - i}; got shapes {tuple(a)} and {tuple(b)}"
            )


def _shape(x: Any) -> tuple[int, ...] | None:
    return x.shape if hasattr(x, "shape") else None


def _compute(function: Callable, dtype: np.dtype, *arrays: Any) -> Any:
    """function(*arrays), 16-bit types in float32; numbers take the arrays' type."""
    if dtype.itemsize == 2 and dtype.kind in "fV":
        return function(*[wide(x) if hasattr(x, "dtype") else np.float32(x) for x in arrays]).astype(dtype)
    return function(*[x if hasattr(x, "dtype") else dtype.type(x) for x in arrays])


# ---- two operands --------------------------------------------------------------------------------------------------


class Add(ArrayFunction):
    """a + b."""

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any, dtype: Any) -> Any:
        ctx.shapes = _shape(a), _shape(b)
        return _compute(np.add, dtype, a, b)

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
        ctx.shapes = _shape(a), _shape(b)
        return _compute(np.subtract, dtype, a, b)

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
    saves_result: bool  # keep it only where a derivative needs it: what is kept must not change in place

    @classmethod
    def _forward(cls, ctx: Any, a: Any, b: Any, dtype: Any) -> Any:
        result = _compute(cls.value, dtype, a, b)
        ctx.shapes = _shape(a), _shape(b)
        ctx.save(a, b, result if cls.saves_result else None)
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


def _binary(name: str, value: Callable, left: Callable, right: Callable, saves_result: bool = False) -> type[Binary]:
    cls: Any = type(
        name,
        (Binary,),
        {
            "value": staticmethod(value),
            "left": staticmethod(left),
            "right": staticmethod(right),
            "saves_result": saves_result,
        },
    )
    cls.forward = staticmethod(cls._forward)
    cls.backward = staticmethod(cls._backward)
    return cls


def _pow_exponent(g: Any, a: Any, b: Any, r: Any) -> Any:
    xp = namespace(g)
    return xp.where(a == 0, xp.where(b >= 0, xp.zeros_like(g), -math.inf * g), g * r * xp.log(a))


def _pow_base(g: Any, a: Any, b: Any, r: Any) -> Any:
    return namespace(g).where(b == 0, 0, g * b * a ** (b - 1)).astype(g.dtype)


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


Multiply = _binary("Mul", np.multiply, lambda g, a, b, r: g * b, lambda g, a, b, r: g * a)
Divide = _binary("Div", np.true_divide, lambda g, a, b, r: g / b, lambda g, a, b, r: -g * r / b, saves_result=True)
DivideFloor = _binary("Div", np.floor_divide, lambda g, a, b, r: 0 * g, lambda g, a, b, r: 0 * g)
DivideTrunc = _binary(
    "Div", lambda a, b: np.trunc(np.true_divide(a, b)), lambda g, a, b, r: 0 * g, lambda g, a, b, r: 0 * g
)
Power = _binary("Pow", _power, _pow_base, _pow_exponent, saves_result=True)
Maximum = _binary(
    "Maximum",
    np.maximum,
    lambda g, a, b, r: _half_ties(g, a > b, a == b),
    lambda g, a, b, r: _half_ties(g, b > a, a == b),
)
Minimum = _binary(
    "Minimum",
    np.minimum,
    lambda g, a, b, r: _half_ties(g, a < b, a == b),
    lambda g, a, b, r: _half_ties(g, b < a, a == b),
)
Remainder = _binary("Remainder", np.remainder, lambda g, a, b, r: g, lambda g, a, b, r: -g * np.floor_divide(a, b))
Fmod = _binary("Fmod", np.fmod, lambda g, a, b, r: g, lambda g, a, b, r: -g * np.trunc(a / b))
Atan2 = _binary(
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
    if isinstance(alpha, bool) and dtype != np.bool_:
        raise RuntimeError("Boolean alpha only supported for Boolean results.")
    if isinstance(alpha, float) and dtype.kind in "iub":
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
    if not isinstance(b, Tensor):
        return b * alpha
    return Multiply.apply(
        b,
        dtype.type(alpha)
        if dtype.kind == "b"
        else _wrapped(alpha, _dtypes.FROM_NUMPY[dtype])
        if dtype.kind in "iu"
        else alpha,
        dtype,
    )


def sub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """``input - alpha * other``, broadcast."""
    a, b, dtype = operands("sub", input, other)
    if dtype == np.bool_ or _is_bool(input) or _is_bool(other):
        raise RuntimeError(
            "Subtraction, the `-` operator, with a bool tensor is not supported; use `^` or logical_xor()"
        )
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
        raise RuntimeError(
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
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    with np.errstate(all="ignore"):
        return Power.apply(a, b, dtype)


def _plain_binary(name: str, function: Callable, doc: str, *, result: Any = None, tensors: int = 0) -> Callable:
    """A function of two operands without a gradient; ``result`` is its dtype if not the operands'. The first
    ``tensors`` operands may not be numbers."""

    def operation(input: Any, other: Any) -> Tensor:
        if tensors:
            check_tensor(name, input)
            if tensors == 2:
                check_tensor(name, other, "other")
        a, b, dtype = operands(name, input, other)
        a, b = (x._data if isinstance(x, Tensor) else x for x in (a, b))
        with np.errstate(all="ignore"):
            if result is not None and not (hasattr(a, "dtype") and hasattr(b, "dtype")):
                out = function(*[x if hasattr(x, "dtype") else dtype.type(x) for x in (a, b)])
            else:
                out = function(a, b) if result is not None else _compute(function, dtype, a, b)
        return Tensor._wrap(out)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = doc
    return operation


eq = _plain_binary("eq", np.equal, "Elementwise ``input == other``, as bool.", result=bool, tensors=1)
ne = _plain_binary("ne", np.not_equal, "Elementwise ``input != other``, as bool.", result=bool, tensors=1)
lt = _plain_binary("lt", np.less, "Elementwise ``input < other``, as bool.", result=bool, tensors=1)
le = _plain_binary("le", np.less_equal, "Elementwise ``input <= other``, as bool.", result=bool, tensors=1)
gt = _plain_binary("gt", np.greater, "Elementwise ``input > other``, as bool.", result=bool, tensors=1)
ge = _plain_binary("ge", np.greater_equal, "Elementwise ``input >= other``, as bool.", result=bool, tensors=1)
_floor_divide_float = _plain_binary("floor_divide", np.floor_divide, "")
logical_and = _plain_binary("logical_and", np.logical_and, "Elementwise and of truth values.", result=bool, tensors=2)
logical_or = _plain_binary("logical_or", np.logical_or, "Elementwise or of truth values.", result=bool, tensors=2)
logical_xor = _plain_binary(
    "logical_xor", np.logical_xor, "Elementwise exclusive or of truth values.", result=bool, tensors=2
)
_and = _plain_binary("bitwise_and", np.bitwise_and, "Elementwise and of the bits of integers or bools.")
_or = _plain_binary("bitwise_or", np.bitwise_or, "Elementwise or of the bits of integers or bools.")
_xor = _plain_binary("bitwise_xor", np.bitwise_xor, "Elementwise exclusive or of the bits of integers or bools.")


def _bits(name: str, function: Callable) -> Callable:
    def operation(input: Any, other: Any) -> Tensor:
        if result_type(input, other).is_floating_point:
            raise RuntimeError(f"{name}: not implemented for floating-point tensors, got {result_type(input, other)}")
        return function(input, other)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = function.__doc__
    return operation


bitwise_and, bitwise_or, bitwise_xor = _bits("bitwise_and", _and), _bits("bitwise_or", _or), _bits("bitwise_xor", _xor)


def _check_not_bools(name: str, input: Any, other: Any) -> None:
    if _is_bool(input) and _is_bool(other):
        raise NotImplementedError(f"{name}: not implemented for bool")


def _integer_zero(name: str, input: Any, other: Any) -> None:
    """Integer division by zero raises, as PyTorch's does on the CPU."""
    if not result_type(input, other).is_floating_point:
        zero = (other._data == 0).any() if isinstance(other, Tensor) else other == 0
        if zero:
            raise RuntimeError("ZeroDivisionError")


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
    _check_both("maximum", input, other)
    return Maximum.apply(*operands("maximum", input, other))


def minimum(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of two tensors, elementwise; NaN if either is; equal operands share the gradient."""
    _check_both("minimum", input, other)
    return Minimum.apply(*operands("minimum", input, other))


def _check_both(name: str, input: Any, other: Any) -> None:
    check_tensor(name, input)
    check_tensor(name, other, "other")


def atan2(input: Tensor, other: Tensor) -> Tensor:
    """The angle of the point (other, input)."""
    _check_both("atan2", input, other)
    return Atan2.apply(*operands("atan2", input, other, floating=True))


# ---- one operand ---------------------------------------------------------------------------------------------------


class Unary(ArrayFunction):
    """A function of one operand given by value(x) and derivative(grad, x, result)."""

    value: Callable
    derivative: Callable
    saves: str  # "x", "r" (the result) or "xr": what the derivative needs

    @classmethod
    def _forward(cls, ctx: Any, x: Any) -> Any:
        with np.errstate(all="ignore"):
            result = _compute(cls.value, x.dtype, x)
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


def _unary(
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


def check_tensor(function: str, x: Any, argument: str = "input") -> None:
    """TypeError unless x is a Tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{function}(): argument '{argument}' must be Tensor, not {type(x).__name__}")


def _zero(g: Any, x: Any, r: Any) -> Any:
    return namespace(g).zeros_like(g)


exp = _unary("exp", np.exp, lambda g, x, r: g * r, "e to the power of each element.", saves="r")
exp2 = _unary("exp2", np.exp2, lambda g, x, r: g * r * math.log(2), "2 to the power of each element.", saves="r")
expm1 = _unary("expm1", np.expm1, lambda g, x, r: g * (r + 1), "exp(x) - 1, accurate near 0.", saves="r")
log = _unary("log", np.log, lambda g, x, r: g / x, "The natural logarithm.")
log2 = _unary("log2", np.log2, lambda g, x, r: g / (x * math.log(2)), "The logarithm to base 2.")
log10 = _unary("log10", np.log10, lambda g, x, r: g / (x * math.log(10)), "The logarithm to base 10.")
log1p = _unary("log1p", np.log1p, lambda g, x, r: g / (1 + x), "log(1 + x), accurate near 0.")
sqrt = _unary("sqrt", np.sqrt, lambda g, x, r: g / (2 * r), "The square root.", saves="r")
rsqrt = _unary("rsqrt", lambda x: 1 / np.sqrt(x), lambda g, x, r: -0.5 * g * r * r * r, "1 / sqrt(x).", saves="r")
reciprocal = _unary("reciprocal", lambda x: 1 / x, lambda g, x, r: -g * r * r, "1 / x.", saves="r")
sin = _unary("sin", np.sin, lambda g, x, r: g * np.cos(x), "The sine.")
cos = _unary("cos", np.cos, lambda g, x, r: -g * np.sin(x), "The cosine.")
tan = _unary("tan", np.tan, lambda g, x, r: g * (1 + r * r), "The tangent.", saves="r")
asin = _unary("asin", np.arcsin, lambda g, x, r: g / np.sqrt(1 - x * x), "The inverse sine.")
acos = _unary("acos", np.arccos, lambda g, x, r: -g / np.sqrt(1 - x * x), "The inverse cosine.")
atan = _unary("atan", np.arctan, lambda g, x, r: g / (1 + x * x), "The inverse tangent.")
sinh = _unary("sinh", np.sinh, lambda g, x, r: g * np.cosh(x), "The hyperbolic sine.")
cosh = _unary("cosh", np.cosh, lambda g, x, r: g * np.sinh(x), "The hyperbolic cosine.")
_square = _unary("square", np.square, lambda g, x, r: 2 * g * x, "x * x.", integers="keep")
abs = _unary("abs", np.abs, lambda g, x, r: g * np.sign(x), "The absolute value.", integers="keep")
sign = _unary("sign", lambda x: _sign(x), _zero, "-1, 0 or 1; 0 for NaN.", saves="", integers="keep")
floor = _unary("floor", np.floor, _zero, "Rounded down.", saves="", integers="keep")
ceil = _unary("ceil", np.ceil, _zero, "Rounded up.", saves="", integers="keep")
trunc = _unary("trunc", np.trunc, _zero, "Rounded towards zero.", saves="", integers="keep")
_round = _unary("round", np.round, _zero, "", saves="", integers="keep")
_negative = _unary("neg", np.negative, lambda g, x, r: -g, "", saves="", integers="keep")


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
        raise RuntimeError("Negation, the `-` operator, on a bool tensor is not supported; use `~` or logical_not()")
    return _negative(input)


def logical_not(input: Tensor) -> Tensor:
    """Elementwise not of truth values."""
    check_tensor("logical_not", input)
    return Tensor._wrap(np.logical_not(input._data))


def bitwise_not(input: Tensor) -> Tensor:
    """Elementwise not of the bits of integers or bools."""
    check_tensor("bitwise_not", input)
    if input.dtype.is_floating_point:
        raise RuntimeError(f"bitwise_not: not implemented for floating-point tensors, got {input.dtype}")
    return Tensor._wrap(np.invert(input._data))


def _predicate(name: str, function: Callable, doc: str) -> Callable:
    def operation(input: Tensor) -> Tensor:
        check_tensor(name, input)
        return Tensor._wrap(function(wide(input._data)))

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = doc
    return operation


isnan = _predicate("isnan", np.isnan, "Which elements are NaN.")
isinf = _predicate("isinf", np.isinf, "Which elements are infinite.")
isfinite = _predicate("isfinite", np.isfinite, "Which elements are neither infinite nor NaN.")


class Clamp(ArrayFunction):
    """Limited to [low, high]; the gradient passes where nothing was cut."""

    node_name = "ClampBackward1"

    @staticmethod
    def forward(ctx: Any, x: Any, low: Any, high: Any) -> Any:
        ctx.save(x)
        ctx.low, ctx.high = low, high
        out = x
        if low is not None:
            out = _compute(np.maximum, x.dtype, out, low)
        if high is not None:
            out = _compute(np.minimum, x.dtype, out, high)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved
        keep = namespace(x).ones(x.shape, bool)
        if ctx.low is not None:
            keep &= x >= ctx.low
        if ctx.high is not None:
            keep &= x <= ctx.high
        return grad * keep, None, None


class ClampBetween(ArrayFunction):
    """Limited to [low, high], which are tensors of x's dtype, or None."""

    @staticmethod
    def forward(ctx: Any, x: Any, low: Any, high: Any) -> Any:
        ctx.save(x, low, high)
        out = wide(x)
        if low is not None:
            out = np.maximum(out, wide(low))
        if high is not None:
            out = np.minimum(out, wide(high))
        return rounded(namespace(x).asarray(out), x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, low, high = sources = ctx.saved
        under = x < low if low is not None else None
        over = x > high if high is not None else None
        if low is not None and high is not None:
            over = over | (high < low)
            under = under & (low < high)
        kept = namespace(grad).ones(grad.shape, bool)
        for cut in (under, over):
            if cut is not None:
                kept = kept & ~cut
        need = ctx.needs_input_grad
        return tuple(
            unbroadcast(grad * chosen, source.shape) if wanted else None
            for wanted, chosen, source in zip(need, (kept, under, over), sources, strict=True)
        )


def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Each element limited to [min, max]; either may be None, a number or, if both given are, a tensor."""
    check_tensor("clamp", input)
    limits = [x for x in (min, max) if x is not None]
    if not limits:
        raise RuntimeError("clamp: At least one of 'min' or 'max' must not be None")
    if len(limits) == 2 and isinstance(min, Tensor) is not isinstance(max, Tensor):
        # A number beside a tensor: the tensor must be a number too.
        min, max = (x.item() if isinstance(x, Tensor) and not x._data.ndim else x for x in (min, max))
        if isinstance(min, Tensor) or isinstance(max, Tensor):
            raise TypeError("clamp: min and max must both be numbers or both tensors")
        limits = [min, max]
    common = _dtypes.result_type_of([_priority(x) for x in (input, *limits)])
    if common is bool_:
        raise NotImplementedError("clamp: not implemented for bool")
    input = cast(input, common)
    if not isinstance(limits[0], Tensor):
        if common.category == 1:
            min, max = (None if x is None else _wrapped(x, common) for x in (min, max))
        return Clamp.apply(input, min, max)
    for x in limits:
        _check_same_device("clamp", input, x)
    low, high = (None if x is None else cast(x, common) for x in (min, max))
    shape = np.broadcast_shapes(*[x._data.shape for x in (input, *limits)])
    if input._data.shape != shape:
        from fastnet.ops.shape import expand

        input = expand(input, *shape)
    return ClampBetween.apply(input, low, high)


class Where(ArrayFunction):
    """a where the condition holds, else b."""

    @staticmethod
    def forward(ctx: Any, condition: Any, a: Any, b: Any, dtype: Any) -> Any:
        ctx.save(condition)
        ctx.shapes = _shape(a), _shape(b)
        a, b = (x if hasattr(x, "dtype") else dtype.type(x) for x in (a, b))
        return namespace(condition).where(condition, a, b)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (condition,) = ctx.saved
        xp = namespace(grad)
        zero = grad.dtype.type(0)
        _, need_a, need_b, _ = ctx.needs_input_grad
        return (
            None,
            unbroadcast(xp.where(condition, grad, zero), ctx.shapes[0]) if need_a else None,
            unbroadcast(xp.where(condition, zero, grad), ctx.shapes[1]) if need_b else None,
            None,
        )


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """``input`` where the condition holds, else ``other``; with the condition alone, the indices where it holds."""
    check_tensor("where", condition, "condition")
    if input is None and other is None:
        return tuple(Tensor._wrap(i) for i in condition._data.nonzero())
    if condition._data.dtype not in (np.bool_, np.uint8):
        raise RuntimeError(
            f"where expected condition to be a boolean tensor, but got a tensor with dtype {condition.dtype}"
        )
    if not isinstance(input, Tensor) and not isinstance(other, Tensor):
        common = _dtypes.result_type_of([_priority(input), _priority(other)])
        a, b, dtype = input, other, common.numpy
    else:
        a, b, dtype = operands("where", input, other)
    for x in (a, b):
        if isinstance(x, Tensor):
            check_broadcast("where", condition._data.shape, x._data.shape)
    condition = condition if condition._data.dtype == np.bool_ else cast(condition, bool_)
    return Where.apply(condition, a, b, dtype)


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """``input`` with ``value`` wherever the mask is true."""
    check_tensor("masked_fill", input)
    check_tensor("masked_fill", mask, "mask")
    if mask._data.dtype != np.bool_:
        raise RuntimeError(f"masked_fill_ only supports boolean masks, but got mask with dtype {mask.dtype}")
    if isinstance(value, Tensor):
        if value._data.ndim:
            raise RuntimeError(
                f"masked_fill_ only supports a 0-dimensional value tensor, but got tensor with {value._data.ndim} "
                "dimension(s)."
            )
        value = cast(value, input.dtype)
    check_broadcast("masked_fill", input._data.shape, mask._data.shape)
    return MaskedFill.apply(mask, value, input, input._data.dtype)


class MaskedFill(Where):
    """A value where the mask is true, else x."""


def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """``input + weight * (end - input)``, computed from the nearer end."""
    _check_both("lerp", input, end)
    if not input.dtype.is_floating_point or input.dtype is not end.dtype:
        raise RuntimeError(f"lerp: expected floating-point tensors of one dtype, got {input.dtype} and {end.dtype}")
    difference = sub(end, input)
    if not isinstance(weight, Tensor):
        weight = float(weight)
        if builtins.abs(weight) < 0.5:
            return add(input, mul(difference, weight))
        return sub(end, mul(difference, 1 - weight))
    if weight.dtype is not input.dtype:
        raise RuntimeError(f"lerp: expected dtype {input.dtype} for `weight` but got dtype {weight.dtype}")
    return where(lt(abs(weight), 0.5), add(input, mul(difference, weight)), sub(end, mul(difference, sub(1, weight))))


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """``input + value * tensor1 * tensor2``."""
    common = _dtypes.result_type_of([_priority(x) for x in (input, tensor1, tensor2)])
    if common is bool_:
        raise NotImplementedError("addcmul: not implemented for bool")
    value = value if common.is_floating_point else int(value)
    return add(input, mul(mul(tensor1, value), tensor2) if value != 1 else mul(tensor1, tensor2))


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """``input + value * tensor1 / tensor2``, of floating-point tensors."""
    if not result_type(tensor1, tensor2).is_floating_point:
        raise RuntimeError("Integer division with addcdiv is not supported: use div and add")
    quotient = div(tensor1, tensor2)
    return add(input, quotient if value == 1 else mul(quotient, value))


def _check_tolerances(name: str, rtol: float, atol: float) -> None:
    for what, value in (("rtol", rtol), ("atol", atol)):
        if value < 0:
            raise RuntimeError(f"{name}: {what} must be greater than or equal to zero, but got {value}")


def isclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Where ``|input - other| <= atol + rtol * |other|``."""
    _check_both("isclose", input, other)
    _check_tolerances("isclose", rtol, atol)
    if input.dtype is not other.dtype:
        raise RuntimeError(f"isclose: {input.dtype} did not match {other.dtype}")
    a, b, _ = operands("isclose", input, other)
    return Tensor._wrap(namespace(a._data).isclose(wide(a._data), wide(b._data), rtol, atol, equal_nan))


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all of ``isclose`` holds."""
    return bool(isclose(input, other, rtol, atol, equal_nan)._data.all())


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether shape and all elements are the same."""
    return input._data.shape == other._data.shape and bool((input._data == other._data).all())


# ---- in place ------------------------------------------------------------------------------------------------------


def assign(target: Tensor, result: Tensor, name: str) -> Tensor:
    """Write ``result`` into ``target``'s memory and give it result's history: the end of every operation in place.

    Raises:
        RuntimeError: a leaf that requires a gradient, or a view of one, is modified while operations are recorded; or
            the result has a dtype that the target cannot hold.
        ValueError: the result does not have the target's shape.
    """
    data = target._data
    if result._data.shape != data.shape:
        raise ValueError(
            f"{name}: output with shape {list(data.shape)} doesn't match the broadcast shape {list(result._data.shape)}"
        )
    if result._data.dtype != data.dtype:
        if result.dtype.category > target.dtype.category:
            raise RuntimeError(
                f"result type {result.dtype.name} can't be cast to the desired output type {target.dtype.name}"
            )
        result = cast(result, target.dtype)
    recorded = recorded_in_place(target, result)
    if recorded and not result.requires_grad:  # a constant: the history goes on, but no gradient passes
        history = Fill.apply(target)
        history._data = result._data
        result = history
    writeable(target)[...] = result._data
    target._version_counter[0] += 1
    if recorded:
        rebase(target, result, name)
    return target


def writeable(target: Tensor) -> Any:
    """The tensor's array, to be written; RuntimeError where several elements are one place in memory."""
    data = target._data
    if not data.flags.writeable if isinstance(data, np.ndarray) else 0 in data.strides:
        check_overlap(target)
        if isinstance(data, np.ndarray):
            from fastnet._dlpack import writeable_view

            data = writeable_view(data)
    return data


def old_value(target: Tensor, recorded: bool | None = None) -> Tensor:
    """What an operation in place reads: the tensor itself, or when recorded a copy with its history, since what
    backward needs of the old value would be overwritten."""
    if recorded is None:
        recorded = is_grad_enabled() and target.requires_grad
    if not recorded:
        return target
    requires_grad = target.requires_grad  # brings the history of a view up to date
    copy = Tensor._wrap(target._data.copy())
    copy._node, copy._output_index, copy._requires_grad = target._node, target._output_index, requires_grad
    return copy


def in_place(function: Callable, name: str) -> Callable:
    """The in-place form of an operation."""

    def operation(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        recorded = recorded_in_place(self, *args, *kwargs.values())
        return assign(self, function(old_value(self, recorded), *args, **kwargs), name)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = f"In-place form of ``{function.__name__}``."
    return operation


def copy_(self: Tensor, source: Any, non_blocking: bool = False) -> Tensor:
    """Copy ``source``, broadcast and converted, into this tensor."""
    if not isinstance(source, Tensor):
        raise TypeError(f"copy_(): argument 'other' must be Tensor, not {type(source).__name__}")
    from fastnet.ops.shape import clone, expand

    moved = cast(source.to(self.device) if source.is_cuda != self.is_cuda else source, self.dtype)
    check_broadcast("copy_", self._data.shape, moved._data.shape)
    if moved._data.shape != self._data.shape:
        moved = expand(moved, *self._data.shape)
    # A leaf must not become this tensor's history itself: the copy is an operation of its own.
    return assign(self, clone(moved) if moved.requires_grad and is_grad_enabled() else moved, "copy_")


def fill_(self: Tensor, value: Any) -> Tensor:
    """Set every element to ``value``."""
    if isinstance(value, Tensor):
        if value._data.ndim:
            raise RuntimeError(
                f"fill_ only supports 0-dimension value tensor but got tensor with {value._data.ndim} dimensions."
            )
        return copy_(self, value)
    _dtypes.of_scalar(value)
    recorded = recorded_in_place(self)
    with np.errstate(all="ignore"):
        data = writeable(self)
        data.fill(np.asarray(value).astype(data.dtype) if isinstance(data, np.ndarray) else value)
    self._version_counter[0] += 1
    if recorded:
        rebase(self, Fill.apply(old_value(self, True)), "fill_")
    return self


class Fill(ArrayFunction):
    """The history of a tensor all of whose elements were replaced: no gradient goes on."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return namespace(grad).zeros_like(grad)


def zero_(self: Tensor) -> Tensor:
    """Set every element to 0."""
    return fill_(self, 0)
