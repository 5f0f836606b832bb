"""Operands of elementwise functions: their common dtype, conversion, and the checks they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.ops._numeric import rounded, wide


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


def priority(x: Any) -> tuple[_dtypes.dtype, int]:
    if isinstance(x, Tensor):
        return _dtypes.of_array(x._data), 2 if x._data.ndim else 1
    return _dtypes.of_scalar(x), 0


def result_type(a: Any, b: Any) -> _dtypes.dtype:
    """The dtype of an operation on tensors or numbers, as ``torch.result_type``."""
    return _dtypes.result_type_of([priority(a), priority(b)])


def operands(name: str, a: Any, b: Any, *, floating: bool = False) -> tuple[Any, Any, np.dtype]:
    """Both operands in their common dtype: tensors cast, numbers left to be converted by the array library."""
    ta, tb = isinstance(a, Tensor), isinstance(b, Tensor)
    if not ta:
        a = number(a)
    if not tb:
        b = number(b)
    if ta and tb:
        if isinstance(a._data, np.ndarray) is not isinstance(b._data, np.ndarray):
            a, b = beside(a, b)
        da = a._data.dtype
        if da == b._data.dtype and not floating:
            check_same_device(name, a, b)
            return a, b, da
    elif not ta and not tb:
        raise KindError(f"{name}: expected at least one Tensor, got {type(a).__name__} and {type(b).__name__}")
    try:
        common = result_type(a, b)
    except TypeError as error:
        raise KindError(f"{name}: {error}") from None
    if floating and not common.is_floating_point:
        common = _dtypes.get_default_dtype()
    if ta:
        a = cast(a, common)
    if tb:
        b = cast(b, common)
    if ta and tb:
        check_same_device(name, a, b)
    if common.category == 1:  # a Python number beyond the integer type wraps, as in PyTorch
        a, b = (x if isinstance(x, Tensor) else wrapped(x, common) for x in (a, b))
    return a, b, common.numpy


def number(x: Any) -> Any:
    """A scalar of NumPy's as Python's number: its dtype would count where NumPy computes with it."""
    return x.item() if isinstance(x, np.generic) else x


def beside(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both, one of the CPU without dimensions moved to the other's GPU, as PyTorch takes it for a number."""
    if not a.is_cuda and not a._data.ndim:
        a = a.to(b.device)
    elif not b.is_cuda and not b._data.ndim:
        b = b.to(a.device)
    return a, b


def wrapped(x: Any, dtype: _dtypes.dtype) -> Any:
    return int(np.asarray(int(x) & (2 ** (8 * dtype.itemsize) - 1), np.uint64).astype(dtype.numpy))


def check_same_device(name: str, a: Tensor, b: Tensor) -> None:
    if isinstance(a._data, np.ndarray) is not isinstance(b._data, np.ndarray):
        raise InputError(f"{name}: expected all tensors to be on the same device, got {a.device} and {b.device}")
    if a._data.shape != b._data.shape:
        check_broadcast(name, a._data.shape, b._data.shape)


def check_broadcast(name: str, a: tuple, b: tuple) -> None:
    """ValueError unless the shapes broadcast together."""
    for i in range(1, min(len(a), len(b)) + 1):
        if a[-i] != b[-i] and a[-i] != 1 and b[-i] != 1:
            raise InputError(
                f"{name}: the size of tensor a ({a[-i]}) must match the size of tensor b ({b[-i]}) at non-singleton "
                f"dimension {max(len(a), len(b)) - i}; got shapes {tuple(a)} and {tuple(b)}"
            )


def shape_of(x: Any) -> tuple[int, ...] | None:
    return x.shape if hasattr(x, "shape") else None


def compute(function: Callable, dtype: np.dtype, *arrays: Any) -> Any:
    """function(*arrays), 16-bit types in float32; numbers take the arrays' type."""
    if dtype.itemsize == 2 and dtype.kind in "fV":
        return function(*[wide(x) if hasattr(x, "dtype") else np.float32(x) for x in arrays]).astype(dtype)
    return function(*[x if hasattr(x, "dtype") else dtype.type(x) for x in arrays])


def check_both(name: str, input: Any, other: Any) -> None:
    check_tensor(name, input)
    check_tensor(name, other, "other")


def check_tensor(function: str, x: Any, argument: str = "input") -> None:
    """TypeError unless x is a Tensor."""
    if not isinstance(x, Tensor):
        raise KindError(f"{function}(): argument '{argument}' must be Tensor, not {type(x).__name__}")
