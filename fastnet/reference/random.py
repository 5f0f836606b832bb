"""Philox4x32-10 in array code: the specification of every random number in fastnet.

Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011). key = seed; counter = (index / 4,
offset), low words first; word = index % 4; index is an element's place in C order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet.reference.pointwise import rounded

LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
FACTORS = np.array([[0xD2511F53], [0xCD9E8D57]], np.uint64)


@lru_cache(maxsize=64)
def _keys_on_host(seed: int) -> tuple[np.ndarray, ...]:
    """The keys of the ten rounds: words 0 and 1 as a column, uint64."""
    words = [(seed & 0xFFFFFFFF, 0x9E3779B9), (seed >> 32, 0xBB67AE85)]
    return tuple(np.array([[(w + i * step) & 0xFFFFFFFF] for w, step in words], np.uint64) for i in range(10))


def _keys(seed: Any) -> Any:
    if isinstance(seed, np.ndarray):
        return _keys_on_host(int(seed[0]))
    xp = namespace(seed)
    rounds = xp.arange(10, dtype=np.uint64)
    keys = xp.stack(
        [(seed & LOW) + rounds * np.uint64(0x9E3779B9), (seed >> HALF) + rounds * np.uint64(0xBB67AE85)], axis=1
    )
    return (keys & LOW)[:, :, None]


def _rounds(blocks: Any, seed: Any, offset: Any) -> tuple[Any, Any]:
    """Words 0 and 2 of each counter, and words 1 and 3: (2, len(blocks)) uint64 below 2^32."""
    xp = namespace(blocks)
    # What is multiplied stands in rows of one array, the other words in rows of another: a round is then five calls of
    # the array library, not a dozen.
    n = len(blocks)
    multiplied, others = xp.empty((2, n), np.uint64), xp.empty((2, n), np.uint64)
    multiplied[0], multiplied[1] = blocks & LOW, offset & LOW
    others[0], others[1] = blocks >> HALF, offset >> HALF
    factors = xp.asarray(FACTORS)
    for key in _keys(seed):
        product = multiplied * factors
        others ^= key
        multiplied = (product >> HALF)[::-1]
        multiplied ^= others
        product &= LOW
        others = product[::-1]
    return multiplied, others


def _pieces(n: int, xp: Any) -> Iterator[tuple[int, int]]:
    """Ranges of counters that are drawn at once: on the CPU as many as its caches hold the rounds of."""
    step = 4096 if xp is np else max(n, 1)
    for start in range(0, n, step):
        yield start, min(n, start + step)


def philox(blocks: Any, seed: Any, offset: Any) -> Any:
    """The four words of each counter: (len(blocks), 4) uint32.

    Args:
        blocks: uint64 vector, the low half of the counters.
        seed, offset: uint64 arrays of one element: the key, and the high half.
    """
    xp = namespace(blocks)
    out = xp.empty((len(blocks), 4), np.uint32)
    for start, end in _pieces(len(blocks), xp):
        even, odd = _rounds(blocks[start:end], seed, offset)
        out[start:end, 0::2], out[start:end, 1::2] = even.T, odd.T
    return out


def words(n: int, state: Any, offset: int) -> Any:
    """The draws of elements 0 to n - 1: uint32."""
    position = state[1:2] + np.uint64(offset)
    return philox(namespace(state).arange((n + 3) // 4, dtype=np.uint64), state[0:1], position).reshape(-1)[:n]


def words_from(n: int, least: int, state: Any, offset: int) -> Any:
    """Which of the draws of elements 0 to n - 1 are at least ``least``, bool: ``words(n, state, offset) >= least``. The
    result is not to be written to."""
    position = state[1:2] + np.uint64(offset)
    if isinstance(state, np.ndarray) and n <= 2**16:
        return _words_from_on_host(n, least, int(state[0]), int(position[0]))
    return _words_from(n, least, state[0:1], position)


# A backward pass asks for the draws of its forward pass again, a moment later: for small layers they would be most of a
# training step in array code. At most 1 MiB is kept.
@lru_cache(maxsize=16)
def _words_from_on_host(n: int, least: int, seed: int, position: int) -> np.ndarray:
    found = _words_from(n, least, np.array([seed], np.uint64), np.array([position], np.uint64))
    found.flags.writeable = False
    return found


def _words_from(n: int, least: int, seed: Any, position: Any) -> Any:
    xp = namespace(seed)
    blocks = xp.arange((n + 3) // 4, dtype=np.uint64)
    out = xp.empty((len(blocks), 4), np.bool_)
    for start, end in _pieces(len(blocks), xp):
        even, odd = _rounds(blocks[start:end], seed, position)
        out[start:end, 0::2] = (even >= np.uint64(least)).T
        out[start:end, 1::2] = (odd >= np.uint64(least)).T
    return out.reshape(-1)[:n]


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
