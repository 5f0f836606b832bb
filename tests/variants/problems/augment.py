"""Problems of augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnet.kernels._runtime import extension_for

from .inputs import Call, aligned, misaligned, normal, state


def small_augment(rng: np.random.Generator, dtype: Any) -> Iterator[Call]:
    everything = {"padding": (1, 2), "degrees": (-20.0, 20.0), "flip": 0.5, "brightness": (0.5, 1.5)}
    for shape in [(1, 1, 1, 1), (3, 3, 5, 7), (0, 3, 4, 4), (2, 4, 9, 8), (2, 1, 20, 31)]:
        x = rng.integers(0, 256, shape, dtype=np.uint8)
        yield (x, state()), {"padding": 1, "size": 2}
        contrast = (0.5, 1.5) if shape[1] in (1, 3) else None
        yield (
            (misaligned(x), state(), 5),
            {**everything, "contrast": contrast, "scale_shift": normal(rng, (2, shape[1]), np.float32)},
        )
    config = extension_for(np.empty(0)).AugmentConfig(3, 2)
    x = rng.integers(0, 256, (2, 3, 17, 19), dtype=np.uint8)
    yield (x, state()), {**everything, "contrast": (0.5, 1.5), "config": config}


def aligned_augment(rng: np.random.Generator, dtype: Any) -> Call:
    pixels = aligned((8, 32, 32, 3), np.uint8, rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8))
    options = {"padding": 4, "size": 32, "flip": 0.5, "brightness": (0.8, 1.2), "contrast": (0.8, 1.2)}
    return (pixels.transpose(0, 3, 1, 2), state()), options


SMALL: dict[str, Callable[[np.random.Generator, Any], Iterator[Call]]] = {
    "augment": small_augment,
}


ALIGNED: dict[str, Callable[[np.random.Generator, Any], Call]] = {
    "augment": aligned_augment,
}
