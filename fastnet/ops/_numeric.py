"""What operations in array code share: the array module, float32 arithmetic for 16-bit types, broadcasting's
inverse."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from fastnet.errors import InputError, KindError

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_SHORT = (np.dtype(np.float16), BFLOAT16)


def is_short(x: Any) -> bool:
    """Whether x is a 16-bit float array."""
    return x.dtype in _SHORT


def wide(x: Any) -> Any:
    """A 16-bit float array as float32, in which its arithmetic is done; anything else as it is."""
    return x.astype(np.float32) if x.dtype in _SHORT else x


def rounded(x: Any, dtype: Any) -> Any:
    """x in ``dtype``, without a copy where it has that already."""
    return x if x.dtype == dtype else x.astype(dtype)


def sum_over(x: Any, axes: Any, keepdims: bool = False) -> Any:
    """Sum along axes, 16-bit types in float32, in x's dtype."""
    return rounded(wide(x).sum(axis=axes, keepdims=keepdims), x.dtype)


def unbroadcast(grad: Any, shape: tuple[int, ...]) -> Any:
    """The gradient of an operand of ``shape`` that was broadcast to grad's shape: the sum over what was repeated."""
    if grad.shape == shape:
        return grad
    extra = grad.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(extra + i for i, n in enumerate(shape) if n == 1 and grad.shape[extra + i] != 1)
    return sum_over(grad, axes).reshape(shape)


def axes_of(dim: Any, ndim: int, function: str) -> tuple[int, ...]:
    """Non-negative axes from None (all), a number or a sequence; IndexError as PyTorch's when out of range."""
    if dim is None:
        return tuple(range(ndim))
    dims = (dim,) if isinstance(dim, (int, np.integer)) else tuple(dim)
    if not dims:
        return tuple(range(ndim))
    result = tuple(axis_of(d, ndim, function) for d in dims)
    if len(set(result)) != len(result):
        raise InputError(f"{function}: dim {dims} appears multiple times in the list of dims")
    return tuple(a for a in result if a < ndim)


def axis_of(dim: Any, ndim: int, function: str) -> int:
    """A non-negative axis; a tensor without dimensions takes 0 and -1."""
    if isinstance(dim, bool) or not isinstance(dim, (int, np.integer)):
        raise KindError(f"{function}: dim must be int, got {type(dim).__name__}")
    n = max(ndim, 1)
    if not -n <= dim < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    return int(dim) % n
