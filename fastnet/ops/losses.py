"""Losses between tensors of one shape, in array code: one Function, a table of formulas."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._device import namespace
from fastnet._faults import note
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.ops._numeric import rounded, unbroadcast, wide
from fastnet.ops._operands import cast, check_tensor


def reduction_of(name: str, size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """One of "mean", "sum" or "none" from a loss's arguments, the deprecated booleans included."""
    if size_average is not None or reduce is not None:
        reduction = "none" if reduce is False else "sum" if size_average is False else "mean"
        warnings.warn(
            f"size_average and reduce args will be deprecated, please use reduction='{reduction}' instead.",
            stacklevel=3,
        )
    if reduction not in ("none", "mean", "sum"):
        raise InputError(f"{name}: {reduction!r} is not a valid value for reduction, expected 'none', 'mean' or 'sum'")
    return reduction


@dataclass(frozen=True)
class Formula:
    """A loss of x (input) and y (target), elementwise, and its derivatives. p is what else it depends on."""

    value: Callable[[Any, Any, Any, Any], Any]  # (array module, x, y, p)
    input_gradient: Callable[[Any, Any, Any, Any], Any]
    target_gradient: Callable[[Any, Any, Any, Any], Any]


def _smooth_l1(xp: Any, x: Any, y: Any, beta: float) -> Any:
    d = xp.abs(x - y)
    return xp.where(d < beta, 0.5 * d * d / beta, d - 0.5 * beta)


def _smooth_l1_gradient(xp: Any, x: Any, y: Any, beta: float) -> Any:
    d = x - y
    return xp.where(xp.abs(d) < beta, d / beta, xp.sign(d))


def _huber(xp: Any, x: Any, y: Any, delta: float) -> Any:
    d = xp.abs(x - y)
    return xp.where(d <= delta, 0.5 * d * d, delta * (d - 0.5 * delta))


def _huber_gradient(xp: Any, x: Any, y: Any, delta: float) -> Any:
    return xp.clip(x - y, -delta, delta)


def _softplus_of_minus(xp: Any, x: Any) -> Any:
    """log(1 + exp(-x)) without overflow."""
    return xp.maximum(-x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


def _sigmoid_of_minus(xp: Any, x: Any) -> Any:
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, e, 1) / (1 + e)


def _clamped_log(xp: Any, x: Any) -> Any:
    return xp.maximum(xp.log(x), -100)


def _clamped_log1m(xp: Any, x: Any) -> Any:
    return xp.maximum(xp.log1p(-x), -100)


def _logits(xp: Any, x: Any, y: Any, positive: Any) -> Any:
    factor = 1 if positive is None else 1 + (positive - 1) * y
    return (1 - y) * x + factor * _softplus_of_minus(xp, x)


def _logits_gradient(xp: Any, x: Any, y: Any, positive: Any) -> Any:
    factor = 1 if positive is None else 1 + (positive - 1) * y
    return (1 - y) - factor * _sigmoid_of_minus(xp, x)


FORMULAS = {
    "mse_loss": Formula(
        lambda xp, x, y, p: xp.square(x - y), lambda xp, x, y, p: 2 * (x - y), lambda xp, x, y, p: 2 * (y - x)
    ),
    "l1_loss": Formula(
        lambda xp, x, y, p: xp.abs(x - y), lambda xp, x, y, p: xp.sign(x - y), lambda xp, x, y, p: xp.sign(y - x)
    ),
    "smooth_l1_loss": Formula(_smooth_l1, _smooth_l1_gradient, lambda xp, x, y, p: -_smooth_l1_gradient(xp, x, y, p)),
    "huber_loss": Formula(_huber, _huber_gradient, lambda xp, x, y, p: -_huber_gradient(xp, x, y, p)),
    "soft_margin_loss": Formula(
        lambda xp, x, y, p: _softplus_of_minus(xp, x * y),
        lambda xp, x, y, p: -y * _sigmoid_of_minus(xp, x * y),
        lambda xp, x, y, p: -x * _sigmoid_of_minus(xp, x * y),
    ),
    # Logarithms are clamped to -100 and the denominator to 1e-12, as PyTorch's, so that 0 and 1 give finite losses
    # (the target's gradient is not clamped, as PyTorch's is not).
    "binary_cross_entropy": Formula(
        lambda xp, x, y, p: (y - 1) * _clamped_log1m(xp, x) - y * _clamped_log(xp, x),
        lambda xp, x, y, p: (x - y) / xp.maximum((1 - x) * x, 1e-12),
        lambda xp, x, y, p: xp.log1p(-x) - xp.log(x),
    ),
    "binary_cross_entropy_with_logits": Formula(
        _logits, _logits_gradient, lambda xp, x, y, p: -x if p is None else (p - 1) * _softplus_of_minus(xp, x) - x
    ),
    # y log y is 0 at y = 0.
    "kl_div": Formula(
        lambda xp, x, y, p: xp.where(y == 0, 0, y * xp.log(xp.where(y == 0, 1, y))) - y * x,
        lambda xp, x, y, p: -y,
        lambda xp, x, y, p: xp.log(y) + 1 - x,
    ),
    "kl_div_log_target": Formula(
        lambda xp, x, y, p: xp.exp(y) * (y - x),
        lambda xp, x, y, p: -xp.exp(y),
        lambda xp, x, y, p: xp.exp(y) * (y - x + 1),
    ),
}


class PointwiseLoss(ArrayFunction):
    """reduction(weight * formula(input, target)); 16-bit types are computed in float32."""

    @staticmethod
    def forward(ctx: Any, x: Any, y: Any, weight: Any, parameter: Any, name: str, reduction: str) -> Any:
        xp = namespace(x)
        ctx.weight, ctx.parameter, ctx.formula, ctx.reduction = weight, parameter, name, reduction
        ctx.save(x, y)
        with np.errstate(all="ignore"):
            losses = FORMULAS[name].value(xp, wide(x), wide(y), parameter)
            if weight is not None:
                losses = losses * weight
            ctx.count = losses.size
            if reduction == "sum":
                losses = losses.sum()
            elif reduction == "mean":
                losses = losses.sum() / losses.dtype.type(ctx.count)
        return losses if losses.dtype == x.dtype else losses.astype(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, y = ctx.saved
        xp = namespace(x)
        formula = FORMULAS[ctx.formula]
        with np.errstate(all="ignore"):
            scale = wide(grad)
            if ctx.reduction == "mean":
                scale = scale / scale.dtype.type(ctx.count)
            if ctx.weight is not None:
                scale = scale * ctx.weight
            result: list[Any] = [None] * 6
            for i, derivative in enumerate((formula.input_gradient, formula.target_gradient)):
                if ctx.needs_input_grad[i]:
                    full = derivative(xp, wide(x), wide(y), ctx.parameter) * scale
                    if full.ndim < max(x.ndim, y.ndim):
                        full = full.reshape(np.broadcast_shapes(x.shape, y.shape))
                    like = (x, y)[i]
                    result[i] = rounded(unbroadcast(full, like.shape), like.dtype)
        return tuple(result)


def _operands(name: str, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one floating-point dtype."""
    check_tensor(name, input)
    check_tensor(name, target, "target")
    dtype = _dtypes.promote_types(input.dtype, target.dtype)
    if not dtype.is_floating_point:
        raise KindError(
            f"{name}: input has dtype {input.dtype.name} and target {target.dtype.name}, expected floating point"
        )
    return cast(input, dtype), cast(target, dtype)


def _check_broadcast(name: str, input: Tensor, target: Tensor) -> None:
    try:
        np.broadcast_shapes(tuple(input.shape), tuple(target.shape))
    except ValueError:
        raise InputError(
            f"{name}: target has shape {tuple(target.shape)}, which does not broadcast with input's, "
            f"{tuple(input.shape)}"
        ) from None


def _broadcastable(name: str, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    input, target = _operands(name, input, target)
    if tuple(input.shape) != tuple(target.shape):
        _check_broadcast(name, input, target)
        warnings.warn(
            f"Using a target size ({tuple(target.shape)}) that is different to the input size ({tuple(input.shape)}). "
            "This will likely lead to incorrect results due to broadcasting. Please ensure they have the same size.",
            stacklevel=3,
        )
    return input, target


def _same_shape(name: str, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    input, target = _operands(name, input, target)
    if tuple(input.shape) != tuple(target.shape):
        raise InputError(f"{name}: target has shape {tuple(target.shape)}, expected input's, {tuple(input.shape)}")
    return input, target


def _factor(name: str, argument: str, factor: Tensor | None, input: Tensor) -> Any:
    """A weight's array in the type losses are computed in; ValueError if it does not broadcast to the input."""
    if factor is None:
        return None
    check_tensor(name, factor, argument)
    try:
        fits = np.broadcast_shapes(tuple(factor.shape), tuple(input.shape)) == tuple(input.shape)
    except ValueError:
        fits = False
    if not fits:
        raise InputError(
            f"{name}: {argument} has shape {tuple(factor.shape)}, expected one that broadcasts to {tuple(input.shape)}"
        )
    return factor._data.astype(np.float64 if input.dtype is _dtypes.float64 else np.float32, copy=False)


def _weighted(
    name: str, input: Tensor, target: Tensor, weight: Tensor | None, parameter: float | None, reduction: str
) -> Tensor:
    """A loss with differentiable weights, as PyTorch's: their sum divides in "mean", but for huber_loss."""
    if weight is None:
        return PointwiseLoss.apply(input, target, None, parameter, name, reduction)
    check_tensor(name, weight, "weight")
    if tuple(weight.shape) != tuple(input.shape):
        raise InputError("Weights and input must have the same size.")
    losses = PointwiseLoss.apply(input, target, None, parameter, name, "none") * weight
    if reduction == "mean":
        return losses.mean() if name == "huber_loss" else losses.sum() / weight.sum()
    return losses.sum() if reduction == "sum" else losses


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """``weight * (input - target)^2``, reduced.

    >>> import fastnet
    >>> mse_loss(fastnet.tensor([1.0, 3.0]), fastnet.tensor([0.0, 0.0]))
    tensor(5.)
    """
    reduction = reduction_of("mse_loss", size_average, reduce, reduction)
    input, target = _broadcastable("mse_loss", input, target)
    return _weighted("mse_loss", input, target, weight, None, reduction)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """``weight * |input - target|``, reduced; the derivative where they are equal is 0.

    >>> import fastnet
    >>> l1_loss(fastnet.tensor([1.0, 3.0]), fastnet.tensor([0.0, 0.0]))
    tensor(2.)
    """
    reduction = reduction_of("l1_loss", size_average, reduce, reduction)
    input, target = _broadcastable("l1_loss", input, target)
    return _weighted("l1_loss", input, target, weight, None, reduction)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """``d^2 / (2 beta)`` where ``d = |input - target| < beta``, else ``d - beta / 2``; reduced.

    >>> import fastnet
    >>> smooth_l1_loss(fastnet.tensor([0.5, 3.0]), fastnet.tensor([0.0, 0.0]), reduction="none")
    tensor([0.1250, 2.5000])
    """
    name = "smooth_l1_loss"
    reduction = reduction_of(name, size_average, reduce, reduction)
    if not beta >= 0:
        raise InputError(f"{name}: beta is {beta}, expected a number that is not negative")
    input, target = _broadcastable(name, input, target)
    if beta == 0:
        return PointwiseLoss.apply(input, target, None, None, "l1_loss", reduction)
    return PointwiseLoss.apply(input, target, None, float(beta), name, reduction)


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """``weight * (d^2 / 2 where d = |input - target| <= delta, else delta (d - delta / 2))``, reduced.

    >>> import fastnet
    >>> huber_loss(fastnet.tensor([0.5, 3.0]), fastnet.tensor([0.0, 0.0]), reduction="none")
    tensor([0.1250, 2.5000])
    """
    name = "huber_loss"
    reduction = reduction_of(name, None, None, reduction)
    if not delta > 0:
        raise InputError(f"huber_loss does not support non-positive values for delta, got {delta}.")
    input, target = _broadcastable(name, input, target)
    return _weighted(name, input, target, weight, float(delta), reduction)


def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """``log(1 + exp(-target * input))`` for targets of 1 and -1, reduced.

    >>> import fastnet
    >>> soft_margin_loss(fastnet.tensor([0.0]), fastnet.tensor([1.0]))
    tensor(0.6931)
    """
    name = "soft_margin_loss"
    reduction = reduction_of(name, size_average, reduce, reduction)
    input, target = _operands(name, input, target)
    _check_broadcast(name, input, target)
    return PointwiseLoss.apply(input, target, None, None, name, reduction)


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """``-weight * (target log(input) + (1 - target) log(1 - input))``, reduced; logarithms are at least -100.

    >>> import fastnet
    >>> binary_cross_entropy(fastnet.tensor([0.5]), fastnet.tensor([1.0]))
    tensor(0.6931)
    """
    name = "binary_cross_entropy"
    reduction = reduction_of(name, size_average, reduce, reduction)
    input, target = _same_shape(name, input, target)
    outside = (input._data < 0) | (input._data > 1)
    if not isinstance(input._data, np.ndarray):
        note(name, "all elements of input should be between 0 and 1", outside, InputError)
    elif bool(outside.any()):
        raise InputError(f"{name}: all elements of input should be between 0 and 1")
    return PointwiseLoss.apply(input, target, _factor(name, "weight", weight, input), None, name, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """``-weight * (pos_weight target log(sigmoid(input)) + (1 - target) log(1 - sigmoid(input)))``, reduced.

    >>> import fastnet
    >>> binary_cross_entropy_with_logits(fastnet.tensor([0.0]), fastnet.tensor([1.0]))
    tensor(0.6931)
    """
    name = "binary_cross_entropy_with_logits"
    reduction = reduction_of(name, size_average, reduce, reduction)
    input, target = _same_shape(name, input, target)
    return PointwiseLoss.apply(
        input,
        target,
        _factor(name, "weight", weight, input),
        _factor(name, "pos_weight", pos_weight, input),
        name,
        reduction,
    )


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """``target (log(target) - input)`` for log-probabilities input, reduced; "batchmean": sum over first size.

    >>> import fastnet
    >>> kl_div(fastnet.tensor([-0.6931472]), fastnet.tensor([0.5]), reduction="sum").abs() < 1e-6
    tensor(True)
    """
    batchmean = reduction == "batchmean"
    reduction = reduction_of("kl_div", size_average, reduce, "sum" if batchmean else reduction)
    input, target = _broadcastable("kl_div", input, target)
    result = PointwiseLoss.apply(input, target, None, None, "kl_div_log_target" if log_target else "kl_div", reduction)
    return result / input.shape[0] if batchmean and input.ndim else result
