"""Problems of pooling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .inputs import Call, channels_last, misaligned, normal


def poolings(rng: np.random.Generator, dtype: Any) -> Iterator[tuple[np.ndarray, np.ndarray, dict]]:
    """Images, a gradient of the result, options."""
    for shape, out, options in [
        ((1, 1, 1, 1), (1, 1), {"kernel_size": 1}),
        ((2, 8, 7, 9), (3, 4), {"kernel_size": 2}),
        ((2, 3, 7, 9), (4, 5), {"kernel_size": 3, "stride": 2, "padding": 1}),
        ((1, 16, 5, 6), (3, 4), {"kernel_size": (2, 3), "stride": (2, 2), "padding": (0, 1), "ceil_mode": True}),
        ((1, 5, 7, 5), (3, 2), {"output_size": (3, 2)}),
        ((0, 4, 4, 4), (2, 2), {"kernel_size": 2}),
    ]:
        yield normal(rng, shape, dtype), normal(rng, (*shape[:2], *out), dtype), options


def small_max_pool2d(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for x, _, options in poolings(rng, dtype):
        yield (channels_last(x),), {**options, "with_indices": True}
        yield (misaligned(x),), options


def small_max_pool2d_backward(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for x, grad, options in poolings(rng, dtype):
        yield (channels_last(grad), x.shape[2:]), {**options, "x": channels_last(x)}
        indices = rng.integers(0, x.shape[2] * x.shape[3], grad.shape).astype(np.int32)
        yield (misaligned(grad), x.shape[2:]), {**options, "indices": indices}


def small_avg_pool2d(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for x, _, options in poolings(rng, dtype):
        yield (channels_last(x),), options
        yield (misaligned(x),), {**options, "count_include_pad": False}


def small_avg_pool2d_backward(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for x, grad, options in poolings(rng, dtype):
        yield (channels_last(grad), x.shape[2:]), options
        yield (misaligned(grad), x.shape[2:]), {**options, "divisor_override": 3}


def aligned_pool(rng: np.random.Generator, dtype: Any) -> Call:
    return (channels_last(normal(rng, (2, 64, 16, 16), dtype)), 2), {}


def aligned_max_pool2d_backward(rng: np.random.Generator, dtype: Any) -> Call:
    x, grad = normal(rng, (2, 64, 16, 16), dtype), normal(rng, (2, 64, 8, 8), dtype)
    return (channels_last(grad), 16, 2), {"x": channels_last(x)}


def aligned_avg_pool2d_backward(rng: np.random.Generator, dtype: Any) -> Call:
    return (channels_last(normal(rng, (2, 64, 8, 8), dtype)), 16, 2), {}


SMALL: dict[str, Callable[[np.random.Generator, Any], Iterator[Call]]] = {
    "avg_pool2d": small_avg_pool2d,
    "avg_pool2d_backward": small_avg_pool2d_backward,
    "max_pool2d": small_max_pool2d,
    "max_pool2d_backward": small_max_pool2d_backward,
}


ALIGNED: dict[str, Callable[[np.random.Generator, Any], Call]] = {
    "avg_pool2d": aligned_pool,
    "avg_pool2d_backward": aligned_avg_pool2d_backward,
    "max_pool2d": aligned_pool,
    "max_pool2d_backward": aligned_max_pool2d_backward,
}
