"""Bias, activation and residual, and gated units, in array code: the specification."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet.errors import InputError
from fastnet.kernels._arrays import check_array

SHORT = ("float16", "bfloat16")
SQRT_HALF, INV_SQRT_2PI = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)
SQRT_2_OVER_PI, CUBIC = math.sqrt(2 / math.pi), 0.044715


def wide(x: Any) -> Any:
    """16-bit floats as float32, in which they are computed."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 and x.dtype.kind in "fV" else x


def rounded(x: Any, dtype: Any) -> Any:
    return x if x.dtype == dtype else x.astype(dtype)


def _erfc(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        from scipy.special import erfc
    else:
        from cupyx.scipy.special import erfc
    return erfc(x)


def _cdf(x: Any) -> Any:
    return 0.5 * _erfc(-SQRT_HALF * x)


def _sigmoid(x: Any) -> Any:
    xp = namespace(x)
    e = xp.exp(-xp.abs(x))  # never overflows; small results keep their relative accuracy
    return xp.where(x < 0, e, 1) / (1 + e)


def _softplus(x: Any, beta: float) -> Any:
    xp = namespace(x)
    scaled = x * beta
    return xp.where(scaled > 20, x, xp.log1p(xp.exp(xp.minimum(scaled, 20))) / beta)


def _tanh_softplus(x: Any) -> Any:
    xp = namespace(x)
    return xp.tanh(xp.log1p(xp.exp(xp.minimum(x, 20))))


def _gelu_inner(x: Any) -> Any:
    return namespace(x).tanh(SQRT_2_OVER_PI * (x + CUBIC * x * x * x))


def _hardswish(x: Any) -> Any:
    xp = namespace(x)
    return xp.where(x <= -3, 0 * x, xp.where(x >= 3, x, x * (x + 3) / 6))


def _gelu_tanh_gradient(x: Any) -> Any:
    t = _gelu_inner(x)
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * SQRT_2_OVER_PI * (1 + 3 * CUBIC * x * x)


def _mish_gradient(x: Any) -> Any:
    t = _tanh_softplus(x)
    return t + x * (1 - t * t) * _sigmoid(x)


def _silu_gradient(x: Any) -> Any:
    s = _sigmoid(x)
    return s * (1 + x * (1 - s))


def _where(condition: Any, a: Any, b: Any) -> Any:
    return namespace(condition).where(condition, a, b)


# name: (value(x, parameter), derivative(x, parameter), default parameter). Formulas and corners are PyTorch's.
ACTIVATIONS: dict[str, tuple[Callable, Callable, float | None]] = {
    "none": (lambda x, p: x, lambda x, p: namespace(x).ones_like(x), None),
    "relu": (lambda x, p: namespace(x).maximum(x, 0), lambda x, p: ~(x <= 0), None),
    "leaky_relu": (lambda x, p: _where(x > 0, x, x * p), lambda x, p: _where(x > 0, 1, p), 0.01),
    "elu": (
        lambda x, p: _where(x > 0, x, p * namespace(x).expm1(namespace(x).minimum(x, 0))),
        lambda x, p: _where(x > 0, 1, p * namespace(x).exp(namespace(x).minimum(x, 0))),
        1.0,
    ),
    "gelu": (lambda x, p: x * _cdf(x), lambda x, p: _cdf(x) + x * INV_SQRT_2PI * namespace(x).exp(-0.5 * x * x), None),
    "gelu_tanh": (lambda x, p: 0.5 * x * (1 + _gelu_inner(x)), lambda x, p: _gelu_tanh_gradient(x), None),
    "silu": (lambda x, p: x * _sigmoid(x), lambda x, p: _silu_gradient(x), None),
    "mish": (lambda x, p: x * _tanh_softplus(x), lambda x, p: _mish_gradient(x), None),
    "softplus": (_softplus, lambda x, p: _where(x * p > 20, 1, _sigmoid(x * p)), 1.0),
    "sigmoid": (lambda x, p: _sigmoid(x), lambda x, p: _sigmoid(x) * (1 - _sigmoid(x)), None),
    "tanh": (lambda x, p: namespace(x).tanh(x), lambda x, p: 1 - namespace(x).tanh(x) ** 2, None),
    "hardswish": (lambda x, p: _hardswish(x), lambda x, p: _where(x <= -3, 0, _where(x >= 3, 1, x / 3 + 0.5)), None),
}


def activate(x: Any, activation: str, parameter: float | None) -> Any:
    """activation(x) in x's dtype, which is float32 or float64."""
    value, _, standard = ACTIVATIONS[activation]
    with np.errstate(all="ignore"):
        return rounded(value(x, standard if parameter is None else parameter), x.dtype)


def activate_gradient(x: Any, activation: str, parameter: float | None) -> Any:
    """d activation(x) / dx in x's dtype."""
    _, derivative, standard = ACTIVATIONS[activation]
    with np.errstate(all="ignore"):
        return rounded(derivative(x, standard if parameter is None else parameter), x.dtype)


def biased(x: Any, bias: Any) -> Any:
    """x + bias in the dtype they are computed in."""
    return wide(x) if bias is None else wide(x) + wide(bias)


def bias_activation(
    x: Any,
    bias: Any = None,
    *,
    activation: str = "none",
    parameter: float | None = None,
    residual: Any = None,
    config: Any = None,
) -> Any:
    """residual + activation(x + bias), the bias along the last axis."""
    if not x.ndim:  # NumPy would compute with numbers in place of arrays
        flat = bias_activation(x.reshape(1), bias, activation=activation, parameter=parameter, residual=residual)
        return flat.reshape(())
    y = activate(biased(x, bias), activation, parameter)
    if residual is not None:
        y = y + wide(residual)
    return y.copy() if y is x else rounded(y, x.dtype)


def bias_activation_backward(
    grad: Any, x: Any, bias: Any = None, *, activation: str, parameter: float | None = None, config: Any = None
) -> Any:
    """grad * activation'(x + bias)."""
    if not x.ndim:
        one = x.reshape(1)
        return bias_activation_backward(grad.reshape(1), one, bias, activation=activation, parameter=parameter).reshape(
            ()
        )
    if activation == "relu" and grad.dtype == x.dtype and x.dtype.itemsize > 2:
        return grad * ~(biased(x, bias) <= 0)
    with np.errstate(all="ignore"):
        return rounded(wide(grad) * activate_gradient(biased(x, bias), activation, parameter), grad.dtype)


def check_gated(function: str, gate: Any, **others: Any) -> None:
    """Arrays of one shape and dtype, with rows; TypeError or ValueError for others."""
    check_array(function, "gate", gate)
    if not gate.ndim:
        raise InputError(f"{function}: gate has no dimensions, expected at least one")
    for argument, x in others.items():
        check_array(function, argument, x, dtypes=(gate.dtype.name,), like=gate)
        if x.shape != gate.shape:
            raise InputError(f"{function}: {argument} has shape {tuple(x.shape)}, expected gate's {tuple(gate.shape)}")


def gated_activation(
    gate: Any, up: Any, *, activation: str = "silu", parameter: float | None = None, config: Any = None
) -> Any:
    """activation(gate) * up."""
    check_gated("gated_activation", gate, up=up)
    with np.errstate(all="ignore"):
        return rounded(activate(wide(gate), activation, parameter) * wide(up), gate.dtype)


def gated_activation_backward(
    grad: Any,
    gate: Any,
    up: Any,
    *,
    activation: str = "silu",
    parameter: float | None = None,
    together: bool = False,
    config: Any = None,
) -> Any:
    """Gradients of gate and up; of both in one array where ``together``."""
    check_gated("gated_activation_backward", gate, up=up, grad=grad)
    with np.errstate(all="ignore"):
        g, x = wide(grad), wide(gate)
        of_gate = rounded(g * wide(up) * activate_gradient(x, activation, parameter), gate.dtype)
        of_up = rounded(g * activate(x, activation, parameter), gate.dtype)
    return namespace(gate).concatenate([of_gate, of_up], axis=-1) if together else (of_gate, of_up)
