"""Problems of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .inputs import Call, aligned, misaligned, normal


def small_embedding(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for rows, dim, count in [(1, 1, 1), (7, 33, 50), (5, 64, 0), (3, 24, 100)]:
        weight, index = normal(rng, (rows, dim), dtype), rng.integers(0, rows, count)
        yield (weight, index), {}
        yield (misaligned(weight), index.astype(np.int32)), {}


def aligned_embedding(rng: np.random.Generator, dtype: Any) -> Call:
    return (normal(rng, (64, 256), dtype), aligned((128,), np.int64, rng.integers(0, 64, 128))), {}


def small_embedding_backward(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for rows, dim, count in [(1, 1, 1), (7, 33, 50), (5, 64, 0), (3, 24, 150)]:
        grad, index = normal(rng, (count, dim), dtype), rng.integers(-1, rows + 1, count)
        yield (grad, index, rows), {}
        yield (misaligned(grad), index, rows), {"padding_idx": 0}


def aligned_embedding_backward(rng: np.random.Generator, dtype: Any) -> Call:
    return (normal(rng, (128, 256), dtype), aligned((128,), np.int64, np.arange(128) % 16), 64), {}


SMALL: dict[str, Callable[[np.random.Generator, Any], Iterator[Call]]] = {
    "embedding": small_embedding,
    "embedding_backward": small_embedding_backward,
}


ALIGNED: dict[str, Callable[[np.random.Generator, Any], Call]] = {
    "embedding": aligned_embedding,
    "embedding_backward": aligned_embedding_backward,
}
