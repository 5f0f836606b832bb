"""Comparisons, logic and bits, elementwise: results without a gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.errors import InputError, KindError
from fastnet.ops._numeric import wide
from fastnet.ops._operands import check_both, check_tensor, compute, operands, result_type


def plain_binary(name: str, function: Callable, doc: str, *, result: Any = None, tensors: int = 0) -> Callable:
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
                out = function(a, b) if result is not None else compute(function, dtype, a, b)
        return Tensor._wrap(out)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = doc
    return operation


eq = plain_binary("eq", np.equal, "Elementwise ``input == other``, as bool.", result=bool, tensors=1)
ne = plain_binary("ne", np.not_equal, "Elementwise ``input != other``, as bool.", result=bool, tensors=1)
lt = plain_binary("lt", np.less, "Elementwise ``input < other``, as bool.", result=bool, tensors=1)
le = plain_binary("le", np.less_equal, "Elementwise ``input <= other``, as bool.", result=bool, tensors=1)
gt = plain_binary("gt", np.greater, "Elementwise ``input > other``, as bool.", result=bool, tensors=1)
ge = plain_binary("ge", np.greater_equal, "Elementwise ``input >= other``, as bool.", result=bool, tensors=1)
logical_and = plain_binary("logical_and", np.logical_and, "Elementwise and of truth values.", result=bool, tensors=2)
logical_or = plain_binary("logical_or", np.logical_or, "Elementwise or of truth values.", result=bool, tensors=2)
logical_xor = plain_binary(
    "logical_xor", np.logical_xor, "Elementwise exclusive or of truth values.", result=bool, tensors=2
)
_and = plain_binary("bitwise_and", np.bitwise_and, "Elementwise and of the bits of integers or bools.")
_or = plain_binary("bitwise_or", np.bitwise_or, "Elementwise or of the bits of integers or bools.")
_xor = plain_binary("bitwise_xor", np.bitwise_xor, "Elementwise exclusive or of the bits of integers or bools.")


def _bits(name: str, function: Callable) -> Callable:
    def operation(input: Any, other: Any) -> Tensor:
        if result_type(input, other).is_floating_point:
            raise KindError(f"{name}: not implemented for floating-point tensors, got {result_type(input, other)}")
        return function(input, other)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = function.__doc__
    return operation


bitwise_and, bitwise_or, bitwise_xor = _bits("bitwise_and", _and), _bits("bitwise_or", _or), _bits("bitwise_xor", _xor)


def logical_not(input: Tensor) -> Tensor:
    """Elementwise not of truth values."""
    check_tensor("logical_not", input)
    return Tensor._wrap(np.logical_not(input._data))


def bitwise_not(input: Tensor) -> Tensor:
    """Elementwise not of the bits of integers or bools."""
    check_tensor("bitwise_not", input)
    if input.dtype.is_floating_point:
        raise KindError(f"bitwise_not: not implemented for floating-point tensors, got {input.dtype}")
    return Tensor._wrap(np.invert(input._data))


def predicate(name: str, function: Callable, doc: str) -> Callable:
    def operation(input: Tensor) -> Tensor:
        check_tensor(name, input)
        return Tensor._wrap(function(wide(input._data)))

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = doc
    return operation


isnan = predicate("isnan", np.isnan, "Which elements are NaN.")
isinf = predicate("isinf", np.isinf, "Which elements are infinite.")
isfinite = predicate("isfinite", np.isfinite, "Which elements are neither infinite nor NaN.")


def _check_tolerances(name: str, rtol: float, atol: float) -> None:
    for what, value in (("rtol", rtol), ("atol", atol)):
        if value < 0:
            raise InputError(f"{name}: {what} must be greater than or equal to zero, but got {value}")


def isclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Where ``|input - other| <= atol + rtol * |other|``."""
    check_both("isclose", input, other)
    _check_tolerances("isclose", rtol, atol)
    if input.dtype is not other.dtype:
        raise KindError(f"isclose: {input.dtype} did not match {other.dtype}")
    a, b, _ = operands("isclose", input, other)
    return Tensor._wrap(namespace(a._data).isclose(wide(a._data), wide(b._data), rtol, atol, equal_nan))


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all of ``isclose`` holds."""
    return bool(isclose(input, other, rtol, atol, equal_nan)._data.all())


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether shape and all elements are the same."""
    return input._data.shape == other._data.shape and bool((input._data == other._data).all())
