"""Problems of softmax and cross-entropy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .inputs import Call, aligned, misaligned, normal


def small_softmax(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(1, 1), (7, 33), (3, 1500), (2, 5000)]:
        x = normal(rng, shape, dtype)
        yield (misaligned(x),), {}
        yield (x,), {"axis": 0}


def aligned_softmax(rng: np.random.Generator, dtype: Any) -> Call:
    return (normal(rng, (16, 1024), dtype),), {}


def small_softmax_backward(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(1, 1), (7, 33), (3, 1500), (2, 5000)]:
        grad, y = normal(rng, shape, dtype), normal(rng, shape, dtype)
        yield (misaligned(grad), y), {}
        yield (grad, y), {"axis": 0}


def aligned_softmax_backward(rng: np.random.Generator, dtype: Any) -> Call:
    return (normal(rng, (16, 1024), dtype), normal(rng, (16, 1024), dtype)), {}


def small_cross_entropy(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for rows, classes in [(1, 1), (7, 33), (3, 1500), (2, 5000)]:
        x, target = normal(rng, (rows, classes), dtype), rng.integers(0, classes, rows)
        yield (misaligned(x), target), {"with_gradient": True}
        target[0] = -100
        yield (
            (x, target),
            {"weight": rng.random(classes).astype(x.dtype), "label_smoothing": 0.1, "with_gradient": True},
        )


def aligned_cross_entropy(rng: np.random.Generator, dtype: Any) -> Call:
    return (normal(rng, (16, 1024), dtype), aligned((16,), np.int64, rng.integers(0, 1024, 16))), {
        "with_gradient": True
    }


SMALL: dict[str, Callable[[np.random.Generator, Any], Iterator[Call]]] = {
    "cross_entropy": small_cross_entropy,
    "log_softmax": small_softmax,
    "log_softmax_backward": small_softmax_backward,
    "softmax": small_softmax,
    "softmax_backward": small_softmax_backward,
}


ALIGNED: dict[str, Callable[[np.random.Generator, Any], Call]] = {
    "cross_entropy": aligned_cross_entropy,
    "log_softmax": aligned_softmax,
    "log_softmax_backward": aligned_softmax_backward,
    "softmax": aligned_softmax,
    "softmax_backward": aligned_softmax_backward,
}
