"""Softmax, log-softmax, their gradients and cross-entropy in array code: the specification.

Computed in float32 (float64 for float64) and rounded once. Training on the CPU runs this, so arrays of the input's size
are few and are changed in place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._faults import fault_flag


def _accumulator(x: Any) -> Any:
    return np.float64 if x.dtype == np.float64 else np.float32


def _shifted(x: Any, axis: int) -> Any:
    """A new array: x minus its maximum along the axis."""
    x = x.astype(_accumulator(x))
    if x.size:
        x -= x.max(axis=axis, keepdims=True)
    return x


def softmax(x: Any, *, axis: int = -1, config: Any = None) -> Any:
    """``exp(x - max(x)) / sum(exp(x - max(x)))`` along an axis."""
    xp = namespace(x)
    with np.errstate(all="ignore"):
        y = _shifted(xp.atleast_1d(x), axis)
        xp.exp(y, out=y)
        y /= y.sum(axis=axis, keepdims=True)
        return y.reshape(x.shape).astype(x.dtype, copy=False)


def log_softmax(x: Any, *, axis: int = -1, config: Any = None) -> Any:
    """``x - max(x) - log(sum(exp(x - max(x))))`` along an axis."""
    xp = namespace(x)
    with np.errstate(all="ignore"):
        y = _shifted(xp.atleast_1d(x), axis)
        y -= xp.log(xp.exp(y).sum(axis=axis, keepdims=True))
        return y.reshape(x.shape).astype(x.dtype, copy=False)


def softmax_backward(grad: Any, y: Any, *, axis: int = -1, config: Any = None) -> Any:
    """``y * (grad - sum(grad * y))`` along the axis."""
    xp = namespace(y)
    with np.errstate(all="ignore"):
        r = xp.atleast_1d(y).astype(_accumulator(y), copy=False)
        g = xp.atleast_1d(grad).astype(_accumulator(y), copy=False)
        x = g * r
        xp.subtract(g, x.sum(axis=axis, keepdims=True), out=x)
        x *= r
        return x.reshape(y.shape).astype(y.dtype, copy=False)


def log_softmax_backward(grad: Any, y: Any, *, axis: int = -1, config: Any = None) -> Any:
    """``grad - exp(y) * sum(grad)`` along the axis."""
    xp = namespace(y)
    with np.errstate(all="ignore"):
        x = xp.exp(xp.atleast_1d(y).astype(_accumulator(y), copy=False))
        g = xp.atleast_1d(grad).astype(_accumulator(y), copy=False)
        x *= g.sum(axis=axis, keepdims=True)
        xp.subtract(g, x, out=x)
        return x.reshape(y.shape).astype(y.dtype, copy=False)


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
    """``-(1 - s) weight[t] logp[t] - s / C * sum_c weight[c] logp[c]`` for each row, 0 where t is ignore_index; and the
    gradient of each row's loss: ``p * (sum of all weights in front of logp) - weight in front of logp``."""
    xp = namespace(logits)
    rows, classes = logits.shape
    acc = _accumulator(logits)
    target = target.astype(np.int64, copy=False)
    ignored = target == ignore_index
    bad = ((target < 0) | (target >= classes)) & ~ignored
    if xp is np:
        if bad.any():
            raise IndexError(
                f"cross_entropy: target holds {target[bad][0]}, a class outside [0, {classes}) that is not ignore_index"
            )
    else:
        flag = fault_flag(logits, "cross_entropy", "target holds a class outside [0, classes) that is not ignore_index")
        xp.maximum(flag, bad.any().astype(np.int32), out=flag)
    skip = ignored | bad
    if classes == 0:
        return xp.zeros(rows, acc), xp.zeros((rows, 0), logits.dtype) if with_gradient else None
    t = xp.where(skip, 0, target)
    index = xp.arange(rows)
    with np.errstate(all="ignore"):
        shifted = _shifted(logits, 1)
        e = xp.exp(shifted)
        total = e.sum(axis=1)
        log_total = xp.log(total)
        w = None if weight is None else weight.astype(acc, copy=False)
        sharp = xp.where(skip, 0, acc(1 - label_smoothing) * (acc(1) if w is None else w[t])).astype(acc)
        loss = xp.where(skip, 0, -sharp * (shifted[index, t] - log_total)).astype(acc, copy=False)
        each = label_smoothing / classes
        mass = sharp
        if each:
            shifted -= log_total[:, None]
            if w is not None:
                shifted *= w
            loss -= xp.where(skip, 0, acc(each) * shifted.sum(axis=1)).astype(acc)
            mass = sharp + xp.where(skip, 0, acc(each) * (acc(classes) if w is None else w.sum())).astype(acc)
        if not with_gradient:
            return loss, None
        e *= (mass / total)[:, None]
        if each:
            smooth = xp.where(skip, 0, acc(each)).astype(acc)[:, None]
            e -= smooth if w is None else smooth * w
        e[index, t] -= sharp
        if xp is not np:
            e[bad] = 0
        return loss, e.astype(logits.dtype, copy=False)
