"""Small problems for every function of fastnet.kernels: what the sanitizer and counter builds run.

``SMALL[name](rng, dtype)`` gives calls (args, kwargs) with odd shapes, misaligned and strided inputs;
``ALIGNED[name](rng, dtype)`` one call with aligned, contiguous inputs, on which the counters are held; behind a colon
stands a variant of the function. Both cover every kernel: a test compares their keys with ``fastnet.kernels.__all__``.
Each module holds those of one family.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import (
    attention,
    augment,
    conv,
    dropout,
    embedding,
    matmul,
    norm,
    optim,
    pointwise,
    pool,
    random,
    rnn,
    rotary,
    softmax,
)
from .inputs import Call, misaligned

__all__ = ["ALIGNED", "NOT_KERNELS", "SMALL", "misaligned"]

_FAMILIES = (
    attention,
    augment,
    conv,
    dropout,
    embedding,
    matmul,
    norm,
    optim,
    pointwise,
    pool,
    random,
    rnn,
    rotary,
    softmax,
)

SMALL: dict[str, Callable[[np.random.Generator, Any], Iterator[Call]]] = {}
ALIGNED: dict[str, Callable[[np.random.Generator, Any], Call]] = {}
for _family in _FAMILIES:
    SMALL.update(_family.SMALL)
    ALIGNED.update(_family.ALIGNED)

# Names of fastnet.kernels that launch nothing.
NOT_KERNELS = {"available", "trace", "use"}
