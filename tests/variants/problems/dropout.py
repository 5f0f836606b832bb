"""Problems of dropout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .inputs import Call, misaligned, normal, state


def small_dropout(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(1,), (7, 33), (0, 3), (40, 64)]:
        x = normal(rng, shape, dtype)
        yield (x, 0.5, state()), {}
        yield (
            (misaligned(x), 0.1, state(), 5),
            {"bias": normal(rng, shape[-1:], dtype), "activation": "relu", "residual": normal(rng, shape, dtype)},
        )


def aligned_dropout(rng: np.random.Generator, dtype: Any) -> Call:
    return (normal(rng, (64, 256), dtype), 0.5, state()), {}


def small_dropout_backward(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(1,), (7, 33), (40, 64)]:
        grad = normal(rng, shape, dtype)
        yield (grad, 0.5, state()), {}
        yield (misaligned(grad), 0.3, state()), {"x": normal(rng, shape, dtype), "activation": "gelu"}


def aligned_dropout_backward(rng: np.random.Generator, dtype: Any) -> Call:
    return (normal(rng, (64, 256), dtype), 0.5, state()), {}


def small_dropout_mask(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(1,), (7, 33), (1024,)]:
        yield (shape, 0.5, state()), {}


def aligned_dropout_mask(rng: np.random.Generator, dtype: Any) -> Call:
    return ((64, 256), 0.5, state()), {}


SMALL: dict[str, Callable[[np.random.Generator, Any], Iterator[Call]]] = {
    "dropout": small_dropout,
    "dropout_backward": small_dropout_backward,
    "dropout_mask": small_dropout_mask,
}


ALIGNED: dict[str, Callable[[np.random.Generator, Any], Call]] = {
    "dropout": aligned_dropout,
    "dropout_backward": aligned_dropout_backward,
    "dropout_mask": aligned_dropout_mask,
}
