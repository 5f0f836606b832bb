"""Philox4x32-10 in array code: the specification of every random number in fastnet.

Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011). key = seed; counter = (index / 4,
offset), low words first; word = index % 4; index is an element's place in C order.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet.reference.pointwise import rounded

LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


def philox(blocks: Any, seed: Any, offset: Any) -> Any:
    """The four words of each counter: (len(blocks), 4) uint32.

    Args:
        blocks: uint64 vector, the low half of the counters.
        seed, offset: uint64 arrays of one element: the key, and the high half.
    """
    xp = namespace(blocks)
    # Words 0 and 2 of every counter, which are multiplied, as rows of one array, words 1 and 3 of another: a round is
    # then three calls of the array library, not a dozen.
    n = len(blocks)
    multiplied, others = xp.empty((2, n), np.uint32), xp.empty((2, n), np.uint32)
    multiplied[0], multiplied[1] = blocks & LOW, offset & LOW
    others[0], others[1] = blocks >> HALF, offset >> HALF
    rounds = xp.arange(10, dtype=np.uint64)
    keys = xp.stack(
        [(seed & LOW) + rounds * np.uint64(0x9E3779B9), (seed >> HALF) + rounds * np.uint64(0xBB67AE85)], axis=1
    )
    keys = (keys & LOW).astype(np.uint32)[:, :, None]  # (round, 2, 1)
    factors = xp.asarray(np.array([[0xD2511F53], [0xCD9E8D57]], np.uint64))
    for key in keys:
        product = (multiplied * factors).view(np.uint32).reshape(2, n, 2)  # low and high halves, little-endian
        multiplied = product[::-1, :, 1] ^ others
        multiplied ^= key
        others = product[::-1, :, 0]
    return xp.stack([multiplied[0], others[0], multiplied[1], others[1]], axis=-1)


def words(n: int, state: Any, offset: int) -> Any:
    """The draws of elements 0 to n - 1: uint32."""
    xp = namespace(state)
    with np.errstate(over="ignore"):
        position = state[1:2] + np.uint64(offset)
        return philox(xp.arange((n + 3) // 4, dtype=np.uint64), state[0:1], position).reshape(-1)[:n]


def random_bits(shape: tuple[int, ...], state: Any, offset: int = 0, *, config: Any = None) -> Any:
    """32 random bits an element, uint32."""
    return words(math.prod(shape), state, offset).reshape(shape)


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
    """low + (high - low) * u with u in [0, 1) in steps of 2^-24, in float32 (float64 for float64)."""
    dtype = np.dtype(dtype)
    work = np.float64 if dtype == np.float64 else np.float32
    u = (words(math.prod(shape), state, offset) >> np.uint32(8)).astype(work) * work(2.0**-24)
    return rounded(work(low) + work(high - low) * u, dtype).reshape(shape)


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
    """mean + std * z, z by Box and Muller (1958) from pairs of words, computed in float64."""
    xp = namespace(state)
    n = math.prod(shape)
    w = words(n + n % 2, state, offset) >> np.uint32(8)
    u1, u2 = (w[0::2] + np.uint32(1)).astype(np.float64) * 2.0**-24, w[1::2].astype(np.float64) * 2.0**-24
    radius, angle = xp.sqrt(-2 * xp.log(u1)), 2 * np.pi * u2
    z = xp.stack([radius * xp.cos(angle), radius * xp.sin(angle)], axis=-1).reshape(-1)[:n]
    values = mean + std * z
    return (values if dtype == np.float64 else values.astype(np.float32).astype(dtype)).reshape(shape)


def permutation(n: int, state: Any, offset: int = 0, *, config: Any = None) -> Any:
    """The numbers 0 to n - 1 in random order, int64: the stable order of n keys of 64 random bits."""
    bits = random_bits((n, 2), state, offset).astype(np.uint64)
    return namespace(state).argsort(bits[:, 0] | bits[:, 1] << HALF, kind="stable").astype(np.int64)
