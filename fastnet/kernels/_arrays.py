"""Arrays at the border to the extensions: allocation, the stream, and the checks every kernel function makes."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._faults import fault_flag as fault_flag
from fastnet.errors import InputError, KindError

ALIGNMENT = 256  # bytes
FLOATING = ("float32", "float64", "float16", "bfloat16")


@lru_cache(maxsize=256)
def name_of(dtype: np.dtype) -> str:
    """``dtype.name``, which NumPy puts together anew each time: at a microsecond it would be much of a small call."""
    return dtype.name


def is_numpy(x: Any) -> bool:
    return isinstance(x, np.ndarray)


def empty(like: Any, shape: tuple[int, ...], dtype: Any = None) -> Any:
    """An uninitialised array beside ``like``. On the CPU its bytes are 0xFF (NaN in every floating-point format), so
    that an element a kernel forgets to write cannot look right, and it starts on 256 bytes as CUDA's allocations do."""
    dtype = np.dtype(dtype or like.dtype)
    if not isinstance(like, np.ndarray):
        return namespace(like).empty(shape, dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    raw = np.full(nbytes + ALIGNMENT, 0xFF, np.uint8)
    start = -raw.__array_interface__["data"][0] % ALIGNMENT
    return raw[start : start + nbytes].view(dtype).reshape(shape)


def packed(x: Any) -> Any:
    """A contiguous copy where allocations begin: on the CPU too, so that sectors counted there are those of a GPU."""
    out = empty(x, x.shape)
    out[...] = x
    return out


def addressable(x: Any) -> Any:
    """x, or a copy of it where its address or strides are not multiples of the item size, which kernels cannot read."""
    if isinstance(x, np.ndarray):
        return x if x.flags.aligned else x.copy()
    size = x.itemsize
    return x if x.data.ptr % size == 0 and not any(s % size for s in x.strides) else x.copy()


def stream_of(x: Any) -> int:
    if isinstance(x, np.ndarray):
        return 0
    import cupy

    return cupy.cuda.get_current_stream().ptr


def check_array(
    function: str,
    argument: str,
    x: Any,
    *,
    dtypes: tuple[str, ...] = FLOATING,
    ndim: int | None = None,
    like: Any = None,
) -> None:
    """Raise, naming function and argument, unless x is a NumPy or CuPy array of a dtype and rank the kernel takes, on
    the device of ``like``."""
    if not isinstance(x, np.ndarray) and not hasattr(x, "__cuda_array_interface__"):
        raise KindError(f"{function}: {argument} is a {type(x).__name__}, expected a NumPy or CuPy array")
    if name_of(x.dtype) not in dtypes:
        raise KindError(f"{function}: {argument} has dtype {x.dtype.name}, expected {' or '.join(dtypes)}")
    if not x.dtype.isnative:
        raise KindError(f"{function}: {argument} has the other byte order, expected this machine's")
    if ndim is not None and x.ndim != ndim:
        raise InputError(f"{function}: {argument} has {x.ndim} dimensions {tuple(x.shape)}, expected {ndim}")
    if like is not None and isinstance(like, np.ndarray) != isinstance(x, np.ndarray):
        raise InputError(f"{function}: {argument} and the other arguments are on different devices")
