"""Problems of optimizer steps and of what is done with gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .inputs import Call, aligned, misaligned, normal

# How many lists of states each optimizer has, and options that use them all.
OPTIMIZERS: dict[str, tuple[int, dict]] = {
    "sgd_step": (1, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "adam_step": (3, {"lr": 0.1, "weight_decay": 0.01, "decoupled_weight_decay": True}),
    "adagrad_step": (1, {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.01}),
    "rmsprop_step": (3, {"lr": 0.1, "alpha": 0.9, "momentum": 0.9, "weight_decay": 0.01}),
}


def optimizer_lists(name: str, rng: np.random.Generator, dtype: Any, shapes: list[tuple[int, ...]]) -> list[list]:
    """Params, gradients and states. States are squares above 1, so that RMSprop's is above its squared mean, last."""
    states = [[2 + abs(normal(rng, s, dtype)) for s in shapes] for _ in range(OPTIMIZERS[name][0])]
    if name == "rmsprop_step":
        states[2] = [aligned(s, dtype, 0.5) for s in shapes]
    return [[normal(rng, s, dtype) for s in shapes] for _ in range(2)] + [
        [aligned(x.shape, dtype, x) for x in state] for state in states
    ]


def small_optimizer(name: str) -> Callable[[np.random.Generator, Any], Iterator[Call]]:
    def problems(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
        shapes = [(1,), (7, 33), (0,), (40, 64), (3, 1000)]
        states, options = OPTIMIZERS[name]
        steps = [[np.array([i + 1], np.float32) for i in range(len(shapes))]] if name != "sgd_step" else []
        lists = optimizer_lists(name, rng, dtype, shapes)
        yield tuple([[misaligned(x) if i % 2 else x for i, x in enumerate(z)] for z in lists] + steps), options
        # As few states as there can be, and numbers for steps.
        fewest = {"sgd_step": 0, "adam_step": 2, "adagrad_step": 1, "rmsprop_step": 1}[name]
        lists = optimizer_lists(name, rng, dtype, shapes)[: 2 + fewest] + [None] * (states - fewest)
        yield tuple(lists + [[1, 2, 3, 4, 5]] * len(steps)), {"lr": 0.1, "maximize": True}
        # Gradients scaled by what was found of them, a step that is left out, and master weights.
        found = [aligned((3,), np.float64, values) for values in ([2.0, 0.5, 0], [2.0, 0.5, 1])]
        for gradients in found:
            lists = optimizer_lists(name, rng, dtype, shapes)
            yield (*lists, *steps), {**options, "gradients": gradients}
        if np.dtype(dtype).itemsize == 2:
            params, grads, *wide = optimizer_lists(name, rng, dtype, shapes)
            wide = [[x.astype(np.float32) for x in state] for state in wide]
            masters = [p.astype(np.float32) for p in params]
            yield (params, grads, *wide, *steps), {**options, "masters": masters, "gradients": found[0]}

    return problems


def small_gradients(name: str) -> Callable[[np.random.Generator, Any], Iterator[Call]]:
    def problems(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
        shapes = [(1,), (7, 33), (0,), (40, 64), (3, 1000)]
        grads = [normal(rng, s, dtype) for s in shapes]
        spread = [misaligned(g) if i % 2 else g.T for i, g in enumerate(grads)]
        if name == "gradient_norm":
            yield (grads,), {}
            yield (spread,), {"scale": aligned((1,), np.float32, 8), "max_norm": 1.0}
        else:
            yield (grads, aligned((3,), np.float64, [2.0, 0.5, 0])), {}
            yield (spread, aligned((3,), np.float64, [2.0, 0.5, 0])), {}

    return problems


def aligned_gradients(name: str) -> Callable[[np.random.Generator, Any], Call]:
    def problem(rng: np.random.Generator, dtype: Any) -> Call:
        state = () if name == "gradient_norm" else (aligned((3,), np.float64, [2.0, 0.5, 0]),)
        return ([normal(rng, (64, 256), dtype)], *state), {}

    return problem


def small_loss_scale(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for skip in (0.0, 1.0):
        yield aligned_loss_scale(rng, dtype, skip)


def aligned_loss_scale(rng: np.random.Generator, dtype: Any, skip: float = 0.0) -> Call:
    arrays = aligned((1,), np.float32, 8), aligned((1,), np.int32, 1), aligned((3,), np.float64, [2.0, 0.5, skip])
    return arrays, {"growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2}


def aligned_optimizer(name: str) -> Callable[[np.random.Generator, Any], Call]:
    def problem(rng: np.random.Generator, dtype: Any) -> Call:
        options = OPTIMIZERS[name][1]
        steps = [[aligned((1,), np.float32, 3)]] if name != "sgd_step" else []
        return tuple(optimizer_lists(name, rng, dtype, [(64, 256)]) + steps), options

    return problem


SMALL: dict[str, Callable[[np.random.Generator, Any], Iterator[Call]]] = {
    **{name: small_gradients(name) for name in ("gradient_norm", "scale_gradients")},
    **{name: small_optimizer(name) for name in OPTIMIZERS},
    "update_loss_scale": small_loss_scale,
}


ALIGNED: dict[str, Callable[[np.random.Generator, Any], Call]] = {
    **{name: aligned_gradients(name) for name in ("gradient_norm", "scale_gradients")},
    **{name: aligned_optimizer(name) for name in OPTIMIZERS},
    "update_loss_scale": aligned_loss_scale,
}
