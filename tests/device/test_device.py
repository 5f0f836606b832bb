"""Every kernel on the GPU against its NumPy reference; where there is no GPU the same tests run the emulated kernels,
so that they are known to work when there is one."""

import numpy as np
import pytest
from support import bfloat16
from variants.problems import SMALL

from fastnet import kernels, reference

DTYPES = [np.float32, np.float64, np.float16, bfloat16]
EXACT = {"random_bits", "uniform", "permutation", "dropout_mask"}
FLOAT32 = {"augment"}  # computes and returns float32, whatever the dtype asked of its problems


def on_device(x):
    """Arrays, also within lists, on the GPU if there is one."""
    if kernels.available()["native"] is not True:
        return x
    import cupy

    if isinstance(x, list):
        return [on_device(i) for i in x]
    return cupy.asarray(x) if isinstance(x, np.ndarray) else x


def on_host(x):
    if isinstance(x, (list, tuple)):
        return [on_host(i) for i in x]
    return x.get() if hasattr(x, "get") else x


def copied(x):
    if isinstance(x, dict):
        return {k: copied(v) for k, v in x.items()}
    return [copied(i) for i in x] if isinstance(x, list) else x.copy() if isinstance(x, np.ndarray) else x


def as_one_part(moments):
    """Moments (parts, 3, C) of all parts together: into which parts a kernel divides its results is its own affair."""
    counts, means, squares = moments.astype(np.float64).swapaxes(0, 1)
    count = counts.sum(0)
    mean = (counts * means).sum(0) / count
    return np.stack([count, mean, squares.sum(0) + (counts * (means - mean) ** 2).sum(0)]).astype(moments.dtype)


def close(got, want, dtype, name):
    if isinstance(want, (list, tuple)):
        for g, w in zip(got, want, strict=True):
            close(g, w, dtype, name)
    elif not isinstance(want, np.ndarray):
        assert got == want  # None, or a number among the arguments
    else:
        assert got.dtype == want.dtype
        assert got.shape == want.shape
        if name in EXACT:
            np.testing.assert_array_equal(got, want)
            return
        # Sums of up to 65 products, exponentials, one rounding to the dtype: a few units of the coarser of float32 and
        # the dtype.
        dtype = np.float32 if name in FLOAT32 else dtype
        tolerance = {"float64": 1e-11, "float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}[np.dtype(dtype).name]
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=tolerance, atol=tolerance * 4)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("name", sorted(SMALL))
def test_small_problems(name, dtype):
    mode = "native" if kernels.available()["native"] is True else "emulated"
    for args, kwargs in SMALL[name](np.random.default_rng(0), dtype):
        want_args, want_kwargs = [copied(a) for a in args], copied(kwargs)
        want = getattr(reference, name)(*want_args, **want_kwargs)
        with kernels.use(mode):
            given, options = [on_device(a) for a in args], {k: on_device(v) for k, v in kwargs.items()}
            got = on_host(getattr(kernels, name)(*given, **options))
        if name.endswith("_step"):  # works in place, on master weights too
            close([on_host(a) for a in given], want_args, dtype, name)
            for k, v in want_kwargs.items():
                if isinstance(v, (list, np.ndarray)):
                    close(on_host(options[k]), v, dtype, name)
        else:
            if kwargs.get("keep_moments"):
                got, want = ((out, as_one_part(moments)) for out, moments in (got, want))
            close(got, want, dtype, name)
