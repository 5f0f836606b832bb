"""Dropout in array code: the specification.

Srivastava et al.: Dropout: a simple way to prevent neural networks from overfitting (JMLR 2014), scaled in training.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet.reference.pointwise import activate, activate_gradient, biased, rounded, wide
from fastnet.reference.random import words_from


def threshold_of(p: float) -> int:
    """The least upper 24 bits of a draw that keep an element."""
    return math.ceil(p * 2**24)


def scale_of(p: float) -> float:
    """What kept elements are multiplied by; any finite number does where none is kept."""
    return 1 / (1 - p) if p < 1 else 1.0


def _kept(shape: tuple[int, ...], p: float, state: Any, offset: int) -> Any:
    return words_from(math.prod(shape), threshold_of(p) << 8, state, offset).reshape(shape)


def dropout_mask(shape: tuple[int, ...], p: float, state: Any, offset: int = 0, *, config: Any = None) -> Any:
    """Which elements are kept, bool: those whose draw has upper 24 bits of at least p * 2^24."""
    return _kept(shape, p, state, offset).copy()


def dropout(
    x: Any,
    p: float,
    state: Any,
    offset: int = 0,
    *,
    bias: Any = None,
    activation: str = "none",
    parameter: float | None = None,
    residual: Any = None,
    config: Any = None,
) -> Any:
    """residual + (kept ? activation(x + bias) / (1 - p) : 0)."""
    y = activate(biased(x, bias), activation, parameter)
    with np.errstate(all="ignore"):
        y = namespace(x).where(_kept(x.shape, p, state, offset), y * y.dtype.type(scale_of(p)), y.dtype.type(0))
    if residual is not None:
        y = y + wide(residual)
    return rounded(y, x.dtype)


def dropout_backward(
    grad: Any,
    p: float,
    state: Any,
    offset: int = 0,
    *,
    x: Any = None,
    bias: Any = None,
    activation: str = "none",
    parameter: float | None = None,
    config: Any = None,
) -> Any:
    """kept ? grad / (1 - p) * activation'(x + bias) : 0, with the mask drawn again."""
    g = wide(grad)
    with np.errstate(all="ignore"):
        g = g * g.dtype.type(scale_of(p))
        if activation != "none":
            g = g * activate_gradient(biased(x, bias), activation, parameter)
    return rounded(namespace(grad).where(_kept(grad.shape, p, state, offset), g, g.dtype.type(0)), grad.dtype)
