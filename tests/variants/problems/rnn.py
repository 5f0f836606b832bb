"""Problems of recurrent steps and sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from fastnet.kernels._runtime import extension_for

from .inputs import Call, misaligned, normal

STEPS = ("gru_cell", "gru_cell_backward", "lstm_cell", "lstm_cell_backward", "rnn_cell_backward")


def step_inputs(name: str, rng: np.random.Generator, dtype: Any, batch: int, hidden: int) -> tuple[np.ndarray, ...]:
    """What a recurrent step takes, in order."""
    sums = np.float64 if np.dtype(dtype) == np.float64 else np.float32

    def of(gates: int, kind: Any = dtype) -> np.ndarray:
        return normal(rng, (batch, gates * hidden), kind)

    return {
        "gru_cell": lambda: (of(3), of(3), of(1)),
        "gru_cell_backward": lambda: (of(1), of(4), of(1)),
        "lstm_cell": lambda: (of(4), of(1, sums)),
        "lstm_cell_backward": lambda: (of(1), of(1, sums), of(4), of(1, sums), of(1, sums)),
        "rnn_cell_backward": lambda: (of(1), of(1)),
    }[name]()


def small_step(name: str, rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    for batch, hidden in [(1, 1), (3, 7), (5, 64)]:
        inputs = step_inputs(name, rng, dtype, batch, hidden)
        yield (misaligned(inputs[0]), *inputs[1:]), {}


def aligned_step(name: str, rng: np.random.Generator, dtype: Any) -> Call:
    return step_inputs(name, rng, dtype, 32, 128), {}


SEQUENCES = {"rnn": 1, "lstm": 4, "gru": 3}  # and their gates


def sequence_inputs(
    name: str, rng: np.random.Generator, dtype: Any, sizes: list[int], hidden: int, directions: int, bias: bool = True
) -> tuple:
    """What a recurrent sequence, or its gradient, takes, in order. Weights keep the size of what they multiply, and
    activations lie in (-1, 1), or errors would grow from step to step."""
    sums = np.float64 if np.dtype(dtype) == np.float64 else np.float32
    gates, total, backward = SEQUENCES[name.removesuffix("_backward")], sum(sizes), name.endswith("_backward")

    def each(*shape: int, kind: Any = dtype) -> list[np.ndarray]:
        return [normal(rng, shape, kind) for _ in range(directions)]

    def activated(*arrays: np.ndarray) -> list[np.ndarray]:
        for a in arrays:
            a[...] = np.tanh(a.astype(sums))
        return list(arrays)

    def state(kind: Any = dtype) -> np.ndarray:
        return normal(rng, (directions, sizes[0], hidden), kind)

    x, weight = each(total, gates * hidden), each(gates * hidden, hidden)
    for w in weight:
        w[...] = w.astype(sums) / np.sqrt(hidden)
    if not backward:
        cell = (state(sums),) if gates == 4 else ()
        return x, state(), *cell, weight, each(gates * hidden) if bias else None, sizes
    grad, out = (normal(rng, (total, directions * hidden), dtype) for _ in range(2))
    activated(out)
    if gates == 4:
        saved = activated(*each(total, 4 * hidden)), each(total, hidden, kind=sums), state(sums)
        return grad, state(), state(sums), *saved, weight, sizes
    saved = (activated(*each(total, 4 * hidden)), out, state()) if gates == 3 else (out,)
    return grad, state(), *saved, weight, sizes


def small_sequence(name: str, rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    """One block, blocks that divide the batch, blocks that wait for one another; weights kept and streamed."""
    config = extension_for(np.empty(0)).RnnSequenceConfig
    for sizes, hidden, directions, how in [
        ([1], 1, 1, None),
        ([3, 2, 2, 1], 7, 2, None),
        ([18, 17, 2], 9, 1, (True, 32, 1, 2)),
        ([2, 2, 1], 17, 1, (True, 8, 2, 1)),
        ([3, 3, 3], 40, 2, (False, 8, 2, 1)),
        ([17, 17], 70, 1, (False, 32, 2, 2)),
    ]:
        inputs = sequence_inputs(name, rng, dtype, sizes, hidden, directions, bias=directions == 1)
        inputs = tuple(misaligned(x) if isinstance(x, np.ndarray) else x for x in inputs)
        yield inputs, {} if how is None else {"config": config(*how)}


def aligned_sequence(name: str, how: tuple | None, rng: np.random.Generator, dtype: Any) -> Call:
    inputs = sequence_inputs(name, rng, dtype, [32, 32, 16], 64, 1)
    return inputs, {} if how is None else {"config": extension_for(np.empty(0)).RnnSequenceConfig(*how)}


SMALL: dict[str, Callable[[np.random.Generator, Any], Iterator[Call]]] = {
    **{name: partial(small_step, name) for name in STEPS},
    **{name + end: partial(small_sequence, name + end) for name in SEQUENCES for end in ("", "_backward")},
}


ALIGNED: dict[str, Callable[[np.random.Generator, Any], Call]] = {
    **{name: partial(aligned_step, name) for name in STEPS},
    **{name + end: partial(aligned_sequence, name + end, None) for name in SEQUENCES for end in ("", "_backward")},
    **{f"lstm{end}: streamed": partial(aligned_sequence, "lstm" + end, (False, 32, 2, 2)) for end in ("", "_backward")},
}
