"""Column sums by handwritten kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet.kernels._arrays import check_array, empty, stream_of
from fastnet.kernels._runtime import extension_for, record


def column_sum(x: Any, *, out_dtype: Any = None, config: Any = None) -> Any:
    """Sum over rows: ``out[c] = sum_r x[r, c]``, accumulated in float32 (float64 for float64), in a fixed order.

    Args:
        x: (rows, cols) float32, float64, float16 or bfloat16, any strides.
        out_dtype: dtype of the result; default that of x.
        config: a ``ColumnSumConfig`` to use in place of the one chosen for the problem.

    Returns:
        (cols,) array beside x.

    Raises:
        TypeError, ValueError: x is not such an array.
    """
    check_array("column_sum", "x", x, ndim=2)
    ext = extension_for(x)
    rows, cols = x.shape
    if cols > 1 and x.strides[1] != x.itemsize:
        x = x.copy()                     # rare: the gradients that are summed here are written by our own kernels
    config = config or ext.column_sum_config(rows, cols)
    out = empty(x, (cols,), np.dtype(out_dtype or x.dtype))
    accumulator = np.float64 if x.dtype == np.float64 else np.float32
    workspace = empty(x, (config.splits, cols), accumulator) if config.splits > 1 else None
    record("column_sum", x, config=config)
    ext.column_sum(out, x, workspace, config, stream_of(x))
    return out
