"""Column sums in array code: the specification."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet.errors import KindError
from fastnet.kernels._arrays import FLOATING, check_array, name_of


def column_sum(x: Any, *, out_dtype: Any = None, config: Any = None) -> Any:
    """Sum over rows of (rows, cols), accumulated in float32 (float64 for float64) and rounded once.

    Arguments and results as ``fastnet.kernels.column_sum``.

    >>> import numpy as np
    >>> column_sum(np.ones((3, 2), np.float16))
    array([3., 3.], dtype=float16)
    """
    dtype = check_column_sum(x, out_dtype)
    with np.errstate(all="ignore"):
        total = x.sum(axis=0, dtype=np.float64 if x.dtype == np.float64 else np.float32)
        return total if total.dtype == dtype else total.astype(dtype)


def check_column_sum(x: Any, out_dtype: Any) -> np.dtype:
    """The result's dtype; ValueError or TypeError for what cannot be summed so."""
    check_array("column_sum", "x", x, ndim=2)
    dtype = x.dtype if out_dtype is None else np.dtype(out_dtype)
    if name_of(dtype) not in FLOATING:
        raise KindError(f"column_sum: out_dtype is {dtype.name}, expected {' or '.join(FLOATING)}")
    return dtype
