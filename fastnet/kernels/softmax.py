"""Softmax, log-softmax, their gradients and cross-entropy by handwritten kernels."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._faults import check_faults
from fastnet.errors import InputError
from fastnet.kernels._arrays import addressable, check_array, empty, fault_flag, is_numpy, stream_of
from fastnet.kernels._runtime import extension_for, record

BAD_TARGET = "target holds a class outside [0, classes) that is not ignore_index"


def _axis(function: str, x: Any, axis: Any) -> int:
    axis = operator.index(axis)
    rank = max(x.ndim, 1)  # a scalar counts as a row of one
    if not -rank <= axis < rank:
        raise np.exceptions.AxisError(
            f"{function}: axis is {axis}, expected one in [{-rank}, {rank - 1}] for shape {tuple(x.shape)}"
        )
    return axis % rank


def _three(x: Any, axis: int) -> Any:
    """x as (outer, length, inner): a view where its strides allow, a copy elsewhere."""
    shape = x.shape or (1,)
    return addressable(x).reshape(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))


def _across(x: Any) -> bool:
    """Whether neighbours in memory of this (outer, length, 1) view are along ``outer``, as in a transposed matrix."""
    outer, length, inner = x.shape
    return inner == 1 and outer > 1 and length > 1 and x.strides[0] == x.itemsize and x.strides[1] != x.itemsize


def _prepare(x: Any, axis: int) -> tuple[bool, Any, Any, Any]:
    """Whether neighbours lie across the rows; x as the kernel takes it; the output likewise, and as returned."""
    view = _three(x, axis)
    across = _across(view)
    if not across:
        out = empty(x, x.shape)
        return False, view, out.reshape(view.shape), out
    view = view.transpose(2, 1, 0)
    out = empty(x, view.shape)  # in the memory order of x, so that writes are to neighbours too
    return True, view, out, out.transpose(2, 1, 0).reshape(x.shape)


def _forward(name: str, x: Any, axis: int, config: Any) -> Any:
    check_array(name, "x", x)
    axis = _axis(name, x, axis)
    ext = extension_for(x)
    if x.size == 0:
        return empty(x, x.shape)
    _, view, out, result = _prepare(x, axis)
    config = config or ext.softmax_config(*view.shape)
    record(name, x, config=config)
    ext.softmax(out, view, name == "log_softmax", config, stream_of(x))
    return result


def _backward(name: str, grad: Any, y: Any, axis: int, config: Any) -> Any:
    check_array(name, "y", y)
    check_array(name, "grad", grad, dtypes=(y.dtype.name,), like=y)
    if grad.shape != y.shape:
        raise InputError(f"{name}: grad has shape {tuple(grad.shape)}, expected y's, {tuple(y.shape)}")
    axis = _axis(name, y, axis)
    ext = extension_for(y)
    if y.size == 0:
        return empty(y, y.shape)
    across, view, out, result = _prepare(y, axis)
    grad_view = _three(grad, axis)
    if across:
        grad_view = grad_view.transpose(2, 1, 0)
    config = config or ext.softmax_config(*view.shape)
    record(name, grad, y, config=config)
    ext.softmax_backward(out, grad_view, view, name == "log_softmax_backward", config, stream_of(y))
    return result


def softmax(x: Any, *, axis: int = -1, config: Any = None) -> Any:
    """``exp(x - max(x)) / sum(exp(x - max(x)))`` along an axis; sums and exponentials in float32 (float64 for float64).

    A row that holds NaN or +inf, or nothing but -inf, is NaN throughout, as PyTorch's. Two sweeps over a row: an online
    maximum and sum (Milakov and Gimelshein 2018, algorithm 3), then the quotients.

    Args:
        x: float32, float64, float16 or bfloat16 of any shape and strides. Dimensions before or after the axis that
            strides do not let collapse to one are copied first.
        axis: along which each row sums to 1.
        config: a ``SoftmaxConfig`` to use in place of the one chosen for the problem.

    Returns:
        An array of x's shape and dtype.

    Raises:
        TypeError, ValueError: x is not such an array, or has no such axis.

    >>> from fastnet import kernels
    >>> with kernels.use("emulated"):
    ...     kernels.softmax(np.zeros((1, 4), np.float32))
    array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
    """
    return _forward("softmax", x, axis, config)


def log_softmax(x: Any, *, axis: int = -1, config: Any = None) -> Any:
    """``x - max(x) - log(sum(exp(x - max(x))))`` along an axis. Arguments, result and errors as ``softmax``'s."""
    return _forward("log_softmax", x, axis, config)


def softmax_backward(grad: Any, y: Any, *, axis: int = -1, config: Any = None) -> Any:
    """Gradient of softmax's input: ``y * (grad - sum(grad * y))`` along the axis.

    Args:
        grad: gradient of the result; shape and dtype of y, any strides.
        y: the result of ``softmax``.
        axis, config: as in ``softmax``.

    Returns:
        An array of y's shape and dtype.

    Raises:
        TypeError, ValueError: arrays that do not fit.
    """
    return _backward("softmax_backward", grad, y, axis, config)


def log_softmax_backward(grad: Any, y: Any, *, axis: int = -1, config: Any = None) -> Any:
    """Gradient of log_softmax's input: ``grad - exp(y) * sum(grad)`` along the axis; see ``softmax_backward``."""
    return _backward("log_softmax_backward", grad, y, axis, config)


def cross_entropy(
    logits: Any,
    target: Any,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    with_gradient: bool = False,
    config: Any = None,
) -> tuple[Any, Any]:
    """Cross-entropy of each row with its class, and its gradient, in one kernel; PyTorch's formula, unreduced:

    ``loss[n] = -(1 - s) weight[t] logp[n, t] - s / C * sum_c weight[c] logp[n, c]``, ``t = target[n]``, ``s`` the
    smoothing, ``logp = log_softmax(logits)``; 0 where ``t`` is ignore_index.

    Args:
        logits: (N, C) float32, float64, float16 or bfloat16, any strides.
        target: (N,) int64, int32 or uint8.
        weight: (C,) floating point, or None for ones.
        ignore_index: a target that counts for nothing.
        label_smoothing: s, in [0, 1].
        with_gradient: whether to write the gradient too, while the row is in cache.
        config: a ``SoftmaxConfig`` (of rows) to use in place of the one chosen for the problem.

    Returns:
        loss (N,), float64 for float64 logits and else float32; gradient of each row's loss (N, C) in the dtype of
        logits, or None.

    Raises:
        TypeError, ValueError: arguments that do not fit.
        IndexError: a target outside [0, C); on the GPU at the next synchronising call (the row's loss is 0 until then).
    """
    name = "cross_entropy"
    check_array(name, "logits", logits, ndim=2)
    check_array(name, "target", target, dtypes=("int64", "int32", "uint8"), ndim=1, like=logits)
    rows, classes = logits.shape
    if target.shape[0] != rows:
        raise InputError(
            f"{name}: target has {target.shape[0]} elements, expected one for each of the {rows} rows of logits"
        )
    accumulator = np.dtype(np.float64 if logits.dtype == np.float64 else np.float32)
    if weight is not None:
        check_array(name, "weight", weight, ndim=1, like=logits)
        if weight.shape[0] != classes:
            raise InputError(
                f"{name}: weight has {weight.shape[0]} elements, expected one for each of the {classes} classes"
            )
        weight = namespace(weight).ascontiguousarray(addressable(weight), accumulator)
    ignore_index = operator.index(ignore_index)
    if not -(2**63) <= ignore_index < 2**63:
        raise InputError(f"{name}: ignore_index is {ignore_index}, expected a 64-bit integer")
    if not 0.0 <= label_smoothing <= 1.0:
        raise InputError(f"{name}: label_smoothing is {label_smoothing}, expected a number in [0, 1]")
    ext = extension_for(logits)
    logits = addressable(logits)
    target = namespace(target).ascontiguousarray(addressable(target))
    loss = empty(logits, (rows,), accumulator)
    gradient = empty(logits, (rows, classes)) if with_gradient else None
    if rows == 0:
        return loss, gradient
    config = config or ext.softmax_config(rows, classes, 1)
    flag = fault_flag(logits, name, BAD_TARGET)
    record(name, logits, target, weight, config=config)
    ext.cross_entropy(
        loss, gradient, logits, target, weight, flag, ignore_index, label_smoothing, config, stream_of(logits)
    )
    if is_numpy(logits):
        check_faults(name)
    return loss, gradient
