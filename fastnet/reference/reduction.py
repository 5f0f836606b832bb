"""Column sums in array code: the specification."""

from __future__ import annotations

from typing import Any

import numpy as np


def column_sum(x: Any, *, out_dtype: Any = None, config: Any = None) -> Any:
    """Sum over rows of (rows, cols), accumulated in float32 (float64 for float64) and rounded once."""
    accumulator = np.float64 if x.dtype == np.float64 else np.float32
    return x.astype(accumulator).sum(axis=0).astype(out_dtype or x.dtype)
