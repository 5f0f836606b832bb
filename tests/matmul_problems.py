"""Matrix products to test kernels with: operands in any layout, what they should give, and operands that are hard to
sum."""

import numpy as np
from support import bfloat16

from fastnet.kernels import _runtime

FLOATS = [np.float32, np.float64, np.float16, bfloat16]
INTEGERS = [np.int32, np.int64, np.uint8]


def name(dtype):
    return np.dtype(dtype).name


def extension():
    return _runtime.extension_for(np.empty(0))


def accumulator(dtype):
    return np.float64 if dtype == np.float64 else np.float32


def draw(rng, shape, dtype):
    if np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    return rng.standard_normal(shape).astype(dtype)


def lay_out(rng, x):
    """x with the same values in a memory layout drawn at random: (the array, what it is called)."""
    kind = rng.choice(["plain", "transposed", "stepped", "reversed", "padded", "misaligned"])
    if kind == "transposed":
        y = np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2)
    elif kind == "stepped":
        y = np.zeros((*x.shape[:-2], 2 * x.shape[-2], 3 * x.shape[-1]), x.dtype)[..., ::2, ::3]
        y[...] = x
    elif kind == "reversed":
        y = np.ascontiguousarray(x[..., ::-1, ::-1])[..., ::-1, ::-1]
    elif kind == "padded":
        y = np.zeros((*x.shape[:-2], x.shape[-2], x.shape[-1] + 5), x.dtype)[..., 1 : x.shape[-1] + 1]
        y[...] = x
    elif kind == "misaligned":
        y = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
        y[...] = x
    else:
        y = x
    return y, str(kind)


def expected(a, b, bias=None):
    """In float64, or exactly, wrapped, for integers."""
    if a.dtype.kind in "iu":
        product = np.matmul(a.astype(np.uint64), b.astype(np.uint64))
        return (product if bias is None else product + bias.astype(np.uint64)).astype(a.dtype)
    with np.errstate(all="ignore"):
        product = np.matmul(a.astype(np.float64), b.astype(np.float64))
        return product if bias is None else product + bias.astype(np.float64)


def adversaries(rng, m, n, k):
    """Float32 operands that are hard to sum: what they are called, a, b."""
    normal = draw(rng, (m, k), np.float32), draw(rng, (k, n), np.float32)
    yield "normal", *normal
    yield "positive", np.abs(normal[0]), np.abs(normal[1])
    yield "constant", np.full((m, k), 0.1, np.float32), np.full((k, n), 0.3, np.float32)
    scale = np.exp2(rng.integers(-40, 40, k)).astype(np.float32)
    yield "wide range", normal[0] * scale, normal[1]
    half = k // 2
    cancel = normal[0].copy()
    cancel[:, half : 2 * half] = -cancel[:, :half] * np.float32(1 + 2.0**-20)
    b = normal[1].copy()
    b[half : 2 * half] = b[:half]
    yield "cancelling", cancel, b
    growing = np.abs(normal[0])
    growing[:, 0] = 2.0**24
    yield "large first", growing, np.ones((k, n), np.float32)
