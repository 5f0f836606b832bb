"""Batch, group, layer and RMS normalisation and their gradients by handwritten kernels."""

from __future__ import annotations

import math
from typing import Any

from fastnet.errors import InputError, KindError
from fastnet.kernels._arrays import addressable, empty, packed, stream_of
from fastnet.kernels._runtime import extension_for, record
from fastnet.kernels.dropout import check_probability
from fastnet.kernels.random import check_state
from fastnet.reference.dropout import scale_of, threshold_of
from fastnet.reference.norm import (
    accumulator,
    check_activation,
    check_add_norm,
    check_like,
    check_moments,
    check_norm,
    check_running,
    check_statistics,
)


def _three(x: Any) -> Any:
    """(N, C, S...) as (N, C, S): a view where strides allow, a copy elsewhere; None stays None."""
    if x is None:
        return None
    return addressable(x).reshape(x.shape[0], x.shape[1], math.prod(x.shape[2:]))


def _channels_last(view: Any) -> bool:
    """Whether neighbours in memory of (N, C, S) are channels."""
    return view.shape[2] == 1 or (view.strides[1] == view.itemsize and view.strides[2] != view.itemsize)


def _results(x: Any, channels_last: bool) -> tuple[Any, Any]:
    """An array of x's shape in memory order of (N, C, S) or (N, S, C): as the kernel takes it, and as returned."""
    n, c = x.shape[:2]
    s = math.prod(x.shape[2:])
    view = empty(x, (n, s, c)).transpose(0, 2, 1) if channels_last else empty(x, (n, c, s))
    return view, view.reshape(x.shape)


def _parameter(p: Any) -> Any:
    """A parameter as kernels read it: contiguous."""
    if p is None:
        return None
    p = addressable(p)
    return p if p.flags.c_contiguous else p.copy()


def _config(ext: Any, name: str, config: Any, view: Any, groups: int, channels_last: bool) -> Any:
    if config is None:
        return ext.norm_config(*view.shape, groups, channels_last, accumulator(view).itemsize)
    if not isinstance(config, ext.NormConfig):
        raise KindError(f"{name}: config is a {type(config).__name__}, expected a NormConfig of {ext.__name__}")
    return config


def _filled(like: Any, shape: tuple[int, ...], dtype: Any, value: float) -> Any:
    out = empty(like, shape, dtype)
    out[...] = value
    return out


def _statistics(x: Any, shape: tuple[int, ...]) -> Any:
    """Room for means or reciprocal deviations; those of nothing are NaN."""
    return empty(x, shape, accumulator(x)) if x.size else _filled(x, shape, accumulator(x), math.nan)


def _sums(x: Any, weight: Any) -> tuple[Any, Any]:
    """Room for the gradients of weight and bias; sums over nothing are 0."""
    dtype = x.dtype if weight is None else weight.dtype
    shape = (x.shape[1],)
    return (
        (empty(x, shape, dtype), empty(x, shape, dtype)) if x.size else tuple(_filled(x, shape, dtype, 0) for _ in "ab")
    )


# ---- group, layer, RMS ---------------------------------------------------------------------------------------------


def group_norm(
    x: Any, groups: int, weight: Any = None, bias: Any = None, *, eps: float = 1e-5, config: Any = None
) -> tuple[Any, Any, Any]:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` with a mean and a variance for each sample and group of channels
    (Wu and He 2018); with a group a channel, instance normalisation (Ulyanov et al. 2016).

    Args:
        x: (N, C, S...) float32, float64, float16 or bfloat16; channels first or last in memory are served as they
            are, other orders by a copy.
        groups: a divisor of C.
        weight, bias: (C,) of x's dtype or, both, float32; or None.
        eps: added to the variance.
        config: a ``NormConfig`` to use in place of the one chosen for the problem.

    Returns:
        y of x's shape, dtype and memory order; mean and 1 / sqrt(var + eps), (N, groups) of the dtype of sums: float64
        for float64 and else float32. Variances are divided by the count.

    Raises:
        TypeError, ValueError: arguments that do not fit.
    """
    check_norm("group_norm", x, groups, eps, {"weight": weight, "bias": bias})
    return _normalise("group_norm", x, groups, weight, bias, eps, True, config)


def layer_norm(
    x: Any, weight: Any = None, bias: Any = None, *, eps: float = 1e-5, config: Any = None
) -> tuple[Any, Any, Any]:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` along the rows of (rows, cols) (Ba, Kiros and Hinton 2016).

    Arguments as ``group_norm``'s; weight and bias are (cols,). Returns y, mean and 1 / sqrt(var + eps), (rows,).

    >>> import numpy as np
    >>> from fastnet import kernels
    >>> with kernels.use("emulated"):
    ...     kernels.layer_norm(np.array([[1, -1]], np.float32), eps=0.0)[0]
    array([[ 1., -1.]], dtype=float32)
    """
    check_norm("layer_norm", x, 1, eps, {"weight": weight, "bias": bias}, ndim=2)
    y, mean, rstd = _normalise("layer_norm", x, 1, weight, bias, eps, True, config)
    return y, mean[:, 0], rstd[:, 0]


def rms_norm(x: Any, weight: Any = None, *, eps: float = 1e-6, config: Any = None) -> tuple[Any, Any]:
    """``x / sqrt(mean(x^2) + eps) * weight`` along the rows of (rows, cols) (Zhang and Sennrich 2019).

    Arguments as ``layer_norm``'s. Returns y and 1 / sqrt(mean(x^2) + eps), (rows,).
    """
    check_norm("rms_norm", x, 1, eps, {"weight": weight}, ndim=2)
    y, _, rstd = _normalise("rms_norm", x, 1, weight, None, eps, False, config)
    return y, rstd[:, 0]


NO_DROPOUT = (None, 0, 0, 1.0)


def _normalise(
    name: str,
    x: Any,
    groups: int,
    weight: Any,
    bias: Any,
    eps: float,
    centred: bool,
    config: Any,
    add: tuple = (None, None, *NO_DROPOUT),
) -> tuple[Any, Any, Any]:
    ext = extension_for(x)
    view = _three(x)
    channels_last = _channels_last(view)
    y_view, y = _results(x, channels_last)
    shape = (x.shape[0], groups)
    mean, rstd = _statistics(x, shape) if centred else None, _statistics(x, shape)
    config = _config(ext, name, config, view, groups, channels_last)
    if x.size:
        record(name, x, weight, bias, config=config)
        ext.group_norm(
            y_view,
            view,
            _parameter(weight),
            _parameter(bias),
            mean,
            rstd,
            int(groups),
            channels_last,
            float(eps),
            *add,
            config,
            stream_of(x),
        )
    return y, mean, rstd


def group_norm_backward(
    grad: Any, x: Any, groups: int, mean: Any, rstd: Any, weight: Any = None, *, config: Any = None
) -> tuple[Any, Any, Any]:
    """Gradients of ``group_norm``'s x, weight and bias.

    With ``g = grad * weight`` and ``h = (x - mean) * rstd``: ``dx = rstd * (g - mean(g) - h * mean(g * h))``.

    Args:
        grad: gradient of y; shape and dtype of x.
        x, groups, weight: as given to ``group_norm``.
        mean, rstd: as it returned them.
        config: as in ``group_norm``.

    Returns:
        Gradients of x; of weight and of bias, (C,) of weight's dtype, or of x's where weight is None.

    Raises:
        TypeError, ValueError: arguments that do not fit.
    """
    name = "group_norm_backward"
    check_norm(name, x, groups, None, {"weight": weight})
    check_like(name, "grad", grad, x)
    check_statistics(name, x, (x.shape[0], groups), {"mean": mean, "rstd": rstd})
    return _normalise_backward(name, grad, x, groups, mean, rstd, weight, config)


def layer_norm_backward(
    grad: Any, x: Any, mean: Any, rstd: Any, weight: Any = None, *, config: Any = None
) -> tuple[Any, Any, Any]:
    """Gradients of ``layer_norm``'s x, weight and bias; see ``group_norm_backward``. Those of the parameters are summed
    while the rows pass."""
    name = "layer_norm_backward"
    check_norm(name, x, 1, None, {"weight": weight}, ndim=2)
    check_like(name, "grad", grad, x)
    check_statistics(name, x, x.shape[:1], {"mean": mean, "rstd": rstd})
    return _normalise_backward(name, grad, x, 1, mean, rstd, weight, config)


def rms_norm_backward(grad: Any, x: Any, rstd: Any, weight: Any = None, *, config: Any = None) -> tuple[Any, Any]:
    """Gradients of ``rms_norm``'s x and weight; see ``layer_norm_backward``."""
    name = "rms_norm_backward"
    check_norm(name, x, 1, None, {"weight": weight}, ndim=2)
    check_like(name, "grad", grad, x)
    check_statistics(name, x, x.shape[:1], {"rstd": rstd})
    return _normalise_backward(name, grad, x, 1, None, rstd, weight, config)[:2]


def _normalise_backward(
    name: str,
    grad: Any,
    x: Any,
    groups: int,
    mean: Any,
    rstd: Any,
    weight: Any,
    config: Any,
    add: tuple = (None, None, *NO_DROPOUT),
) -> tuple[Any, Any, Any]:
    ext = extension_for(x)
    view = _three(x)
    channels_last = _channels_last(view)
    dx_view, dx = _results(x, channels_last)
    of_weight, of_bias = _sums(x, weight)
    config = _config(ext, name, config, view, groups, channels_last)
    if x.size:
        record(name, grad, x, weight, config=config)
        ext.group_norm_backward(
            dx_view,
            of_weight,
            of_bias,
            _three(grad),
            view,
            _parameter(weight),
            _parameter(mean),
            _parameter(rstd),
            empty(x, (config.workspace(x.shape[1]),), accumulator(x)),
            int(groups),
            channels_last,
            *add,
            config,
            stream_of(x),
        )
    return dx, of_weight, of_bias


# ---- fused with a residual's sum -----------------------------------------------------------------------------------


def _dropout(name: str, x: Any, p: float, state: Any, offset: int) -> tuple[Any, int, int, float]:
    """State, offset, threshold and scale of a dropout as kernels take them."""
    if p == 0:
        return NO_DROPOUT
    offset = check_state(name, state, offset)
    if extension_for(state) is not extension_for(x):
        raise InputError(f"{name}: state and x are on different devices")
    return state, offset, threshold_of(p), scale_of(p)


def add_norm(
    x: Any,
    residual: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    centred: bool = True,
    eps: float = 1e-5,
    dropout_p: float = 0.0,
    state: Any = None,
    offset: int = 0,
    config: Any = None,
) -> tuple[Any, Any, Any, Any]:
    """``total = residual + dropout(x)`` and its layer norm (or RMS norm) along the rows, in one pass over memory.

    Args:
        x, residual: (rows, cols) float32, float64, float16 or bfloat16.
        weight, bias: (cols,) as in ``layer_norm``; no bias without ``centred``.
        centred: layer norm; else RMS norm.
        eps: added to the variance or mean square.
        dropout_p: the probability that an element of x is dropped.
        state, offset: of the draws, as in ``dropout``; needed where dropout_p is not 0.
        config: a ``NormConfig`` to use in place of the one chosen for the problem.

    Returns:
        The normalised rows and total, of x's shape and dtype; mean (None without ``centred``) and reciprocal deviation
        of the rounded total, (rows,).

    Raises:
        TypeError, ValueError: arguments that do not fit.

    >>> import numpy as np
    >>> from fastnet import kernels
    >>> x = np.array([[1, 2]], np.float32)
    >>> with kernels.use("emulated"):
    ...     kernels.add_norm(x, np.array([[1, -4]], np.float32), eps=0.0)[:2]
    (array([[ 1., -1.]], dtype=float32), array([[ 2., -2.]], dtype=float32))
    """
    name = "add_norm"
    p = check_probability(name, dropout_p)
    check_add_norm(name, x, residual, weight, bias, centred, eps)
    drawn = _dropout(name, x, p, state, offset)
    x, residual = (_parameter(a) for a in (x, residual))
    total = empty(x, x.shape)
    y, mean, rstd = _normalise(name, x, 1, weight, bias, eps, centred, config, (residual, total, *drawn))
    return y, total, None if mean is None else mean[:, 0], rstd[:, 0]


def add_norm_backward(
    grad: Any,
    total: Any,
    mean: Any,
    rstd: Any,
    weight: Any = None,
    *,
    of_total: Any = None,
    dropout_p: float = 0.0,
    state: Any = None,
    offset: int = 0,
    config: Any = None,
) -> tuple[Any, Any, Any, Any]:
    """Gradients of ``add_norm``'s x, residual, weight and bias, in one pass.

    Args:
        grad: gradient of the normalised rows.
        total, mean, rstd: as ``add_norm`` returned them; mean is None for an RMS norm.
        weight, dropout_p, state, offset: as given to it.
        of_total: gradient of total by what else it went to, or None.
        config: as in ``add_norm``.

    Returns:
        Gradients of x and of residual (the same array where dropout_p is 0); of weight and of bias, (cols,) of weight's
        dtype, or of total's where weight is None. That of a bias is only meant for a layer norm.

    Raises:
        TypeError, ValueError: arguments that do not fit.
    """
    name = "add_norm_backward"
    p = check_probability(name, dropout_p)
    check_add_norm(name, total, None, weight, None, mean is not None, None)
    check_like(name, "grad", grad, total)
    check_like(name, "of_total", of_total, total, optional=True)
    check_statistics(name, total, total.shape[:1], {"rstd": rstd} if mean is None else {"mean": mean, "rstd": rstd})
    drawn = _dropout(name, total, p, state, offset)
    total, of_total = (_parameter(a) for a in (total, of_total))
    of_x = empty(total, total.shape) if p else None
    of_residual, of_weight, of_bias = _normalise_backward(
        name, grad, total, 1, mean, rstd, weight, config, (of_total, of_x, *drawn)
    )
    return of_residual if of_x is None else of_x, of_residual, of_weight, of_bias


# ---- batch ---------------------------------------------------------------------------------------------------------


def batch_norm(
    x: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    eps: float = 1e-5,
    running_mean: Any = None,
    running_var: Any = None,
    momentum: float = 0.1,
    activation: str = "none",
    residual: Any = None,
    moments: Any = None,
    config: Any = None,
) -> tuple[Any, Any, Any]:
    """``activation((x - mean) / sqrt(var + eps) * weight + bias + residual)`` with each channel's mean and variance
    over samples and positions (Ioffe and Szegedy 2015). x is read twice, or once with its moments.

    Args:
        x, weight, bias, eps: as in ``group_norm``.
        running_mean, running_var: (C,) floating-point arrays, changed in place: each becomes ``(1 - momentum)`` times
            itself plus ``momentum`` times the batch's, the variance divided by the count less one; or None.
        momentum: see above.
        activation: ``"none"`` or ``"relu"``.
        residual: of x's shape and dtype, or None.
        moments: (parts, 3, C) of the sums' dtype, contiguous: the count, mean and sum of squared deviations of parts of
            x, as ``conv2d`` keeps them, in the place of the first pass over x; or None.
        config: a ``NormConfig`` to use in place of the one chosen for the problem.

    Returns:
        y of x's shape, dtype and memory order; mean and 1 / sqrt(var + eps), (C,).

    Raises:
        TypeError, ValueError: arguments that do not fit.
    """
    name = "batch_norm"
    check_norm(name, x, 1, eps, {"weight": weight, "bias": bias})
    check_like(name, "residual", residual, x, optional=True)
    check_running(name, x, running_mean, running_var)
    check_activation(name, activation)
    check_moments(name, x, moments)
    ext = extension_for(x)
    view = _three(x)
    channels_last = _channels_last(view)
    y_view, y = _results(x, channels_last)
    shape = (x.shape[1],)
    mean, rstd = _statistics(x, shape), _statistics(x, shape)
    if moments is not None and config is None:  # sums over its parts are all that it decides
        config = ext.norm_config(len(moments), x.shape[1], 1, 0, True, moments.itemsize)
    config = _config(ext, name, config, view, 0, channels_last)
    running = [_running(x, r) for r in (running_mean, running_var)]
    if x.size:
        record(name, x, weight, bias, residual, config=config)
        ext.batch_norm(
            y_view,
            view,
            _three(residual),
            _parameter(weight),
            _parameter(bias),
            mean,
            rstd,
            *running,
            empty(x, (config.splits, 3, x.shape[1]), accumulator(x)),
            _parameter(moments),
            channels_last,
            float(eps),
            float(momentum),
            activation == "relu",
            config,
            stream_of(x),
        )
    for given, used in zip((running_mean, running_var), running, strict=True):
        if given is not None and not x.size:
            given[...] = math.nan
        elif given is not None and used is not given:
            given[...] = used
    return y, mean, rstd


def _running(x: Any, running: Any) -> Any:
    """Running statistics as the kernel changes them: contiguous, of x's dtype or that of its sums."""
    if running is None:
        return None
    wanted = running.dtype if running.dtype in (x.dtype, accumulator(x)) else accumulator(x)
    running = addressable(running)
    return running if running.flags.c_contiguous and running.dtype == wanted else running.astype(wanted)


def batch_norm_inference(
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    eps: float = 1e-5,
    activation: str = "none",
    residual: Any = None,
    config: Any = None,
) -> Any:
    """``activation((x - running_mean) / sqrt(running_var + eps) * weight + bias + residual)``; arguments as
    ``batch_norm``'s, result of x's shape, dtype and memory order."""
    name = "batch_norm_inference"
    check_norm(name, x, 1, eps, {"weight": weight, "bias": bias})
    check_running(name, x, running_mean, running_var, needed=True)
    check_like(name, "residual", residual, x, optional=True)
    check_activation(name, activation)
    ext = extension_for(x)
    view = _three(x)
    channels_last = _channels_last(view)
    y_view, y = _results(x, channels_last)
    config = _config(ext, name, config, view, 0, channels_last)
    if x.size:
        record(name, x, running_mean, running_var, weight, bias, residual, config=config)
        mean, var = (
            _parameter(r) if r.dtype == accumulator(x) else packed(r.astype(accumulator(x)))
            for r in (running_mean, running_var)
        )
        ext.batch_norm_inference(
            y_view,
            view,
            _three(residual),
            _parameter(weight),
            _parameter(bias),
            _statistics(x, (x.shape[1],)),
            _statistics(x, (x.shape[1],)),
            mean,
            var,
            channels_last,
            float(eps),
            activation == "relu",
            config,
            stream_of(x),
        )
    return y


def batch_norm_backward(
    grad: Any,
    x: Any,
    mean: Any,
    rstd: Any,
    weight: Any = None,
    *,
    y: Any = None,
    batch_statistics: bool = True,
    residual_gradient: bool = False,
    config: Any = None,
) -> tuple[Any, Any, Any, Any]:
    """Gradients of ``batch_norm``'s x, weight, bias and residual.

    With ``h = (x - mean) * rstd``, and ``g`` grad or, where y is given, grad where y > 0 and else 0:
    ``dx = rstd * weight * (g - mean(g) - h * mean(g * h))``.

    Args:
        grad: gradient of the result; shape and dtype of x.
        x, weight: as given to ``batch_norm``.
        mean, rstd: (C,) as it returned them.
        y: its result, if it ended in a relu.
        batch_statistics: whether mean and rstd are the batch's own; else ``dx = rstd * weight * g``.
        residual_gradient: whether to return g too.
        config: as in ``batch_norm``.

    Returns:
        Gradients of x; of weight and of bias, (C,) of weight's dtype, or of x's where weight is None; of the residual,
        or None.

    Raises:
        TypeError, ValueError: arguments that do not fit.
    """
    name = "batch_norm_backward"
    check_norm(name, x, 1, None, {"weight": weight})
    check_like(name, "grad", grad, x)
    check_like(name, "y", y, x, optional=True)
    check_statistics(name, x, (x.shape[1],), {"mean": mean, "rstd": rstd})
    ext = extension_for(x)
    view = _three(x)
    channels_last = _channels_last(view)
    dx_view, dx = _results(x, channels_last)
    residual_view, of_residual = _results(x, channels_last) if residual_gradient else (None, None)
    of_weight, of_bias = _sums(x, weight)
    config = _config(ext, name, config, view, 0, channels_last)
    if x.size:
        record(name, grad, x, weight, config=config)
        ext.batch_norm_backward(
            dx_view,
            residual_view,
            of_weight,
            of_bias,
            _three(grad),
            view,
            _three(y),
            _parameter(weight),
            _parameter(mean),
            _parameter(rstd),
            empty(x, (config.splits + 1, 2, x.shape[1]), accumulator(x)),
            channels_last,
            bool(batch_statistics),
            config,
            stream_of(x),
        )
    return dx, of_weight, of_bias, of_residual
