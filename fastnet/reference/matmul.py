"""Matrix products in array code: the specification."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet.kernels.matmul import check_matmul


def matmul(a: Any, b: Any, *, bias: Any = None, activation: str = "none", parameter: float | None = None,
           keep_preactivation: bool = False, out_dtype: Any = None, config: Any = None) -> Any:
    """``activation(a @ b + bias)``: 16-bit inputs computed in float32 and rounded once, other dtypes in their own.

    Arguments and results as ``fastnet.kernels.matmul``.

    >>> import numpy as np
    >>> matmul(np.ones((2, 3), np.float32), np.ones((3,), np.float32), bias=np.float32([1]))
    array([4., 4.], dtype=float32)
    """
    _, dtype = check_matmul(a, b, bias, activation, parameter, out_dtype)
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
        if bias is not None:
            if out.ndim:
                out += bias
            else:
                out = out + bias[0]
        if not out.ndim:
            out = _asarray(out, a)
        result = out
        if activation != "none":
            from fastnet.reference.pointwise import bias_activation

            result = bias_activation(out, activation=activation, parameter=parameter)
        if short and dtype != np.float32:
            result = result.astype(dtype)
            out = out.astype(dtype) if keep_preactivation and activation != "none" else result
    if not keep_preactivation:
        return result
    return result, (out.copy() if out is result else out)


def _for_blas(x: Any) -> Any:
    """x, or a contiguous copy where NumPy would multiply by loops of its own: expanded gradients, slices with steps."""
    if x.ndim < 2 or not isinstance(x, np.ndarray):
        return x
    rows, columns = x.strides[-2:]
    size = x.itemsize
    if (columns == size and rows >= size * x.shape[-1]) or (rows == size and columns >= size * x.shape[-2]):
        return x
    return np.ascontiguousarray(x)


def _asarray(x: Any, like: Any) -> Any:
    """A NumPy scalar, which products of vectors give, as an array without dimensions."""
    return np.asarray(x) if isinstance(like, np.ndarray) else x
