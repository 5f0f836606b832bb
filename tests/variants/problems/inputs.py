"""Arrays that problems are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

Call = tuple[tuple, dict]


ALIGNMENT = 256  # bytes, as CUDA's allocations


def aligned(shape: tuple[int, ...], dtype: Any, values: Any = None) -> np.ndarray:
    """An array that starts on 256 bytes, so that counts of sectors do not depend on where NumPy put it."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    out = raw[start : start + size].view(dtype).reshape(shape)
    if values is not None:
        out[...] = values
    return out


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return aligned(shape, dtype, rng.standard_normal(shape).astype(dtype))


def misaligned(x: np.ndarray) -> np.ndarray:
    """The same values one element further on, so that no row starts on 16 bytes."""
    flat = np.empty(x.size + 1, x.dtype)
    flat[1:] = x.reshape(-1)
    return flat[1:].reshape(x.shape)


def state(seed: int = 1) -> np.ndarray:
    return np.array([seed, 3], np.uint64)


def channels_last(x: np.ndarray) -> np.ndarray:
    """The same values (N, C, H, W), channels-last in memory."""
    return aligned((x.shape[0], *x.shape[2:], x.shape[1]), x.dtype, x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
