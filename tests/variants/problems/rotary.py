"""Problems of rotary embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from fastnet.kernels._runtime import extension_for

from .inputs import Call, misaligned, normal


def rotary_angles(rng: np.random.Generator, places: int, half: int, dtype: Any) -> list[np.ndarray]:
    return [normal(rng, (places, half), np.float64 if np.dtype(dtype) == np.float64 else np.float32) for _ in range(2)]


def small_rotary_embedding(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for batch, heads, length, d, half in [(1, 1, 1, 2, 1), (2, 3, 5, 13, 6), (2, 9, 7, 64, 32), (1, 2, 0, 8, 4)]:
        x, tables = normal(rng, (batch, heads, length, d), dtype), rotary_angles(rng, 20, half, dtype)
        yield (x, *tables), {"offset": 3}
        by_sequence = rng.integers(0, 10, (batch, 1)).astype(np.int32)
        yield (misaligned(x), *tables), {"positions": by_sequence, "interleaved": True, "inverse": True}


def aligned_rotary_embedding(interleaved: bool, rng: np.random.Generator, dtype: Any) -> Call:
    heads, length = 4, 64
    config = extension_for(np.empty(0)).RotaryConfig(team=8, heads=heads, rows=32)
    x, tables = normal(rng, (1, heads, length, 64), dtype), rotary_angles(rng, length, 32, dtype)
    return (x, *tables), {"interleaved": interleaved, "config": config}


SMALL: dict[str, Callable[[np.random.Generator, Any], Iterator[Call]]] = {
    "rotary_embedding": small_rotary_embedding,
}


ALIGNED: dict[str, Callable[[np.random.Generator, Any], Call]] = {
    "rotary_embedding": partial(aligned_rotary_embedding, False),
    "rotary_embedding: interleaved": partial(aligned_rotary_embedding, True),
}
