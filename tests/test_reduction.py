"""column_sum: emulated kernel against float64 in every schedule."""

import numpy as np
import pytest
from support import SCHEDULES, assert_close, bfloat16, epsilon

from fastnet import kernels, reference

DTYPES = [np.float32, np.float64, np.float16, bfloat16]
SHAPES = [(1, 1), (0, 3), (7, 33), (300, 5), (1100, 40)]


def bound(x, dtype):
    # Any order of summation: (rows - 1) roundings of the accumulator, each at most eps * sum|x|; then one of the result.
    magnitude = np.abs(x.astype(np.float64)).sum(axis=0)
    accumulate = epsilon(np.float64 if dtype == np.float64 else np.float32)
    return magnitude * (len(x) * accumulate + epsilon(dtype)) + 1e-300


@pytest.mark.parametrize("how", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
def test_column_sum(dtype, how):
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        x = rng.standard_normal((shape[0], shape[1] + 3)).astype(dtype)[:, : shape[1]]       # padded rows
        want = x.astype(np.float64).sum(axis=0)
        assert_close(reference.column_sum(x), want, bound(x, dtype), f"reference {shape}")
        with kernels.use("emulated", **how), kernels.trace() as ran:
            got = kernels.column_sum(x)
        assert ran.names == ["column_sum"]
        assert got.dtype == dtype
        assert_close(got, want, bound(x, dtype), f"emulated {shape}")
