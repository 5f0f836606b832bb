"""Problems of random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .inputs import Call, state


def small_random(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(1,), (7, 33), (0, 3), (1024,)]:
        yield (shape, state(), 2), {}


def aligned_random(rng: np.random.Generator, dtype: Any) -> Call:
    return ((64, 256), state()), {}


def small_permutation(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for n in (0, 1, 37):
        yield (n, state()), {}


def aligned_permutation(rng: np.random.Generator, dtype: Any) -> Call:
    return (4096, state()), {}


SMALL: dict[str, Callable[[np.random.Generator, Any], Iterator[Call]]] = {
    "normal": small_random,
    "permutation": small_permutation,
    "random_bits": small_random,
    "uniform": small_random,
}


ALIGNED: dict[str, Callable[[np.random.Generator, Any], Call]] = {
    "normal": aligned_random,
    "permutation": aligned_permutation,
    "random_bits": aligned_random,
    "uniform": aligned_random,
}
