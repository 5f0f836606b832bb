"""Dropout by handwritten kernels, fused with bias, activation and residual."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet.errors import InputError, KindError
from fastnet.kernels._arrays import empty, stream_of
from fastnet.kernels._runtime import extension_for, record
from fastnet.kernels.pointwise import check_activation, check_config, check_operands, choose
from fastnet.kernels.random import check_shape, check_state
from fastnet.reference.dropout import scale_of, threshold_of


def check_probability(function: str, p: float) -> float:
    """p as a float between 0 and 1."""
    if isinstance(p, bool) or not isinstance(p, (int, float, np.floating)):
        raise KindError(f"{function}: p is a {type(p).__name__}, expected a number")
    if not 0 <= p <= 1:
        raise InputError(f"{function}: dropout probability has to be between 0 and 1, but got {p}")
    return float(p)


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
    """``residual + (kept ? activation(x + bias) / (1 - p) : 0)`` in one pass; the mask is drawn by Philox, not stored.

    Args:
        x: (..., cols) float32, float64, float16 or bfloat16.
        p: probability that an element is dropped, 0 to 1.
        state: (2,) uint64, seed and base offset, beside x; read by the kernel.
        offset: added to the base: the place of this draw in its generator's stream.
        bias, activation, parameter, residual, config: as in ``bias_activation``.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    p = check_probability("dropout", p)
    number = check_activation("dropout", activation, parameter)
    x, others, rows, cols = check_operands("dropout", x, bias=bias, residual=residual)
    offset = check_state("dropout", state, offset)
    ext = extension_for(x)
    if extension_for(state) is not ext:
        raise InputError("dropout: state and x are on different devices")
    out = empty(x, x.shape)
    config = choose(ext, config, x, cols, out, others["residual"], bias=others["bias"])
    record("dropout", x, config=config)
    ext.dropout(
        out,
        x,
        others["bias"],
        others["residual"],
        rows,
        cols,
        state,
        offset,
        threshold_of(p),
        scale_of(p),
        activation,
        number,
        config,
        stream_of(x),
    )
    return out


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
    """``kept ? grad / (1 - p) * activation'(x + bias) : 0``, with the mask drawn again from the same state and offset.

    Args:
        grad: (..., cols) float32, float64, float16 or bfloat16.
        x, bias: what forward had; x is needed where there is an activation.
        others: as in ``dropout``.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    p = check_probability("dropout_backward", p)
    number = check_activation("dropout_backward", activation, parameter)
    if activation != "none" and x is None:
        raise KindError(
            f"dropout_backward: x is None, expected what forward had: the derivative of {activation} needs it"
        )
    if activation == "none":
        x = bias = None  # the derivative is 1 whatever they are
    grad, others, rows, cols = check_operands("dropout_backward", grad, "grad", x=x, bias=bias)
    offset = check_state("dropout_backward", state, offset)
    ext = extension_for(grad)
    if extension_for(state) is not ext:
        raise InputError("dropout_backward: state and grad are on different devices")
    out = empty(grad, grad.shape)
    config = choose(ext, config, grad, cols, out, others["x"], bias=others["bias"])
    record("dropout_backward", grad, config=config)
    ext.dropout_backward(
        out,
        grad,
        others["x"],
        others["bias"],
        rows,
        cols,
        state,
        offset,
        threshold_of(p),
        scale_of(p),
        activation,
        number,
        config,
        stream_of(grad),
    )
    return out


def dropout_mask(shape: tuple[int, ...], p: float, state: Any, offset: int = 0, *, config: Any = None) -> Any:
    """Which elements dropout keeps, as bool. Arguments as ``dropout``."""
    p = check_probability("dropout_mask", p)
    offset = check_state("dropout_mask", state, offset)
    shape = check_shape("dropout_mask", shape)
    ext = extension_for(state)
    out = empty(state, shape, np.bool_)
    if config is None:
        config = ext.pointwise_config(out.size, 1, out.size % 16 == 0)
    check_config(ext, config)
    if config.vector != 1 and out.size % 16:
        raise InputError(f"config {config}: {out.size} elements allow only vector=1")
    record("dropout_mask", out, config=config)
    ext.dropout_mask(out, state, offset, threshold_of(p), config, stream_of(state))
    return out
