"""Normalisations as differentiable operations, by PyTorch's names and arguments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._dtypes import promote_types
from fastnet._random import default_generator
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError
from fastnet.kernels._runtime import implementation
from fastnet.kernels.dropout import check_probability
from fastnet.ops._operands import cast
from fastnet.ops.pointwise import check_floating


class LayerNorm(ArrayFunction):
    """(x - mean) * rstd * weight + bias along the last dimensions, those of ``shape``."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, shape: tuple[int, ...], eps: float) -> Any:
        cols = math.prod(shape)
        rows = x.reshape(math.prod(x.shape[: x.ndim - len(shape)]), cols)
        flat = [None if p is None else p.reshape(cols) for p in (weight, bias)]
        y, mean, rstd = implementation(x).layer_norm(rows, *flat, eps=eps)
        ctx.save(x, mean, rstd, weight)
        ctx.shape = shape
        return y.reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, mean, rstd, weight = ctx.saved
        cols = math.prod(ctx.shape)
        rows = x.reshape(-1 if cols else math.prod(x.shape[: x.ndim - len(ctx.shape)]), cols)
        dx, of_weight, of_bias = implementation(grad).layer_norm_backward(
            grad.reshape(rows.shape), rows, mean, rstd, None if weight is None else weight.reshape(cols)
        )
        return dx.reshape(x.shape), of_weight.reshape(ctx.shape), of_bias.reshape(ctx.shape), None, None


class RMSNorm(ArrayFunction):
    """x * rstd * weight along the last dimensions, those of ``shape``."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, shape: tuple[int, ...], eps: float) -> Any:
        cols = math.prod(shape)
        rows = x.reshape(math.prod(x.shape[: x.ndim - len(shape)]), cols)
        y, rstd = implementation(x).rms_norm(rows, None if weight is None else weight.reshape(cols), eps=eps)
        ctx.save(x, rstd, weight)
        ctx.shape = shape
        return y.reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, rstd, weight = ctx.saved
        cols = math.prod(ctx.shape)
        rows = x.reshape(rstd.size, cols)
        dx, of_weight = implementation(grad).rms_norm_backward(
            grad.reshape(rows.shape), rows, rstd, None if weight is None else weight.reshape(cols)
        )
        return dx.reshape(x.shape), of_weight.reshape(ctx.shape), None, None


class AddNorm(ArrayFunction):
    """The layer norm of residual + dropout(x) along the last dimensions, or its RMS norm, and the sum itself."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Any,
        residual: Any,
        weight: Any,
        bias: Any,
        shape: tuple[int, ...],
        centred: bool,
        eps: float,
        drawn: dict[str, Any],
    ) -> Any:
        cols = math.prod(shape)
        rows = (math.prod(x.shape[: x.ndim - len(shape)]), cols)
        flat = [None if p is None else p.reshape(cols) for p in (weight, bias)]
        y, total, mean, rstd = implementation(x).add_norm(
            x.reshape(rows), residual.reshape(rows), *flat, centred=centred, eps=eps, **drawn
        )
        ctx.save(total, mean, rstd, weight)
        ctx.shape, ctx.drawn = shape, drawn
        return y.reshape(x.shape), total.reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, grad: Any, of_total: Any) -> Any:
        total, mean, rstd, weight = ctx.saved
        shape = total.shape if grad is None else grad.shape
        if of_total is not None:
            shape, of_total = of_total.shape, of_total.reshape(total.shape)
        grad = namespace(total).zeros_like(total) if grad is None else grad.reshape(total.shape)
        flat = None if weight is None else weight.reshape(total.shape[1])
        of_x, of_residual, *of_parameters = implementation(total).add_norm_backward(
            grad, total, mean, rstd, flat, of_total=of_total, **ctx.drawn
        )
        of_weight, of_bias = (g.reshape(ctx.shape) for g in of_parameters)
        return of_x.reshape(shape), of_residual.reshape(shape), of_weight, of_bias, None, None, None, None


class GroupNorm(ArrayFunction):
    """(x - mean) * rstd * weight + bias by groups of channels."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any, groups: int, eps: float) -> Any:
        y, mean, rstd = implementation(x).group_norm(x, groups, weight, bias, eps=eps)
        ctx.save(x, mean, rstd, weight)
        ctx.groups = groups
        return y

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, mean, rstd, weight = ctx.saved
        return (
            *implementation(grad).group_norm_backward(grad, x, ctx.groups, mean, rstd, weight),
            None,
            None,
        )


class BatchNorm(ArrayFunction):
    """activation((x - mean) * rstd * weight + bias + residual) with the batch's own statistics."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Any,
        weight: Any,
        bias: Any,
        residual: Any,
        running_mean: Any,
        running_var: Any,
        momentum: float,
        eps: float,
        activation: str,
    ) -> Any:
        y, mean, rstd = implementation(x).batch_norm(
            x,
            weight,
            bias,
            eps=eps,
            running_mean=running_mean,
            running_var=running_var,
            momentum=momentum,
            activation=activation,
            residual=residual,
        )
        ctx.save(x, mean, rstd, weight, None if activation == "none" else y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return *_batch_norm_backward(ctx, grad, True), None, None, None, None, None


class BatchNormInference(ArrayFunction):
    """activation((x - running_mean) / sqrt(running_var + eps) * weight + bias + residual)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Any,
        weight: Any,
        bias: Any,
        residual: Any,
        running_mean: Any,
        running_var: Any,
        eps: float,
        activation: str,
    ) -> Any:
        y = implementation(x).batch_norm_inference(
            x, running_mean, running_var, weight, bias, eps=eps, activation=activation, residual=residual
        )
        if any(ctx.needs_input_grad):
            sums = np.float64 if x.dtype == np.float64 else np.float32
            rstd = (running_var.astype(sums) + sums(eps)) ** -0.5
            ctx.save(x, running_mean.astype(sums), rstd, weight, None if activation == "none" else y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return *_batch_norm_backward(ctx, grad, False), None, None, None, None


def _batch_norm_backward(ctx: Any, grad: Any, batch_statistics: bool) -> tuple[Any, Any, Any, Any]:
    x, mean, rstd, weight, y = ctx.saved
    return implementation(grad).batch_norm_backward(
        grad,
        x,
        mean,
        rstd,
        weight,
        y=y,
        batch_statistics=batch_statistics,
        residual_gradient=ctx.needs_input_grad[3],
    )


# ---- the public functions ------------------------------------------------------------------------------------------


def _check_shape(name: str, input: Tensor, shape: Sequence[int] | int, parameters: dict[str, Any]) -> tuple[int, ...]:
    """normalized_shape as a tuple; RuntimeError unless input ends in it and parameters have it."""
    check_floating(name, input)
    shape = (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(shape)
    if not shape:
        raise InputError(f"{name}: expected normalized_shape to be at least 1-dimensional, got ()")
    if tuple(input.shape[-len(shape) :]) != shape:
        raise InputError(
            f"{name}: given normalized_shape={list(shape)}, expected input with shape "
            f"[*, {', '.join(map(str, shape))}], but got input of size {list(input.shape)}"
        )
    for argument, p in parameters.items():
        if p is not None and tuple(p.shape) != shape:
            raise InputError(f"{name}: expected {argument} of shape {list(shape)}, got {list(p.shape)}")
    return shape


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` along the last dimensions (Ba, Kiros and Hinton 2016).

    Args:
        input: (..., *normalized_shape).
        normalized_shape: the dimensions with a common mean and (biased) variance.
        weight, bias: of that shape, of input's dtype or, for 16-bit input, float32; or None.
        eps: added to the variance.

    >>> import fastnet
    >>> layer_norm(fastnet.tensor([1.0, -1.0]), (2,), eps=0.0)
    tensor([ 1., -1.])
    """
    shape = _check_shape("layer_norm", input, normalized_shape, {"weight": weight, "bias": bias})
    return LayerNorm.apply(input, weight, bias, shape, float(eps))


def rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """``x / sqrt(mean(x^2) + eps) * weight`` along the last dimensions (Zhang and Sennrich 2019).

    Arguments as ``layer_norm``'s; eps None is the smallest number that added to 1 makes a difference in input's dtype.
    """
    shape = _check_shape("rms_norm", input, normalized_shape, {"weight": weight})
    return RMSNorm.apply(input, weight, shape, float(_rms_epsilon(input) if eps is None else eps))


def _rms_epsilon(input: Tensor) -> float:
    import ml_dtypes

    return float(ml_dtypes.finfo(input._data.dtype).eps)


def _add_norm(
    name: str,
    input: Tensor,
    residual: Tensor,
    shape: tuple[int, ...],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    dropout_p: float,
    centred: bool,
) -> tuple[Tensor, Tensor]:
    check_floating(name, residual)
    if residual.shape != input.shape:
        raise InputError(
            f"{name}: residual has shape {list(residual.shape)}, expected input's shape {list(input.shape)}"
        )
    dtype = promote_types(input.dtype, residual.dtype)
    input, residual = cast(input, dtype), cast(residual, dtype)
    p = check_probability(name, dropout_p)
    drawn: dict[str, Any] = {"dropout_p": p}
    if p:
        drawn["state"] = default_generator.state_array(namespace(input._data))
        drawn["offset"] = default_generator.next_offset()
    return AddNorm.apply(input, residual, weight, bias, shape, centred, float(eps), drawn)


def add_layer_norm(
    input: Tensor,
    residual: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    dropout_p: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """``total = residual + dropout(input)`` and its ``layer_norm``, in one pass over memory, as are the gradients: the
    seam between two parts of a transformer block whose norms come first.

    Args:
        input, residual: (..., *normalized_shape), promoted to one dtype.
        normalized_shape, weight, bias, eps: as in ``layer_norm``.
        dropout_p: the probability that an element of input is dropped; applied whenever it is not 0.

    Returns:
        The normalised total, and total.

    >>> import fastnet
    >>> add_layer_norm(fastnet.tensor([1.0, 2.0]), fastnet.tensor([1.0, -4.0]), (2,), eps=0.0)
    (tensor([ 1., -1.]), tensor([ 2., -2.]))
    """
    shape = _check_shape("add_layer_norm", input, normalized_shape, {"weight": weight, "bias": bias})
    return _add_norm("add_layer_norm", input, residual, shape, weight, bias, eps, dropout_p, True)


def add_rms_norm(
    input: Tensor,
    residual: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
    *,
    dropout_p: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """``add_layer_norm`` with an ``rms_norm`` in the place of the layer norm."""
    shape = _check_shape("add_rms_norm", input, normalized_shape, {"weight": weight})
    eps = _rms_epsilon(input) if eps is None else eps
    return _add_norm("add_rms_norm", input, residual, shape, weight, None, eps, dropout_p, False)


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalisation of (N, C, ...) by groups of C / num_groups channels (Wu and He 2018). weight, bias: (C,)."""
    check_floating("group_norm", input)
    if input.dim() < 2:
        raise InputError(f"group_norm: expected at least 2 dimensions for input, got {input.dim()}")
    channels = input.shape[1]
    if num_groups < 1 or channels % num_groups:
        raise InputError(
            "group_norm: expected number of channels in input to be divisible by num_groups, but got input of shape "
            f"{list(input.shape)} and num_groups={num_groups}"
        )
    check_parameters("group_norm", channels, {"weight": weight, "bias": bias})
    return GroupNorm.apply(input, weight, bias, int(num_groups), float(eps))


def check_parameters(name: str, channels: int, parameters: dict[str, Any]) -> None:
    for argument, p in parameters.items():
        if p is not None and tuple(p.shape) != (channels,):
            raise InputError(f"{name}: expected {argument} to have {channels} elements, one a channel, got {p.numel()}")


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalisation of each channel of (N, C, ...) over the batch (Ioffe and Szegedy 2015).

    Args:
        input: (N, C, ...).
        running_mean, running_var: (C,), moved towards the batch's in training and used otherwise; or None in training.
        weight, bias: (C,) or None.
        training: whether to use the batch's statistics.
        momentum: what part of the running statistics the batch's replace.
        eps: added to the variance.
    """
    return batch_norm_activation(input, running_mean, running_var, weight, bias, training, momentum, eps)


def batch_norm_activation(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    activation: str = "none",
    residual: Tensor | None = None,
) -> Tensor:
    """``activation(batch_norm(input) + residual)`` in the passes over memory of ``batch_norm``.

    Arguments as ``batch_norm``'s; activation: ``"none"`` or ``"relu"``; residual: of input's shape and dtype, or None.
    """
    check_floating("batch_norm", input)
    if input.dim() < 2:
        raise InputError(f"batch_norm: expected at least 2 dimensions (N, C), got {input.dim()}")
    channels = input.shape[1]
    statistics = {"running_mean": running_mean, "running_var": running_var}
    check_parameters("batch_norm", channels, {**statistics, "weight": weight, "bias": bias})
    if not training:
        if running_mean is None or running_var is None:
            raise RuntimeError("batch_norm: expected running_mean and running_var to be defined when training=False")
        return BatchNormInference.apply(
            input, weight, bias, residual, running_mean._data, running_var._data, float(eps), activation
        )
    if input.numel() == channels:
        raise InputError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
    out = BatchNorm.apply(
        input,
        weight,
        bias,
        residual,
        None if running_mean is None else running_mean._data,
        None if running_var is None else running_var._data,
        float(momentum),
        float(eps),
        activation,
    )
    for s in statistics.values():
        if s is not None:
            s._version_counter[0] += 1
    return out


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalisation of each channel of each sample of (N, C, ...) (Ulyanov, Vedaldi and Lempitsky 2016).

    Arguments as ``batch_norm``'s; the running statistics move towards the average of the samples'.
    """
    check_floating("instance_norm", input)
    if input.dim() < 3:
        raise InputError(f"instance_norm: expected at least 3 dimensions (N, C, ...), got {input.dim()}")
    channels = input.shape[1]
    check_parameters(
        "instance_norm",
        channels,
        {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias},
    )
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if math.prod(input.shape[2:]) == 1:
        raise InputError(f"Expected more than 1 spatial element when training, got input size {input.shape}")
    out = GroupNorm.apply(input, weight, bias, channels, float(eps))
    if running_mean is not None or running_var is not None:
        axes = tuple(range(2, input.dim()))
        values = input._data.astype(np.float64 if input._data.dtype == np.float64 else np.float32)
        for running, of_samples in (
            (running_mean, values.mean(axis=axes)),
            (running_var, values.var(axis=axes, ddof=1)),
        ):
            if running is not None:
                moved = (1 - momentum) * running._data.astype(values.dtype) + momentum * of_samples.mean(axis=0)
                running._data[...] = moved.astype(running._data.dtype)
                running._version_counter[0] += 1
    return out
