"""What happens to gradients between backward and the step, in array code: the specification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnet._device import namespace

# What a state holds: the norm, what gradients are to be multiplied by, and whether to leave the step out.
NORM, FACTOR, SKIP, STATE = range(4)


def gradient_norm(grads: Sequence[Any], *, scale: Any = None, max_norm: float | None = None, config: Any = None) -> Any:
    """``norm = sqrt(sum g^2) / scale``; ``factor = min(1, max_norm / (norm + 1e-6)) / scale``; ``skip = 1`` with a
    scale and an element that is not finite, else 0. Squares of 16-bit and float32 elements are added in float32."""
    xp = namespace(grads[0])
    with np.errstate(all="ignore"):
        total, infinite = xp.zeros((), np.float64), xp.zeros((), bool)
        for g in grads:
            flat = (g.astype(np.float32) if g.dtype.itemsize == 2 else g).reshape(-1)
            total = total + xp.vdot(flat, flat)
            infinite = infinite | ~xp.isfinite(flat).all()
        inverse = 1.0 if scale is None else 1 / scale.reshape(()).astype(np.float64)
        norm = xp.sqrt(total) * inverse
        clip = xp.ones((), np.float64) if max_norm is None else xp.minimum(max_norm / (norm + 1e-6), 1.0)
        skip = infinite & (scale is not None)
        return xp.stack([norm, clip * inverse, skip.astype(np.float64)])


def scale_gradients(grads: Sequence[Any], state: Any, *, config: Any = None) -> None:
    """``g *= state[1]``, in place; 16-bit elements are rounded once."""
    factor = state[FACTOR]
    with np.errstate(all="ignore"):
        for g in grads:
            wide = g.astype(np.float32) if g.dtype.itemsize == 2 else g
            g[...] = wide * factor.astype(wide.dtype)


def update_loss_scale(
    scale: Any, tracker: Any, state: Any, *, growth_factor: float, backoff_factor: float, growth_interval: int
) -> None:
    """With skip: ``scale *= backoff_factor``, ``tracker = 0``. Without: ``tracker += 1``, and when it reaches the
    interval, ``scale *= growth_factor``, if that is finite, and ``tracker = 0``."""
    xp = namespace(scale)
    with np.errstate(all="ignore"):
        skip, counted = state[SKIP] != 0, tracker + 1
        grown = (scale.astype(np.float64) * growth_factor).astype(np.float32)
        due = counted == growth_interval
        kept = xp.where(due & xp.isfinite(grown), grown, scale)
        scale[...] = xp.where(skip, (scale.astype(np.float64) * backoff_factor).astype(np.float32), kept)
        tracker[...] = xp.where(skip | due, 0, counted)
