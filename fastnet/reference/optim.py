"""Optimizer steps in array code: the specification. Training on the CPU runs this, so it works in place: states in
their own dtype, 16-bit ones through float32 copies that are rounded back once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnet._device import namespace


def _scalar(lr: Any) -> Any:
    """A Python number, or on a GPU an array without dimensions, so that nothing waits for it; float64 either way."""
    if isinstance(lr, np.ndarray):
        return lr.item()
    return lr.reshape(()).astype(np.float64) if hasattr(lr, "reshape") else lr


def _wide(x: Any) -> Any:
    """x, or a float32 copy of a 16-bit x."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 else x


def _store(x: Any, wide: Any) -> None:
    if wide is not x:
        x[...] = wide


def _counted(step: Any) -> Any:
    """The number of this step. Counts up an array."""
    if not hasattr(step, "reshape") or isinstance(step, np.generic):
        return float(step) + 1
    step += 1
    return step.item() if isinstance(step, np.ndarray) else step.reshape(()).astype(np.float64)


def _lerp(x: Any, to: Any, weight: float) -> None:
    """x += weight (to - x), in place, exact where weight is 1."""
    if weight < 0.5:
        x += weight * (to - x)
    else:
        x[...] = to - (to - x) * (1 - weight)


def _param(params: Sequence[Any], masters: Sequence[Any] | None, i: int) -> Any:
    """What is updated: a float32 copy of a 16-bit param, its master where there is one, or the param itself."""
    return _wide(params[i]) if masters is None else masters[i]


def _prepared(arrays: Sequence[Any], gradients: Any) -> Sequence[Any] | None:
    """Gradients times the factor of a state, 16-bit ones in float32; None to leave the step out, for which a GPU waits
    here: the kernels do not."""
    if gradients is None:
        return arrays
    if bool(gradients[2] != 0):
        return None
    with np.errstate(all="ignore"):
        return [w * gradients[1].astype(w.dtype) for w in map(_wide, arrays)]


def _gradient(p: Any, grad: Any, maximize: bool, weight_decay: float) -> Any:
    g = _wide(grad)
    if maximize:
        g = -g
    return g + weight_decay * p if weight_decay != 0 else g


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
    masters: Sequence[Any] | None = None,
    gradients: Any = None,
    config: Any = None,
) -> None:
    """``g = +-grad + weight_decay p``; ``buf = g`` at first, then ``momentum buf + (1 - dampening) g``;
    ``p -= lr (g + momentum buf if nesterov else buf)``; computed in float32 (float64 for float64), updated in place."""
    lr = _scalar(lr)
    prepared = _prepared(grads, gradients)
    if prepared is None:
        return
    with np.errstate(all="ignore"):
        for i, p in enumerate(params):
            x = _param(params, masters, i)
            g = _gradient(x, prepared[i], maximize, weight_decay)
            if momenta is not None and momentum != 0:
                buffer = _wide(momenta[i])
                if first_step:
                    buffer[...] = g
                else:
                    buffer *= momentum
                    buffer += g if dampening == 0 else (1 - dampening) * g
                g = g + momentum * buffer if nesterov else buffer
                _store(momenta[i], buffer)
            x -= lr * g
            _store(p, x)


def adam_step(
    params: Sequence[Any],
    grads: Sequence[Any],
    exp_avgs: Sequence[Any],
    exp_avg_sqs: Sequence[Any],
    max_exp_avg_sqs: Sequence[Any] | None,
    steps: Sequence[Any],
    *,
    lr: Any,
    beta1: float = 0.9,
    beta2: float = 0.999,
    weight_decay: float = 0.0,
    eps: float = 1e-8,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
    masters: Sequence[Any] | None = None,
    gradients: Any = None,
    config: Any = None,
) -> None:
    """``m = beta1 m + (1 - beta1) g``; ``v = beta2 v + (1 - beta2) g^2``;
    ``p -= lr / (1 - beta1^t) m / (sqrt(v_hat / (1 - beta2^t)) + eps)`` with v_hat the largest v so far, or v; weight
    decay joins g, or if decoupled is ``p *= 1 - lr weight_decay``. Arrays among the steps are counted up."""
    lr = _scalar(lr)
    prepared = _prepared(grads, gradients)
    if prepared is None:
        return
    with np.errstate(all="ignore"):
        for i, (p, step) in enumerate(zip(params, steps, strict=True)):
            t = _counted(step)
            x, m, v = _param(params, masters, i), _wide(exp_avgs[i]), _wide(exp_avg_sqs[i])
            g = _gradient(x, prepared[i], maximize, 0 if decoupled_weight_decay else weight_decay)
            if decoupled_weight_decay and weight_decay != 0:
                x *= 1 - lr * weight_decay
            _lerp(m, g, 1 - beta1)
            v *= beta2
            v += (1 - beta2) * g * g
            largest = v
            if max_exp_avg_sqs is not None:
                largest = _wide(max_exp_avg_sqs[i])
                largest[...] = namespace(v).maximum(largest, v)
                _store(max_exp_avg_sqs[i], largest)
            denominator = largest**0.5
            denominator /= (1 - beta2**t) ** 0.5
            denominator += eps
            x -= (lr / (1 - beta1**t)) * (m / denominator)
            _store(p, x)
            _store(exp_avgs[i], m)
            _store(exp_avg_sqs[i], v)


def adagrad_step(
    params: Sequence[Any],
    grads: Sequence[Any],
    sums: Sequence[Any],
    steps: Sequence[Any],
    *,
    lr: Any,
    lr_decay: float = 0.0,
    weight_decay: float = 0.0,
    eps: float = 1e-10,
    maximize: bool = False,
    masters: Sequence[Any] | None = None,
    gradients: Any = None,
    config: Any = None,
) -> None:
    """``sum += g^2``; ``p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(sum) + eps)``. Arrays among the steps are counted
    up."""
    lr = _scalar(lr)
    prepared = _prepared(grads, gradients)
    if prepared is None:
        return
    with np.errstate(all="ignore"):
        for i, (p, step) in enumerate(zip(params, steps, strict=True)):
            t = _counted(step)
            x, total = _param(params, masters, i), _wide(sums[i])
            g = _gradient(x, prepared[i], maximize, weight_decay)
            total += g * g
            x -= (lr / (1 + (t - 1) * lr_decay)) * (g / (total**0.5 + eps))
            _store(p, x)
            _store(sums[i], total)


def rmsprop_step(
    params: Sequence[Any],
    grads: Sequence[Any],
    square_avgs: Sequence[Any],
    momenta: Sequence[Any] | None,
    grad_avgs: Sequence[Any] | None,
    steps: Sequence[Any],
    *,
    lr: Any,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    maximize: bool = False,
    masters: Sequence[Any] | None = None,
    gradients: Any = None,
    config: Any = None,
) -> None:
    """``s = alpha s + (1 - alpha) g^2``; centered: ``a = alpha a + (1 - alpha) g``, ``d = sqrt(s - a^2) + eps``, else
    ``d = sqrt(s) + eps``; ``b = momentum b + g / d``; ``p -= lr b``. Arrays among the steps are counted up."""
    lr = _scalar(lr)
    prepared = _prepared(grads, gradients)
    if prepared is None:
        return
    with np.errstate(all="ignore"):
        for i, (p, step) in enumerate(zip(params, steps, strict=True)):
            _counted(step)
            x, square = _param(params, masters, i), _wide(square_avgs[i])
            g = _gradient(x, prepared[i], maximize, weight_decay)
            square *= alpha
            square += (1 - alpha) * g * g
            centre = square
            if grad_avgs is not None:
                mean = _wide(grad_avgs[i])
                _lerp(mean, g, 1 - alpha)
                centre = square - mean * mean
                _store(grad_avgs[i], mean)
            change = g / (centre**0.5 + eps)
            if momenta is not None:
                buffer = _wide(momenta[i])
                buffer *= momentum
                buffer += change
                _store(momenta[i], buffer)
                change = buffer
            x -= lr * change
            _store(p, x)
            _store(square_avgs[i], square)
