"""Problems of normalisation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from .inputs import Call, aligned, misaligned, normal, state

NORMS = ("batch_norm", "group_norm", "layer_norm", "rms_norm")


def norm_statistics(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    sums = np.float64 if np.dtype(dtype) == np.float64 else np.float32
    return normal(rng, shape, sums), normal(rng, shape, sums)


def moments_of(rng: np.random.Generator, parts: int, x: np.ndarray) -> np.ndarray:
    """Counts (not whole ones, but together as many as a channel has elements), means, sums of squared deviations."""
    moments = normal(rng, (parts, 3, x.shape[1]), np.float64 if x.dtype == np.float64 else np.float32)
    np.abs(moments, out=moments)  # in place: it begins where allocations of a GPU do
    moments[:, 0] *= x.size / x.shape[1] / moments[:, 0].sum(0)
    return moments


def small_norm(name: str, backward: bool, rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    """Every shape that the function takes: rows, channels first and last in memory, in groups."""
    shapes = [(5, 7), (3, 40), (2, 300)] + ([] if name in ("layer_norm", "rms_norm") else [(3, 8, 5), (2, 6, 4, 3)])
    for shape in shapes:
        first, grad, weight = normal(rng, shape, dtype), normal(rng, shape, dtype), normal(rng, shape[1:2], dtype)
        for x in (misaligned(first), np.moveaxis(np.ascontiguousarray(np.moveaxis(first, 1, -1)), -1, 1)):
            if name == "batch_norm":
                statistics = norm_statistics(rng, shape[1:2], dtype)
                if backward:
                    yield (grad, x, *statistics, weight), {"y": grad, "residual_gradient": True}
                else:
                    running = {"running_mean": statistics[0], "running_var": statistics[1] ** 2}
                    yield (x, weight, weight), {"residual": grad, "activation": "relu", **running}
                    yield (x, weight, weight), {"moments": moments_of(rng, 70, x), **running}
            elif name == "group_norm":
                groups = 2 if shape[1] % 2 == 0 else 1
                statistics = norm_statistics(rng, (shape[0], groups), dtype)
                yield ((grad, x, groups, *statistics, weight) if backward else (x, groups, weight, weight)), {}
            else:
                statistics = norm_statistics(rng, shape[:1], dtype)[name == "rms_norm" :]
                yield ((grad, x, *statistics, weight) if backward else (x, weight)), {}


def aligned_norm(name: str, backward: bool, rng: np.random.Generator, dtype: Any) -> Call:
    shape = (64, 256) if name in ("layer_norm", "rms_norm") else (4, 64, 8, 8)
    x, grad, weight = normal(rng, shape, dtype), normal(rng, shape, dtype), normal(rng, shape[1:2], dtype)
    if name == "batch_norm":
        return ((grad, x, *norm_statistics(rng, shape[1:2], dtype), weight) if backward else (x, weight, weight)), {}
    if name == "group_norm":
        return ((grad, x, 8, *norm_statistics(rng, (4, 8), dtype), weight) if backward else (x, 8, weight, weight)), {}
    statistics = norm_statistics(rng, shape[:1], dtype)[name == "rms_norm" :]
    return ((grad, x, *statistics, weight) if backward else (x, weight)), {}


def aligned_batch_norm_moments(rng: np.random.Generator, dtype: Any) -> Call:
    (x, *parameters), options = aligned_norm("batch_norm", False, rng, dtype)
    return (x, *parameters), {**options, "moments": moments_of(rng, 512, x)}


def small_batch_norm_inference(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(5, 7), (2, 6, 4, 3)]:
        mean, var = normal(rng, shape[1:2], dtype), normal(rng, shape[1:2], dtype) ** 2
        yield (misaligned(normal(rng, shape, dtype)), mean, var, mean), {"activation": "relu"}


def aligned_batch_norm_inference(rng: np.random.Generator, dtype: Any) -> Call:
    mean, var = normal(rng, (64,), dtype), aligned((64,), dtype, normal(rng, (64,), dtype) ** 2)
    return (normal(rng, (4, 64, 8, 8), dtype), mean, var, mean, var), {}


def small_add_norm(backward: bool, rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(5, 7), (3, 40), (2, 300), (1, 2304)]:
        x, residual, grad = (normal(rng, shape, dtype) for _ in range(3))
        weight, statistics = normal(rng, shape[1:], dtype), norm_statistics(rng, shape[:1], dtype)
        drawn = {"dropout_p": 0.3, "state": state()}
        if backward:
            yield (grad, misaligned(x), *statistics, weight), {"of_total": residual, **drawn}
            yield (grad, x, None, statistics[1], weight), {"of_total": residual, **drawn}
        else:
            yield (misaligned(x), residual, weight, weight), drawn
            yield (x, residual, weight), {"centred": False, **drawn}


def aligned_add_norm(backward: bool, rng: np.random.Generator, dtype: Any) -> Call:
    x, residual, grad = (normal(rng, (64, 256), dtype) for _ in range(3))
    weight, drawn = normal(rng, (256,), dtype), {"dropout_p": 0.1, "state": state()}
    if backward:
        return (grad, x, *norm_statistics(rng, (64,), dtype), weight), {"of_total": residual, **drawn}
    return (x, residual, weight, weight), drawn


SMALL: dict[str, Callable[[np.random.Generator, Any], Iterator[Call]]] = {
    "add_norm": partial(small_add_norm, False),
    "add_norm_backward": partial(small_add_norm, True),
    "batch_norm_inference": small_batch_norm_inference,
    **{name + end: partial(small_norm, name, bool(end)) for name in NORMS for end in ("", "_backward")},
}


ALIGNED: dict[str, Callable[[np.random.Generator, Any], Call]] = {
    "add_norm": partial(aligned_add_norm, False),
    "add_norm_backward": partial(aligned_add_norm, True),
    "batch_norm: moments": aligned_batch_norm_moments,
    "batch_norm_inference": aligned_batch_norm_inference,
    **{name + end: partial(aligned_norm, name, bool(end)) for name in NORMS for end in ("", "_backward")},
}
