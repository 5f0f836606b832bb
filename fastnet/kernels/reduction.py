"""Column sums by handwritten kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet.errors import KindError
from fastnet.kernels._arrays import empty, stream_of
from fastnet.kernels._runtime import extension_for, record
from fastnet.reference.reduction import check_column_sum


def column_sum(x: Any, *, out_dtype: Any = None, config: Any = None) -> Any:
    """Sum over rows: ``out[c] = sum_r x[r, c]``, accumulated in float32 (float64 for float64), in a fixed order.

    Args:
        x: (rows, cols) float32, float64, float16 or bfloat16, any strides.
        out_dtype: one of these dtypes; default that of x.
        config: a ``ColumnSumConfig`` to use in place of the one chosen for the problem.

    Returns:
        (cols,) array beside x.

    Raises:
        TypeError, ValueError: x is not such an array, or out_dtype no such dtype.

    >>> import numpy as np, fastnet
    >>> with fastnet.kernels.use("emulated"):
    ...     fastnet.kernels.column_sum(np.ones((3, 2), np.float32))
    array([3., 3.], dtype=float32)
    """
    dtype = check_column_sum(x, out_dtype)
    ext = extension_for(x)
    if config is not None and not isinstance(config, ext.ColumnSumConfig):
        raise KindError(
            f"column_sum: config is a {type(config).__name__}, expected a ColumnSumConfig of {ext.__name__}"
        )
    x = loadable(x)
    rows, cols = x.shape
    config = config or ext.column_sum_config(
        rows, cols, abs(x.strides[0]) == x.itemsize != abs(x.strides[1]) and rows > 1
    )
    out = empty(x, (cols,), dtype)
    accumulator = np.float64 if x.dtype == np.float64 else np.float32
    workspace = empty(x, (config.splits, cols), accumulator) if config.splits > 1 else None
    if cols:
        record("column_sum", x, config=config)
        ext.column_sum(out, x, workspace, config, stream_of(x))
    return out


def loadable(x: Any) -> Any:
    """x, or a copy where its elements do not lie at multiples of their size (views of byte buffers)."""
    size = x.itemsize
    address = x.__array_interface__["data"][0] if isinstance(x, np.ndarray) else x.data.ptr
    return x if address % size == 0 and all(s % size == 0 for s in x.strides) else x.copy()
