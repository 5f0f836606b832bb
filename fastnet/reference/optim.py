"""Optimizer steps in array code: the specification. Training on the CPU runs this, so it works in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def sgd_step(
    params: Sequence[Any],
    grads: Sequence[Any],
    momenta: Sequence[Any] | None,
    *,
    lr: Any,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    first_step: bool = False,
    config: Any = None,
) -> None:
    """``g = +-grad + weight_decay p``; ``buf = g`` at first, then ``momentum buf + (1 - dampening) g``;
    ``p -= lr (g + momentum buf if nesterov else buf)``; computed in float32 (float64 for float64), updated in place."""
    if hasattr(lr, "reshape"):
        lr = lr.reshape(())
    with np.errstate(all="ignore"):
        for i, p in enumerate(params):
            narrow = p.dtype.itemsize == 2
            x = p.astype(np.float32) if narrow else p
            g = grads[i].astype(np.float32) if narrow else grads[i]
            if maximize:
                g = -g
            if weight_decay != 0:
                g = g + weight_decay * x
            if momenta is not None and momentum != 0:
                buffer = momenta[i].astype(np.float32) if narrow else momenta[i]
                if first_step:
                    buffer[...] = g
                else:
                    buffer *= momentum
                    buffer += g if dampening == 0 else (1 - dampening) * g
                g = g + momentum * buffer if nesterov else buffer
                if narrow:
                    momenta[i][...] = buffer
            x -= lr * g
            if narrow:
                p[...] = x
