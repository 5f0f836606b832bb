"""Problems of activations with a bias or a gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from .inputs import Call, misaligned, normal


def small_bias_activation(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(1, 1), (7, 33), (0, 3), (40, 64)]:
        x = normal(rng, shape, dtype)
        yield (x,), {"activation": "relu"}
        yield (
            (misaligned(x), normal(rng, shape[-1:], dtype)),
            {"activation": "gelu", "residual": normal(rng, shape, dtype)},
        )


def aligned_bias_activation(rng: np.random.Generator, dtype: Any) -> Call:
    x = normal(rng, (64, 256), dtype)
    return (x, normal(rng, (256,), dtype)), {"activation": "relu", "residual": normal(rng, (64, 256), dtype)}


def small_bias_activation_backward(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(1, 1), (7, 33), (40, 64)]:
        grad, x = normal(rng, shape, dtype), normal(rng, shape, dtype)
        yield (misaligned(grad), x, normal(rng, shape[-1:], dtype)), {"activation": "silu"}


def aligned_bias_activation_backward(rng: np.random.Generator, dtype: Any) -> Call:
    return (normal(rng, (64, 256), dtype), normal(rng, (64, 256), dtype)), {"activation": "relu"}


def small_gated_activation(backward: bool, rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for shape in [(1, 1), (7, 33), (0, 3), (40, 64)]:
        gate, up, grad = (normal(rng, shape, dtype) for _ in range(3))
        both = normal(rng, (*shape[:-1], 2 * shape[-1]), dtype)
        halves = both[..., : shape[-1]], both[..., shape[-1] :]
        yield ((grad,) if backward else ()) + (misaligned(gate), up), {"activation": "gelu"}
        yield ((grad,) if backward else ()) + halves, {"together": True} if backward else {}


def aligned_gated_activation(backward: bool, rng: np.random.Generator, dtype: Any) -> Call:
    both = normal(rng, (64, 512), dtype)
    halves = both[:, :256], both[:, 256:]
    return ((normal(rng, (64, 256), dtype), *halves), {"together": True}) if backward else (halves, {})


SMALL: dict[str, Callable[[np.random.Generator, Any], Iterator[Call]]] = {
    "bias_activation": small_bias_activation,
    "bias_activation_backward": small_bias_activation_backward,
    "gated_activation": partial(small_gated_activation, False),
    "gated_activation_backward": partial(small_gated_activation, True),
}


ALIGNED: dict[str, Callable[[np.random.Generator, Any], Call]] = {
    "bias_activation": aligned_bias_activation,
    "bias_activation_backward": aligned_bias_activation_backward,
    "gated_activation": partial(aligned_gated_activation, False),
    "gated_activation_backward": partial(aligned_gated_activation, True),
}
