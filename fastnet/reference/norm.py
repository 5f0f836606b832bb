"""Batch, group, layer and RMS normalisation and their gradients in array code: the specification.

Group normalisation is the general case: (N, C, S...) in ``groups`` groups of channels has a mean and a variance for
each sample and group. Layer normalisation of (rows, cols) is that with one group, instance normalisation with a group a
channel. Statistics are biased (divided by the count); everything is computed in float32 (float64 for float64) and
rounded once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet.errors import InputError, KindError
from fastnet.kernels._arrays import check_array
from fastnet.reference.dropout import dropout, dropout_backward
from fastnet.reference.pointwise import rounded, wide

ACTIVATIONS = ("none", "relu")


def accumulator(x: Any) -> Any:
    """The dtype of statistics and sums."""
    return np.dtype(np.float64 if x.dtype == np.float64 else np.float32)


# ---- checks of arguments, which the kernels share ------------------------------------------------------------------


def check_norm(
    name: str, x: Any, groups: Any, eps: float | None, parameters: dict[str, Any], ndim: int | None = None
) -> None:
    """ValueError or TypeError unless x (N, C, S...) has ``groups`` groups of channels and each of ``parameters`` is
    (C,) or None."""
    check_array(name, "x", x, ndim=ndim)
    if x.ndim < 2:
        raise InputError(f"{name}: x has shape {tuple(x.shape)}, expected at least (N, C)")
    channels = x.shape[1]
    if isinstance(groups, bool) or not isinstance(groups, (int, np.integer)) or groups < 1 or channels % groups:
        raise InputError(f"{name}: groups is {groups!r}, expected a divisor of the {channels} channels of x")
    if eps is not None and not math.isfinite(eps):
        raise InputError(f"{name}: eps is {eps!r}, expected a finite number")
    for argument, p in parameters.items():
        if p is None:
            continue
        check_array(name, argument, p, dtypes=tuple({x.dtype.name, accumulator(x).name}), ndim=1, like=x)
        if p.shape != (channels,):
            raise InputError(f"{name}: {argument} has shape {tuple(p.shape)}, expected ({channels},), one a channel")
    given = [p.dtype for p in parameters.values() if p is not None]
    if len(set(given)) > 1:
        raise KindError(f"{name}: {' and '.join(parameters)} have different dtypes, {given[0]} and {given[1]}")


def check_like(name: str, argument: str, x: Any, like: Any, optional: bool = False) -> None:
    """like's shape, dtype and device; or None, if ``optional``."""
    if optional and x is None:
        return
    check_array(name, argument, x, dtypes=(like.dtype.name,), like=like)
    if x.shape != like.shape:
        raise InputError(f"{name}: {argument} has shape {tuple(x.shape)}, expected that of x, {tuple(like.shape)}")


def check_statistics(name: str, x: Any, shape: tuple[int, ...], statistics: dict[str, Any]) -> None:
    """Each of ``statistics`` has this shape and the dtype of sums."""
    for argument, s in statistics.items():
        check_array(name, argument, s, dtypes=(accumulator(x).name,), like=x)
        if s.shape != shape:
            raise InputError(f"{name}: {argument} has shape {tuple(s.shape)}, expected {shape}")


def check_add_norm(name: str, x: Any, residual: Any, weight: Any, bias: Any, centred: Any, eps: float | None) -> None:
    """What ``add_norm`` and its gradients take beside what a norm of (rows, cols) does."""
    check_norm(name, x, 1, eps, {"weight": weight, "bias": bias}, ndim=2)
    check_like(name, "residual", residual, x, optional=eps is None)
    if not isinstance(centred, bool):
        raise KindError(f"{name}: centred is a {type(centred).__name__}, expected a bool")
    if bias is not None and not centred:
        raise InputError(f"{name}: bias is given, expected None for an RMS norm (centred=False)")


def check_activation(name: str, activation: str) -> None:
    if activation not in ACTIVATIONS:
        raise InputError(f"{name}: activation is {activation!r}, expected one of {', '.join(ACTIVATIONS)}")


# ---- sums ----------------------------------------------------------------------------------------------------------


def _channels_last(x: Any) -> bool:
    """Whether neighbours in memory are channels of (N, C, S)."""
    return x.shape[2] > 1 and x.strides[1] == x.itemsize


def _three(x: Any) -> Any:
    """(N, C, S...) as (N, C, S)."""
    return x.reshape(x.shape[0], x.shape[1], math.prod(x.shape[2:]))


def _channel_sum(x: Any) -> Any:
    """Sum of (N, C, S) over N and S: by products with ones, which BLAS sums in blocks."""
    xp = namespace(x)
    n, c, s = x.shape
    if s == 1 or _channels_last(x):
        rows = x.transpose(0, 2, 1).reshape(n * s, c)
        return xp.ones(n * s, x.dtype) @ rows
    return x.sum(axis=2).sum(axis=0)


def _channel_dot(a: Any, b: Any) -> Any:
    """Sum of a * b over N and S."""
    if a is b and (a.shape[2] == 1 or _channels_last(a)):
        rows = a.transpose(0, 2, 1).reshape(-1, a.shape[1])
        return namespace(a).einsum("rc,rc->c", rows, rows)
    return _channel_sum(a * b)


def _each(p: Any, acc: Any) -> Any:
    """A parameter (C,) to go with (N, C, S)."""
    return None if p is None else p.astype(acc, copy=False)[:, None]


# ---- group, layer, RMS ---------------------------------------------------------------------------------------------


def group_norm(
    x: Any, groups: int, weight: Any = None, bias: Any = None, *, eps: float = 1e-5, config: Any = None
) -> tuple[Any, Any, Any]:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` with a mean and a variance for each sample and group.

    Arguments and results as ``fastnet.kernels.group_norm``.
    """
    check_norm("group_norm", x, groups, eps, {"weight": weight, "bias": bias})
    return _normalise(x, groups, weight, bias, eps, True)


def layer_norm(
    x: Any, weight: Any = None, bias: Any = None, *, eps: float = 1e-5, config: Any = None
) -> tuple[Any, Any, Any]:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` along the rows of (rows, cols)."""
    check_norm("layer_norm", x, 1, eps, {"weight": weight, "bias": bias}, ndim=2)
    y, mean, rstd = _normalise(x, 1, weight, bias, eps, True)
    return y, mean[:, 0], rstd[:, 0]


def rms_norm(x: Any, weight: Any = None, *, eps: float = 1e-6, config: Any = None) -> tuple[Any, Any]:
    """``x / sqrt(mean(x^2) + eps) * weight`` along the rows of (rows, cols)."""
    check_norm("rms_norm", x, 1, eps, {"weight": weight}, ndim=2)
    y, _, rstd = _normalise(x, 1, weight, None, eps, False)
    return y, rstd[:, 0]


def _normalise(x: Any, groups: int, weight: Any, bias: Any, eps: float, centred: bool) -> tuple[Any, Any, Any]:
    xp, acc = namespace(x), accumulator(x)
    n, c = x.shape[:2]
    view = _three(x).astype(acc)  # a copy: the result
    s = view.shape[2]
    rows = view.reshape(n, groups, c // groups, s)
    with np.errstate(all="ignore"):
        mean = None
        if centred:
            mean = rows.mean(axis=(2, 3), dtype=acc) if c * s else xp.full((n, groups), np.nan, acc)
            rows = rows - mean[:, :, None, None]
        squares = xp.einsum("ngcs,ngcs->ng", rows, rows) / acc.type(max(c // groups * s, 1))
        rstd = acc.type(1) / xp.sqrt(squares + acc.type(eps))
        if c * s == 0:  # nothing was summed: as the mean of nothing
            rstd = xp.full((n, groups), np.nan, acc)
        y = rows * rstd[:, :, None, None]
        y = y.reshape(n, c, s)
        if weight is not None:
            y *= _each(weight, acc)
        if bias is not None:
            y += _each(bias, acc)
        return y.reshape(x.shape).astype(x.dtype, copy=False), mean, rstd


def group_norm_backward(
    grad: Any, x: Any, groups: int, mean: Any, rstd: Any, weight: Any = None, *, config: Any = None
) -> tuple[Any, Any, Any]:
    """Gradients of x, weight and bias of ``group_norm``; arguments and results as ``fastnet.kernels``'."""
    check_norm("group_norm_backward", x, groups, None, {"weight": weight})
    check_like("group_norm_backward", "grad", grad, x)
    check_statistics("group_norm_backward", x, (x.shape[0], groups), {"mean": mean, "rstd": rstd})
    return _normalise_backward(grad, x, groups, mean, rstd, weight)


def layer_norm_backward(
    grad: Any, x: Any, mean: Any, rstd: Any, weight: Any = None, *, config: Any = None
) -> tuple[Any, Any, Any]:
    """Gradients of x, weight and bias of ``layer_norm``."""
    check_norm("layer_norm_backward", x, 1, None, {"weight": weight}, ndim=2)
    check_like("layer_norm_backward", "grad", grad, x)
    check_statistics("layer_norm_backward", x, x.shape[:1], {"mean": mean, "rstd": rstd})
    return _normalise_backward(grad, x, 1, mean[:, None], rstd[:, None], weight)


def rms_norm_backward(grad: Any, x: Any, rstd: Any, weight: Any = None, *, config: Any = None) -> tuple[Any, Any]:
    """Gradients of x and weight of ``rms_norm``."""
    check_norm("rms_norm_backward", x, 1, None, {"weight": weight}, ndim=2)
    check_like("rms_norm_backward", "grad", grad, x)
    check_statistics("rms_norm_backward", x, x.shape[:1], {"rstd": rstd})
    return _normalise_backward(grad, x, 1, None, rstd[:, None], weight)[:2]


def _normalise_backward(grad: Any, x: Any, groups: int, mean: Any, rstd: Any, weight: Any) -> tuple[Any, Any, Any]:
    xp, acc = namespace(x), accumulator(x)
    n, c = x.shape[:2]
    s = math.prod(x.shape[2:])
    grouped = (n, groups, c // groups, s)
    with np.errstate(all="ignore"):
        g = _three(grad).astype(acc, copy=False)
        normal = _three(x).astype(acc).reshape(grouped)
        if mean is not None:
            normal -= mean[:, :, None, None]
        normal *= rstd[:, :, None, None]
        flat = normal.reshape(n, c, s)
        of_weight, of_bias = _channel_dot(g, flat), _channel_sum(g)
        scaled = (g if weight is None else g * _each(weight, acc)).reshape(grouped)
        count = acc.type(max(c // groups * s, 1))
        along = xp.einsum("ngcs,ngcs->ng", scaled, normal) / count
        of_x = scaled - normal * along[:, :, None, None]
        if mean is not None:
            of_x -= (scaled.sum(axis=(2, 3), dtype=acc) / count)[:, :, None, None]
        of_x *= rstd[:, :, None, None]
        dtype = x.dtype if weight is None else weight.dtype
        return (
            of_x.reshape(x.shape).astype(x.dtype, copy=False),
            of_weight.astype(dtype, copy=False),
            of_bias.astype(dtype, copy=False),
        )


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
    """``total = residual + dropout(x)``, rounded, and its layer or RMS norm; as ``fastnet.kernels.add_norm``."""
    check_add_norm("add_norm", x, residual, weight, bias, centred, eps)
    if dropout_p:
        check_array("add_norm", "state", state, dtypes=("uint64",), ndim=1, like=x)
        total = dropout(x, dropout_p, state, offset, residual=residual)
    else:
        total = rounded(wide(residual) + wide(x), x.dtype)
    y, mean, rstd = _normalise(total, 1, weight, bias, eps, centred)
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
    """Gradients of x, residual, weight and bias; as ``fastnet.kernels.add_norm_backward``."""
    name = "add_norm_backward"
    check_add_norm(name, total, None, weight, None, mean is not None, None)
    check_like(name, "grad", grad, total)
    check_like(name, "of_total", of_total, total, optional=True)
    check_statistics(name, total, total.shape[:1], {"rstd": rstd} if mean is None else {"mean": mean, "rstd": rstd})
    centre = None if mean is None else mean[:, None]
    of_residual, of_weight, of_bias = _normalise_backward(wide(grad), wide(total), 1, centre, rstd[:, None], weight)
    if of_total is not None:
        of_residual = of_residual + wide(of_total)
    of_x = dropout_backward(of_residual, dropout_p, state, offset) if dropout_p else of_residual
    dtype = total.dtype if weight is None else weight.dtype
    return *(rounded(a, total.dtype) for a in (of_x, of_residual)), *(rounded(a, dtype) for a in (of_weight, of_bias))


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
    """``activation((x - mean) / sqrt(var + eps) * weight + bias + residual)`` with each channel's own statistics.

    Arguments, results and what happens to the running statistics as ``fastnet.kernels.batch_norm``.
    """
    name = "batch_norm"
    check_norm(name, x, 1, eps, {"weight": weight, "bias": bias})
    check_like(name, "residual", residual, x, optional=True)
    check_running(name, x, running_mean, running_var)
    check_activation(name, activation)
    check_moments(name, x, moments)
    xp, acc = namespace(x), accumulator(x)
    view = _three(x).astype(acc)
    count = view.shape[0] * view.shape[2]
    with np.errstate(all="ignore"):
        if moments is not None and count:
            parts = moments[:, 0] / acc.type(count)
            mean = (parts * moments[:, 1]).sum(0)
            var = moments[:, 2].sum(0) / acc.type(count) + (parts * (moments[:, 1] - mean) ** 2).sum(0)
            view -= mean[:, None]
        else:
            mean = _channel_sum(view) / acc.type(count) if count else xp.full(x.shape[1], np.nan, acc)
            view -= mean[:, None]
            var = _channel_dot(view, view) / acc.type(max(count, 1))
        rstd = acc.type(1) / xp.sqrt(var + acc.type(eps))
        if running_mean is not None:
            _update(running_mean, mean, momentum)
        if running_var is not None:
            _update(running_var, var * acc.type(count / (count - 1) if count > 1 else np.nan), momentum)
        return _affine(view, x, rstd, weight, bias, activation, residual), mean, rstd


def check_moments(name: str, x: Any, moments: Any) -> None:
    """Moments are (parts, 3, C) of the sums' dtype, or None."""
    if moments is None:
        return
    check_array(name, "moments", moments, ndim=3, like=x)
    if moments.shape[1:] != (3, x.shape[1]) or (x.size and not len(moments)):
        raise InputError(f"{name}: moments has shape {tuple(moments.shape)}, expected (parts, 3, {x.shape[1]})")
    if moments.dtype != accumulator(x):
        raise KindError(f"{name}: moments has dtype {moments.dtype}, expected {accumulator(x)}")


def check_running(name: str, x: Any, running_mean: Any, running_var: Any, needed: bool = False) -> None:
    """Running statistics are (C,) floating-point arrays, or None where not needed."""
    for argument, r in (("running_mean", running_mean), ("running_var", running_var)):
        if not needed and r is None:
            continue
        check_array(name, argument, r, ndim=1, like=x)
        if r.shape != (x.shape[1],):
            raise InputError(f"{name}: {argument} has shape {tuple(r.shape)}, expected ({x.shape[1]},), one a channel")


def _update(running: Any, value: Any, momentum: float) -> None:
    running[...] = ((1 - momentum) * running.astype(value.dtype) + momentum * value).astype(running.dtype)


def _affine(view: Any, x: Any, rstd: Any, weight: Any, bias: Any, activation: str, residual: Any) -> Any:
    """view, centred, times rstd and weight, and all that follows; changes view."""
    acc = view.dtype
    view *= rstd[:, None] if weight is None else _each(weight, acc) * rstd[:, None]
    if bias is not None:
        view += _each(bias, acc)
    if residual is not None:
        view += _three(residual).astype(acc, copy=False)
    if activation == "relu":
        namespace(x).maximum(view, 0, out=view)
    return view.reshape(x.shape).astype(x.dtype, copy=False)


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
    """``activation((x - running_mean) / sqrt(running_var + eps) * weight + bias + residual)``."""
    name = "batch_norm_inference"
    check_norm(name, x, 1, eps, {"weight": weight, "bias": bias})
    check_running(name, x, running_mean, running_var, needed=True)
    check_like(name, "residual", residual, x, optional=True)
    check_activation(name, activation)
    xp, acc = namespace(x), accumulator(x)
    with np.errstate(all="ignore"):
        view = _three(x).astype(acc)
        view -= _each(running_mean, acc)
        rstd = acc.type(1) / xp.sqrt(running_var.astype(acc, copy=False) + acc.type(eps))
        return _affine(view, x, rstd, weight, bias, activation, residual)


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
    """Gradients of x, weight, bias and residual of ``batch_norm``; as ``fastnet.kernels.batch_norm_backward``."""
    name = "batch_norm_backward"
    check_norm(name, x, 1, None, {"weight": weight})
    check_like(name, "grad", grad, x)
    check_like(name, "y", y, x, optional=True)
    check_statistics(name, x, (x.shape[1],), {"mean": mean, "rstd": rstd})
    acc = accumulator(x)
    with np.errstate(all="ignore"):
        g = _three(grad).astype(acc, copy=False)
        if y is not None:
            g = g * (_three(y) > 0)
        of_residual = g.reshape(x.shape).astype(x.dtype) if residual_gradient else None
        normal = _three(x).astype(acc)
        normal -= mean[:, None]
        normal *= rstd[:, None]
        of_weight, of_bias = _channel_dot(g, normal), _channel_sum(g)
        count = acc.type(max(normal.shape[0] * normal.shape[2], 1))
        if batch_statistics:
            normal *= (of_weight / count)[:, None]
            normal += (of_bias / count)[:, None]
            of_x = namespace(x).subtract(g, normal, out=normal)
        else:
            of_x = g.copy()
        of_x *= rstd[:, None] if weight is None else _each(weight, acc) * rstd[:, None]
        dtype = x.dtype if weight is None else weight.dtype
        return (
            of_x.reshape(x.shape).astype(x.dtype, copy=False),
            of_weight.astype(dtype, copy=False),
            of_bias.astype(dtype, copy=False),
            of_residual,
        )
