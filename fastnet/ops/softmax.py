"""Softmax, log-softmax and the losses over classes as differentiable operations."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._device import namespace
from fastnet._faults import note
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.kernels._runtime import implementation
from fastnet.ops._numeric import axis_of, rounded, wide
from fastnet.ops._operands import cast, check_tensor
from fastnet.ops.losses import reduction_of


class Softmax(ArrayFunction):
    """exp(x) / sum(exp(x)) along an axis; the result is kept for backward."""

    @staticmethod
    def forward(ctx: Any, x: Any, axis: int) -> Any:
        y = implementation(x).softmax(x, axis=axis)
        ctx.axis = axis
        ctx.save(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (y,) = ctx.saved
        return implementation(y).softmax_backward(grad, y, axis=ctx.axis), None


class LogSoftmax(ArrayFunction):
    """log softmax(x) along an axis; the result is kept for backward."""

    @staticmethod
    def forward(ctx: Any, x: Any, axis: int) -> Any:
        y = implementation(x).log_softmax(x, axis=axis)
        ctx.axis = axis
        ctx.save(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (y,) = ctx.saved
        return implementation(y).log_softmax_backward(grad, y, axis=ctx.axis), None


def _prepared(name: str, input: Tensor, dim: int | None, dtype: Any) -> tuple[Tensor, int]:
    check_tensor(name, input)
    if dtype is not None:
        input = cast(input, _dtypes.as_dtype(dtype))
    if not input.dtype.is_floating_point:
        raise KindError(f"{name}: input has dtype {input.dtype.name}, expected a floating-point dtype (or give dtype=)")
    if dim is None:
        warnings.warn(
            f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an "
            "argument.",
            stacklevel=3,
        )
        dim = 0 if input.ndim in (0, 1, 3) else 1
    return input, axis_of(dim, input.ndim, name)


def softmax(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """``exp(x) / sum(exp(x))`` along ``dim``, computed from x - max(x).

    Args:
        input: floating-point tensor.
        dim: the dimension along which the results sum to 1.
        dtype: the input is converted to it first.

    >>> import fastnet
    >>> softmax(fastnet.tensor([0.0, 0.0]), dim=0)
    tensor([0.5000, 0.5000])
    """
    return Softmax.apply(*_prepared("softmax", input, dim, dtype))


def log_softmax(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """``log(softmax(input, dim))``, computed as ``x - max(x) - log(sum(exp(x - max(x))))``. Arguments as ``softmax``'s.

    >>> import fastnet
    >>> log_softmax(fastnet.tensor([0.0, 0.0]), dim=0)
    tensor([-0.6931, -0.6931])
    """
    return LogSoftmax.apply(*_prepared("log_softmax", input, dim, dtype))


def functional_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """``softmax`` as ``nn.functional`` has it, with a number for warnings before the dtype."""
    return softmax(input, dim, dtype)


def functional_log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """``log_softmax`` as ``nn.functional`` has it, with a number for warnings before the dtype."""
    return log_softmax(input, dim, dtype)


def _rows(x: Any) -> Any:
    """(C), (N, C) or (N, C, d...) as (rows, C)."""
    if x.ndim <= 1:
        return x.reshape(1, -1)
    if x.ndim == 2:
        return x
    # An (N, C, d...) array can be seen as rows without a copy only for N = 1.
    return namespace(x).moveaxis(x, 1, -1).reshape(-1, x.shape[1])


def _as_input(rows: Any, shape: tuple[int, ...]) -> Any:
    """The inverse of _rows."""
    if len(shape) <= 2:
        return rows.reshape(shape)
    return namespace(rows).moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)


def _or_infinite(mass: Any, counts: Any) -> Any:
    """The mass that gradients are divided by: where no target counts the mean is NaN, and its gradient 0."""
    xp = namespace(counts)
    return xp.where(counts.any(), mass, np.inf).astype(mass.dtype)


def _mass(target: Any, weight: Any, ignore_index: int, accumulator: Any) -> Any:
    """What the mean divides by: the weights of the targets that count. An array without dimensions."""
    xp = namespace(target)
    counts = target != ignore_index
    if weight is None:
        return counts.sum().astype(accumulator)
    valid = xp.clip(target, 0, max(weight.shape[0] - 1, 0)).astype(np.int64)
    if weight.shape[0] == 0:
        return xp.zeros((), accumulator)
    return xp.where(counts, weight.astype(accumulator)[valid], 0).sum(dtype=accumulator)


def mean_loss(total: Any, target: Any, weight: Any, ignore_index: int) -> tuple[Any, Any]:
    """The mean of losses from their sum, and what gradients are divided by."""
    mass = _mass(target, weight, ignore_index, total.dtype)
    with np.errstate(all="ignore"):
        return total / mass, _or_infinite(mass, target != ignore_index)


class CrossEntropy(ArrayFunction):
    """Fused cross-entropy with class targets.

    Where the logits need a gradient it is computed with the loss, while each row is in cache, and kept: one array of
    their size and dtype in place of the logits and their log-softmax. Backward only scales it.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, target: Any, weight: Any, ignore_index: int, reduction: str, smoothing: float) -> Any:
        rows, classes_of = _rows(x), target.reshape(-1)
        needed = ctx.needs_input_grad[0]
        losses, gradient = implementation(x).cross_entropy(
            rows, classes_of, weight=weight, ignore_index=ignore_index, label_smoothing=smoothing, with_gradient=needed
        )
        ctx.shape, ctx.reduction, ctx.mass = x.shape, reduction, None
        ctx.how = target, weight, ignore_index, smoothing
        ctx.save(gradient)
        if reduction == "none":
            return rounded(losses, x.dtype).reshape(target.shape)
        total = losses.sum(dtype=losses.dtype)
        if reduction == "mean":
            total, ctx.mass = mean_loss(total, classes_of, weight, ignore_index)
        return rounded(total, x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (gradient,) = ctx.saved
        if gradient is None:
            return None, None, None, None, None, None
        scale = wide(grad)
        with np.errstate(all="ignore"):
            if ctx.mass is not None:
                scale = scale / ctx.mass
            if ctx.reduction == "none":
                scale = scale.reshape(-1, 1)
            out = rounded(wide(gradient) * scale, gradient.dtype)
        return _as_input(out, ctx.shape), None, None, None, None, None


class NLL(ArrayFunction):
    """-weight[target] * input[target] of log-probabilities."""

    @staticmethod
    def forward(ctx: Any, x: Any, target: Any, weight: Any, ignore_index: int, reduction: str) -> Any:
        xp = namespace(x)
        rows, t = _rows(x), target.reshape(-1).astype(np.int64)
        count, classes = rows.shape
        ignored = t == ignore_index
        bad = ((t < 0) | (t >= classes)) & ~ignored
        if xp is np:
            if bad.any():
                raise IndexError(
                    f"nll_loss: target holds {t[bad][0]}, a class outside [0, {classes}) that is not ignore_index"
                )
        else:
            note("nll_loss", "target holds a class outside [0, classes) that is not ignore_index", bad)
        skip = ignored | bad
        accumulator = np.dtype(np.float64 if x.dtype == np.float64 else np.float32)
        ctx.index, ctx.target = xp.arange(count), xp.where(skip, 0, t)
        ctx.weight = (
            xp.ones(count, accumulator)
            if weight is None
            else weight.astype(accumulator)[ctx.target]
            if classes
            else xp.zeros(count, accumulator)
        )
        ctx.weight = xp.where(skip, 0, ctx.weight).astype(accumulator)
        ctx.shape, ctx.dtype, ctx.reduction, ctx.classes, ctx.mass = x.shape, x.dtype, reduction, classes, None
        with np.errstate(all="ignore"):
            chosen = rows[ctx.index, ctx.target].astype(accumulator) if classes else xp.zeros(count, accumulator)
            losses = xp.where(skip, 0, -ctx.weight * chosen).astype(accumulator)
            if reduction == "none":
                return rounded(losses, x.dtype).reshape(target.shape)
            total = losses.sum(dtype=accumulator)
            if reduction == "mean":
                ctx.mass = ctx.weight.sum(dtype=accumulator)
                total = total / ctx.mass
                ctx.mass = _or_infinite(ctx.mass, ~skip)
        return rounded(total, x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        scale = wide(grad)
        with np.errstate(all="ignore"):
            if ctx.mass is not None:
                scale = scale / ctx.mass
            each = -ctx.weight * (scale.reshape(-1) if ctx.reduction == "none" else scale)
        out = namespace(grad).zeros((ctx.index.shape[0], ctx.classes), ctx.dtype)
        if ctx.classes:
            out[ctx.index, ctx.target] = each.astype(ctx.dtype)
        return _as_input(out, ctx.shape), None, None, None, None


def _check_classes(name: str, input: Tensor, target: Tensor, weight: Tensor | None) -> None:
    """Shapes and dtypes of (C), (N, C) or (N, C, d...) scores with class indices."""
    check_tensor(name, input)
    check_tensor(name, target, "target")
    if not input.dtype.is_floating_point:
        raise KindError(f"{name}: input has dtype {input.dtype.name}, expected a floating-point dtype")
    if input.ndim == 0:
        raise InputError(f"{name}: input has no dimensions, expected (C), (N, C) or (N, C, d1, ...)")
    if target.dtype.name not in ("int64", "int32", "uint8"):
        raise KindError(f"{name}: target has dtype {target.dtype.name}, expected int64, int32 or uint8 class indices")
    expected = () if input.ndim == 1 else (input.shape[0], *input.shape[2:])
    if tuple(target.shape) != expected:
        if input.ndim == 2 and target.ndim == 1:
            raise InputError(
                f"Expected input batch_size ({input.shape[0]}) to match target batch_size ({target.shape[0]})."
            )
        raise InputError(
            f"{name}: target has shape {tuple(target.shape)}, expected {expected} for input {tuple(input.shape)}"
        )
    _check_weight(name, input, weight)


def _check_weight(name: str, input: Tensor, weight: Tensor | None) -> None:
    if weight is None:
        return
    check_tensor(name, weight, "weight")
    classes = input.shape[1 if input.ndim > 1 else 0]
    if not weight.dtype.is_floating_point or tuple(weight.shape) != (classes,):
        raise InputError(
            f"{name}: weight is {weight.dtype.name} of shape {tuple(weight.shape)}, expected floats ({classes},)"
        )


def _array(x: Tensor | None) -> Any:
    return None if x is None else x._data


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of scores with classes, fused with log-softmax, or with class probabilities.

    ``loss[n] = -(1 - s) weight[t] logp[n, t] - s / C * sum_c weight[c] logp[n, c]``; "mean" divides the sum by the sum
    of ``weight[t]`` over targets that count.

    Args:
        input: (C), (N, C) or (N, C, d1, ...) unnormalised scores, floating point.
        target: (), (N) or (N, d1, ...) class indices; or floating-point probabilities of input's shape.
        weight: (C) weights of the classes.
        ignore_index: a target that counts for nothing (class indices only).
        reduction: "mean", "sum" or "none"; size_average and reduce are its deprecated forms.
        label_smoothing: s, in [0, 1].

    Raises:
        TypeError, ValueError: arguments that do not fit.
        IndexError: a class out of range; for tensors on the GPU at the next synchronising call.

    >>> import fastnet
    >>> cross_entropy(fastnet.zeros(3, 4), fastnet.tensor([0, 1, 2]))
    tensor(1.3863)
    """
    name = "cross_entropy"
    reduction = reduction_of(name, size_average, reduce, reduction)
    if (
        isinstance(label_smoothing, bool)
        or not isinstance(label_smoothing, (int, float))
        or not 0.0 <= label_smoothing <= 1.0
    ):
        raise InputError(f"{name}: label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    check_tensor(name, input)
    check_tensor(name, target, "target")
    if target.dtype.is_floating_point:
        return _with_probabilities(input, target, weight, ignore_index, reduction, label_smoothing)
    _check_classes(name, input, target, weight)
    return CrossEntropy.apply(input, target, _array(weight), ignore_index, reduction, float(label_smoothing))


def _with_probabilities(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, smoothing: float
) -> Tensor:
    """Cross-entropy with a probability for every class, by composition: also the target has a gradient."""
    name = "cross_entropy"
    if tuple(target.shape) != tuple(input.shape) or input.ndim == 0:
        raise InputError(
            f"{name}: probabilities have shape {tuple(target.shape)}, expected that of input, {tuple(input.shape)}"
        )
    if ignore_index >= 0:
        raise InputError(f"{name}: ignore_index is {ignore_index}, expected none with probabilities for target")
    _check_weight(name, input, weight)
    axis = 1 if input.ndim > 1 else 0
    classes = input.shape[axis]
    if smoothing:
        target = target * (1 - smoothing) + smoothing / classes
    product = log_softmax(input, axis) * target
    if weight is not None:
        product = product * weight.reshape([classes if i == axis else 1 for i in range(input.ndim)])
    losses = -product.sum(axis)
    if reduction == "none":
        return losses
    total = losses.sum()
    return total if reduction == "sum" else total / losses.numel()


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood: ``loss[n] = -weight[t] input[n, t]``. Arguments as ``cross_entropy``'s.

    >>> import fastnet
    >>> nll_loss(fastnet.tensor([[-0.5, -2.0]]), fastnet.tensor([1]))
    tensor(2.)
    """
    reduction = reduction_of("nll_loss", size_average, reduce, reduction)
    _check_classes("nll_loss", input, target, weight)
    return NLL.apply(input, target, _array(weight), ignore_index, reduction)
