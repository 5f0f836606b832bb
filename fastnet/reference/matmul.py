"""Matrix products in array code: the specification."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet.errors import InputError, KindError
from fastnet.kernels._arrays import FLOATING, check_array, name_of
from fastnet.reference.pointwise import ACTIVATIONS, bias_activation
from fastnet.reference.reduction import column_sum

DTYPES = (*FLOATING, "int32", "int64", "uint8")
PRECISIONS = ("highest", "high", "medium")


def matmul(
    a: Any,
    b: Any,
    *,
    bias: Any = None,
    activation: str = "none",
    parameter: float | None = None,
    keep_preactivation: bool = False,
    out_dtype: Any = None,
    c: Any = None,
    alpha: float = 1,
    beta: float = 1,
    residual: Any = None,
    row_sums: bool = False,
    precision: str | None = None,
    config: Any = None,
) -> Any:
    """``activation(alpha * a @ b + beta * c + bias + residual)``: 16-bit inputs computed in float32 and rounded once,
    other dtypes in their own.

    Arguments and results as ``fastnet.kernels.matmul``; ``precision`` and ``config`` change nothing here.

    >>> import numpy as np
    >>> matmul(np.ones((2, 3), np.float32), np.ones((3,), np.float32), bias=np.float32([1]))
    array([4., 4.], dtype=float32)
    """
    _, dtype = check_matmul(a, b, bias, activation, parameter, out_dtype, c, alpha, beta, residual, row_sums, precision)
    sums = column_sum(a.T) if row_sums else None
    short = a.dtype.itemsize == 2
    if short:
        a, b = a.astype(np.float32), b.astype(np.float32)
    if a.dtype.kind == "f":
        a, b = _for_blas(a), _for_blas(b)
    with np.errstate(all="ignore"):
        if a.ndim > 2 and b.ndim == 2 and a.flags.c_contiguous:
            out = (a.reshape(-1, a.shape[-1]) @ b).reshape(*a.shape[:-1], b.shape[-1]) if a.size else a @ b
        else:
            out = a @ b
        if alpha != 1:
            out = out * _scalar(alpha, out.dtype)
        if c is not None and beta != 0:
            out = out + c.astype(out.dtype) * _scalar(beta, out.dtype)
        if bias is not None:
            if out.ndim:
                out += bias
            else:
                out = out + bias[0]
        if residual is not None:
            out = out + residual.astype(out.dtype)
        if not out.ndim:
            out = _asarray(out, a)
        result = out
        if activation != "none":
            result = bias_activation(out, activation=activation, parameter=parameter)
        if short and dtype != np.float32:
            result = result.astype(dtype)
            out = out.astype(dtype) if keep_preactivation and activation != "none" else result
    results = [result]
    if keep_preactivation:
        results.append(out.copy() if out is result else out)
    if row_sums:
        results.append(sums)
    return result if len(results) == 1 else tuple(results)


def check_matmul(
    a: Any,
    b: Any,
    bias: Any,
    activation: str,
    parameter: Any,
    out_dtype: Any,
    c: Any,
    alpha: Any,
    beta: Any,
    residual: Any,
    row_sums: Any,
    precision: Any,
) -> tuple[tuple[int, ...], np.dtype]:
    """The result's shape and dtype; ValueError or TypeError for arrays that cannot be multiplied so."""
    check_array("matmul", "a", a, dtypes=DTYPES)
    check_array("matmul", "b", b, dtypes=DTYPES, like=a)
    dtype = a.dtype
    if b.dtype != dtype:
        raise KindError(f"matmul: a and b must have the same dtype, got {dtype.name} and {b.dtype.name}")
    if not a.ndim or not b.ndim:
        raise InputError(
            f"matmul: a and b need at least one dimension, got shapes {tuple(a.shape)} and {tuple(b.shape)}"
        )
    rows, columns = a.shape[-2:-1], b.shape[-1:] if b.ndim > 1 else ()
    inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != inner:
        raise InputError(
            f"matmul: a has {a.shape[-1]} columns and b has {inner} rows, expected the same; "
            f"got shapes {tuple(a.shape)} and {tuple(b.shape)}"
        )
    batch_a, batch_b = a.shape[:-2], b.shape[:-2]
    if batch_a and batch_b and batch_a != batch_b:
        try:
            batch = np.broadcast_shapes(batch_a, batch_b)
        except ValueError:
            raise InputError(
                f"matmul: leading dimensions do not broadcast, got shapes {tuple(a.shape)} and {tuple(b.shape)}"
            ) from None
    else:
        batch = batch_a or batch_b
    if bias is not None:
        check_array("matmul", "bias", bias, dtypes=DTYPES, ndim=1, like=a)
        if bias.dtype != dtype:
            raise KindError(f"matmul: bias has dtype {bias.dtype.name}, expected a's {dtype.name}")
        width = columns[0] if columns else 1
        if bias.shape[0] != width:
            raise InputError(f"matmul: bias has {bias.shape[0]} elements, expected {width}, the columns of b")
    if activation not in ACTIVATIONS:
        raise InputError(f"matmul: activation is {activation!r}, expected one of {', '.join(ACTIVATIONS)}")
    if activation != "none" and name_of(dtype) not in FLOATING:
        raise KindError(f"matmul: activation {activation!r} needs floating-point arrays, got {dtype.name}")
    if parameter is not None and (isinstance(parameter, bool) or not isinstance(parameter, (int, float, np.number))):
        raise KindError(f"matmul: parameter is a {type(parameter).__name__}, expected a number or None")
    out = dtype if out_dtype is None else np.dtype(out_dtype)
    if out != dtype and not (out == np.float32 and name_of(dtype) in ("float16", "bfloat16")):
        takes = "float32 or that" if dtype.name in ("float16", "bfloat16") else "that"
        raise KindError(f"matmul: out_dtype is {out.name} for arrays of {dtype.name}, expected {takes}")
    shape = (*batch, *rows, *columns)
    for argument, x in (("c", c), ("residual", residual)):
        if x is None:
            continue
        check_array("matmul", argument, x, dtypes=DTYPES, like=a)
        if x.dtype not in (dtype, out):
            raise KindError(
                f"matmul: {argument} has dtype {x.dtype.name}, expected {dtype.name} or out_dtype's {out.name}"
            )
        if x.ndim > len(shape) or any(n not in (1, s) for n, s in zip(x.shape[::-1], shape[::-1], strict=False)):
            raise InputError(f"matmul: {argument} has shape {tuple(x.shape)}, expected one that broadcasts to {shape}")
    for argument, x in (("alpha", alpha), ("beta", beta)):
        if isinstance(x, bool) or not isinstance(x, (int, float, np.integer, np.floating)):
            raise KindError(f"matmul: {argument} is a {type(x).__name__}, expected a number")
        if isinstance(x, int) and abs(x) > 2**1023:
            raise InputError(f"matmul: {argument} has {x.bit_length()} bits, expected a number that fits a float")
        if name_of(dtype) not in FLOATING and not (abs(x) <= 2**53 and x == int(x)):
            raise InputError(
                f"matmul: {argument} is {x}, expected a whole number up to 2^53 for arrays of {dtype.name}"
            )
    if row_sums and (a.ndim != 2 or b.ndim != 2):
        raise InputError(
            f"matmul: row_sums needs two matrices, got arrays of shapes {tuple(a.shape)} and {tuple(b.shape)}"
        )
    if row_sums and dtype.name not in FLOATING:
        raise KindError(f"matmul: row_sums needs floating-point arrays, got {dtype.name}")
    if precision is not None:
        check_precision("matmul", precision)
    return shape, out


def check_precision(function: str, precision: Any) -> None:
    """ValueError unless ``precision`` names one of PyTorch's precisions of float32 products."""
    if precision not in PRECISIONS:
        raise InputError(f"{function}: precision is {precision!r}, expected one of {', '.join(PRECISIONS)}")


def _for_blas(x: Any) -> Any:
    """x, or a contiguous copy where NumPy would multiply by loops of its own: expanded gradients, slices with steps."""
    if x.ndim < 2 or not isinstance(x, np.ndarray):
        return x
    rows, columns = x.strides[-2:]
    size = x.itemsize
    if (columns == size and rows >= size * x.shape[-1]) or (rows == size and columns >= size * x.shape[-2]):
        return x
    return np.ascontiguousarray(x)


def _scalar(x: Any, dtype: np.dtype) -> Any:
    """x in an array's dtype, wrapped where that is an integer's."""
    return dtype.type(x) if dtype.kind == "f" else np.array(int(x), np.int64).astype(dtype)[()]


def _asarray(x: Any, like: Any) -> Any:
    """A NumPy scalar, which products of vectors give, as an array without dimensions."""
    return np.asarray(x) if isinstance(like, np.ndarray) else x
