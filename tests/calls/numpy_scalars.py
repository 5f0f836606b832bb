"""Scalars of NumPy's as operands: they count as numbers, whose dtype is not asked for."""

from __future__ import annotations

import numpy as np

from calls import Call

_KINDS = {"float64": np.float64(2.0), "float32": np.float32(2.0), "int64": np.int64(2)}
_CALLS: dict[str, object] = {
    "x / s": lambda t, x, s: x / s,
    "s / x": lambda t, x, s: s / x,
    "x * s": lambda t, x, s: x * s,
    "s - x": lambda t, x, s: s - x,
    "x ** s": lambda t, x, s: x**s,
    "where": lambda t, x, s: t.where(x > 1, x, s),
    "clamp": lambda t, x, s: x.clamp(min=s),
    "masked_fill": lambda t, x, s: x.masked_fill(x > 2, s),
    "scatter": lambda t, x, s: x.scatter(0, t.tensor([1]), s),
    "add in place": lambda t, x, s: x.clone().add_(s),
    "tensor of a list": lambda t, x, s: t.tensor([s, s]),
}

PLAIN: dict[str, Call] = {
    f"{name}, s {kind}, x {d}": (lambda t, I, c=call, s=s, d=d: c(t, t.tensor([1, 2, 3]).to(getattr(t, d)), s))
    for name, call in _CALLS.items()
    for kind, s in _KINDS.items()
    for d in ("float32", "float16", "float64")
}
PLAIN["an array without dimensions"] = lambda t, I: t.tensor([1.0, 2.0]) + np.array(2.0, np.float32)
