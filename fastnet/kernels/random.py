"""Philox draws by handwritten kernels. What they give is specified in fastnet/reference/random.py, bit for bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet.errors import InputError, KindError
from fastnet.kernels._arrays import FLOATING, check_array, empty, stream_of
from fastnet.kernels._runtime import extension_for, record
from fastnet.kernels.pointwise import address, check_config


def check_state(function: str, state: Any, offset: int) -> int:
    """The offset modulo 2^64, once state is two uint64 (seed and base offset)."""
    check_array(function, "state", state, dtypes=("uint64",), ndim=1)
    if state.shape != (2,) or not state.flags.c_contiguous or address(state) % 8:
        raise InputError(f"{function}: state has shape {tuple(state.shape)}, expected (2,), contiguous and aligned")
    if not isinstance(offset, (int, np.integer)):
        raise KindError(f"{function}: offset is a {type(offset).__name__}, expected an int")
    return int(offset) % 2**64


def check_shape(function: str, shape: Any) -> tuple[int, ...]:
    """A shape of numbers that are not negative."""
    if not isinstance(shape, (tuple, list)) or not all(isinstance(n, (int, np.integer)) and n >= 0 for n in shape):
        raise KindError(f"{function}: shape is {shape!r}, expected a tuple of non-negative ints")
    if math.prod(shape) >= 2**62:
        raise InputError(f"{function}: shape {tuple(shape)} has too many elements")
    return tuple(int(n) for n in shape)


def _fill(function: str, shape: Any, state: Any, offset: int, dtype: Any, config: Any, *numbers: float) -> Any:
    offset = check_state(function, state, offset)
    shape = check_shape(function, shape)
    ext = extension_for(state)
    out = empty(state, shape, dtype)
    if config is None:
        config = ext.pointwise_config(out.size, 4, True)
    check_config(ext, config)
    record(function, out, config=config)
    getattr(ext, function)(out, state, offset, *numbers, config, stream_of(state))
    return out


def random_bits(shape: tuple[int, ...], state: Any, offset: int = 0, *, config: Any = None) -> Any:
    """32 random bits an element.

    Args:
        shape: of the result.
        state: (2,) uint64, seed and base offset, where the result is to live; read by the kernel.
        offset: added to the base: the place of this draw in its generator's stream.

    Returns:
        uint32 array.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    return _fill("random_bits", shape, state, offset, np.uint32, config)


def _float_dtype(function: str, dtype: Any) -> np.dtype:
    dtype = np.dtype(dtype)
    if dtype.name not in FLOATING:
        raise KindError(f"{function}: dtype is {dtype.name}, expected {' or '.join(FLOATING)}")
    return dtype


def uniform(
    shape: tuple[int, ...],
    state: Any,
    offset: int = 0,
    *,
    low: float = 0.0,
    high: float = 1.0,
    dtype: Any = np.float32,
    config: Any = None,
) -> Any:
    """``low + (high - low) * u``, u in [0, 1) in steps of 2^-24. Arguments as ``random_bits``."""
    return _fill("uniform", shape, state, offset, _float_dtype("uniform", dtype), config, float(low), float(high))


def normal(
    shape: tuple[int, ...],
    state: Any,
    offset: int = 0,
    *,
    mean: float = 0.0,
    std: float = 1.0,
    dtype: Any = np.float32,
    config: Any = None,
) -> Any:
    """Normal numbers by Box and Muller. Arguments as ``random_bits``."""
    return _fill("normal", shape, state, offset, _float_dtype("normal", dtype), config, float(mean), float(std))


def permutation(n: int, state: Any, offset: int = 0, *, config: Any = None) -> Any:
    """The numbers 0 to n - 1 in random order, int64: the stable order of n keys of 64 random bits."""
    if not isinstance(n, (int, np.integer)) or n < 0:
        raise KindError(f"permutation: n is {n!r}, expected a non-negative int")
    bits = random_bits((n, 2), state, offset, config=config).astype(np.uint64)
    return (bits[:, 0] | bits[:, 1] << np.uint64(32)).argsort(kind="stable").astype(np.int64)
