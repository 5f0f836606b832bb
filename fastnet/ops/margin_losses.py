"""Losses with margins and of distributions, composed of differentiable operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._device import namespace
from fastnet._faults import note
from fastnet._tensor import Tensor
from fastnet.autograd import no_grad
from fastnet.errors import InputError, KindError
from fastnet.ops._operands import cast, check_tensor
from fastnet.ops.activations import logsigmoid
from fastnet.ops.arithmetic import minimum
from fastnet.ops.distances import pairwise_distance
from fastnet.ops.elementwise import exp, log
from fastnet.ops.losses import reduction_of
from fastnet.ops.selection import where


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    return losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.mean()


def _check_floating(name: str, *tensors: tuple[str, Any]) -> None:
    for argument, x in tensors:
        check_tensor(name, x, argument)
        if not x.dtype.is_floating_point:
            raise KindError(f"{name}: {argument} has dtype {x.dtype.name}, expected floating point")


def _check_shapes(name: str, *tensors: Tensor) -> None:
    try:
        np.broadcast_shapes(*(tuple(x.shape) for x in tensors))
    except ValueError:
        shapes = ", ".join(str(tuple(x.shape)) for x in tensors)
        raise InputError(f"{name}: shapes {shapes} do not broadcast") from None


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """input where target is 1, max(0, margin - input) where it is -1; reduced."""
    name = "hinge_embedding_loss"
    reduction = reduction_of(name, size_average, reduce, reduction)
    _check_floating(name, ("input", input))
    check_tensor(name, target, "target")
    _check_shapes(name, input, target)
    apart = where(target != 1, (margin - input).clamp(min=0), 0.0)
    return _reduced(apart + where(target != -1, input, 0.0), reduction)


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin - target * (input1 - input2)), target 1 or -1; reduced."""
    name = "margin_ranking_loss"
    reduction = reduction_of(name, size_average, reduce, reduction)
    _check_floating(name, ("input1", input1), ("input2", input2))
    check_tensor(name, target, "target")
    if not input1.ndim == input2.ndim == target.ndim:
        raise InputError(
            f"margin_ranking_loss : All input tensors should have same dimension but got sizes: input1: "
            f"{tuple(input1.shape)}, input2: {tuple(input2.shape)}, target: {tuple(target.shape)}"
        )
    _check_shapes(name, input1, input2, target)
    return _reduced((-target * (input1 - input2) + margin).clamp(min=0), reduction)


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos(input1, input2) where target is 1, max(0, cos - margin) where it is -1; reduced.

    Args:
        input1, input2: (N, D) with target (N), or (D) with target ().
    """
    name = "cosine_embedding_loss"
    reduction = reduction_of(name, size_average, reduce, reduction)
    _check_floating(name, ("input1", input1), ("input2", input2))
    check_tensor(name, target, "target")
    if target.ndim > 1:
        raise InputError(f"{name}: target has shape {tuple(target.shape)}, expected (N) or ()")
    if input1.ndim != target.ndim + 1 or input2.ndim != target.ndim + 1:
        raise InputError(
            f"{name}: inputs have shapes {tuple(input1.shape)} and {tuple(input2.shape)}, expected "
            f"{target.ndim + 1} dimensions for target {tuple(target.shape)}"
        )
    _check_shapes(name, input1, input2)
    squares = ((input1 * input1).sum(-1) + 1e-12) * ((input2 * input2).sum(-1) + 1e-12)
    cosine = (input1 * input2).sum(-1) / squares.sqrt()
    _check_shapes(name, cosine, target)
    together = where(target == 1, 1 - cosine, 0.0)
    return _reduced(together + where(target == -1, (cosine - margin).clamp(min=0), 0.0), reduction)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin), d the p-norm along the last dimension; reduced.

    ``swap``: the smaller of d(anchor, negative) and d(positive, negative) counts (Balntas et al. 2016).
    """
    name = "triplet_margin_loss"
    reduction = reduction_of(name, size_average, reduce, reduction)
    if margin <= 0:
        raise InputError(f"margin must be greater than 0, got {margin}")
    _check_floating(name, ("anchor", anchor), ("positive", positive), ("negative", negative))
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise InputError(
            f"{name}: anchor, positive and negative have {anchor.ndim}, {positive.ndim} and {negative.ndim} "
            "dimensions, expected as many each"
        )

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return pairwise_distance(a, b, p, eps)

    return _triplet(anchor, positive, negative, distance, margin, swap, reduction)


def _triplet(
    anchor: Tensor, positive: Tensor, negative: Tensor, distance: Callable, margin: float, swap: bool, reduction: str
) -> Tensor:
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = minimum(far, distance(positive, negative))
    return _reduced((margin + near - far).clamp(min=0), reduction)


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """As ``triplet_margin_loss``, with any distance; by default ``pairwise_distance``."""
    name = "triplet_margin_with_distance_loss"
    reduction = reduction_of(name, None, None, reduction)
    if margin <= 0:
        raise InputError(f"margin must be greater than 0, got {margin}")
    for argument, x in (("anchor", anchor), ("positive", positive), ("negative", negative)):
        check_tensor(name, x, argument)
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise InputError(f"{name}: anchor, positive and negative have different numbers of dimensions")
    return _triplet(anchor, positive, negative, distance_function or pairwise_distance, margin, swap, reduction)


def _classes(name: str, input: Any, target: Any, per_row: bool) -> tuple[Tensor, Tensor]:
    """Scores as (N, C) and int64 targets as (N) or, unless per_row, (N, C); ValueError for other shapes."""
    _check_floating(name, ("input", input))
    check_tensor(name, target, "target")
    if target.dtype is not _dtypes.int64:
        raise KindError(f"{name}: target has dtype {target.dtype.name}, expected int64")
    n, c = (input.shape[0], input.shape[1]) if input.ndim == 2 else (1, input.numel())
    fits = input.ndim <= 2 and c > 0
    if per_row:
        fits = fits and target.ndim <= 1 and target.numel() == n
    else:
        fits = fits and (tuple(target.shape) == tuple(input.shape) or (input.ndim < 2 and target.numel() == c))
    if not fits:
        raise InputError(
            f"{name}: input has shape {tuple(input.shape)} and target {tuple(target.shape)}, expected (N, C) or (C) "
            "and " + ("(N) or ()" if per_row else "the same")
        )
    return input.reshape(n, c), target.reshape(n) if per_row else target.reshape(n, c)


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """sum over j != y of weight[y] * max(0, margin - input[y] + input[j])^p / C; reduced.

    Args:
        input: (N, C) or (C) scores. target: (N) or () int64 classes y. weight: (C).
    """
    name = "multi_margin_loss"
    reduction = reduction_of(name, size_average, reduce, reduction)
    if p not in (1, 2):
        raise InputError("only p == 1 and p == 2 supported")
    rows, classes = _classes(name, input, target, per_row=True)
    count = rows.shape[1]
    if weight is not None:
        check_tensor(name, weight, "weight")
        if tuple(weight.shape) != (count,):
            raise InputError(f"{name}: weight has shape {tuple(weight.shape)}, expected ({count},)")
    index = classes.unsqueeze(1)
    others = where(_columns(rows).unsqueeze(0) != index, 1.0, 0.0).to(rows.dtype)
    losses = (margin - rows.gather(1, index) + rows).clamp(min=0)
    losses = (losses * losses if p == 2 else losses) * others
    if weight is not None:
        losses = losses * weight[classes].unsqueeze(1)
    losses = losses.sum(1) / count
    return _reduced(losses.reshape(()) if reduction == "none" and input.ndim < 2 else losses, reduction)


def _columns(rows: Tensor) -> Tensor:
    """The numbers of the columns, beside ``rows``."""
    return Tensor._wrap(namespace(rows._data).arange(rows.shape[1]))


def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """sum over targets y and classes i that are no targets of max(0, 1 - input[y] + input[i]) / C; reduced.

    Args:
        input: (N, C) or (C) scores. target: as input, int64: a row's classes up to the first -1.
    """
    name = "multilabel_margin_loss"
    reduction = reduction_of(name, size_average, reduce, reduction)
    rows, classes = _classes(name, input, target, per_row=False)
    xp, t = namespace(rows._data), classes._data
    count = rows.shape[1]
    listed = xp.cumsum(t == -1, axis=1) == 0
    bad = listed & ((t < 0) | (t >= count))
    if not isinstance(t, np.ndarray):
        note(name, f"target is out of range, expected classes less than {count}", bad, InputError)
    elif bad.any():
        raise InputError(f"{name}: argument #2 'target' is out of range: {t[bad][0]}, expected less than {count}")
    listed = listed & ~bad
    is_target = xp.zeros((rows.shape[0], count + 1), bool)  # the last column takes what is not listed
    xp.put_along_axis(is_target, xp.where(listed, t, count), True, axis=1)
    safe = Tensor._wrap(xp.where(listed, t, 0))
    pairs = listed[:, :, None] & ~is_target[:, None, :count]  # (N, target, class)
    margins = (1 - rows.gather(1, safe).unsqueeze(2) + rows.unsqueeze(1)).clamp(min=0)
    losses = where(Tensor._wrap(pairs), margins, 0.0).sum((1, 2)) / count
    return _reduced(losses.reshape(()) if reduction == "none" and input.ndim < 2 else losses, reduction)


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over classes of -weight * (target log(sigmoid(input)) + (1 - target) log(sigmoid(-input))); reduced."""
    name = "multilabel_soft_margin_loss"
    reduction = reduction_of(name, size_average, reduce, reduction)
    _check_floating(name, ("input", input))
    check_tensor(name, target, "target")
    _check_shapes(name, input, target)
    losses = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    if weight is not None:
        check_tensor(name, weight, "weight")
        _check_shapes(name, losses, weight)
        losses = losses * weight
    return _reduced(losses.sum(-1) / input.shape[-1], reduction)


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """exp(input) - target * input, or without ``log_input`` input - target * log(input + eps); reduced.

    ``full`` adds Stirling's approximation of log(target!) where target is above 1.
    """
    name = "poisson_nll_loss"
    reduction = reduction_of(name, size_average, reduce, reduction)
    _check_floating(name, ("input", input))
    check_tensor(name, target, "target")
    _check_shapes(name, input, target)
    losses = exp(input) - target * input if log_input else input - target * log(input + eps)
    if full:
        stirling = target * log(target) - target + 0.5 * log(2 * math.pi * target)
        losses = losses + stirling.masked_fill(target <= 1, 0)
    return _reduced(losses, reduction)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Any,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """(log(var) + (input - target)^2 / var) / 2, var at least eps; reduced. ``full`` adds log(2 pi) / 2.

    Args:
        var: input's shape, or that without the last dimension, or with one dimension of size 1; or a number.
    """
    name = "gaussian_nll_loss"
    _check_floating(name, ("input", input))
    check_tensor(name, target, "target")
    if isinstance(var, float):
        var = Tensor._wrap(namespace(input._data).full(tuple(input.shape), var, input._data.dtype))
    check_tensor(name, var, "var")
    if not isinstance(var._data, np.ndarray):
        note(name, "var has negative entry/entries", var._data < 0, InputError)
    elif bool((var._data < 0).any()):
        raise InputError("var has negative entry/entries")
    shape, of_var = tuple(input.shape), tuple(var.shape)
    if of_var != shape:
        if shape[:-1] == of_var:
            var = var.unsqueeze(-1)
        elif len(shape) != len(of_var) or sum(b for a, b in zip(shape, of_var, strict=True) if a != b) != 1:
            raise InputError("var is of incorrect size")
    reduction = reduction_of(name, None, None, reduction)
    _check_shapes(name, input, target, var)
    var = cast(var, input.dtype) if not var.dtype.is_floating_point else var.clone()
    with no_grad():  # the gradient is that of the value used, however small var was
        var.clamp_(min=eps)
    losses = 0.5 * (log(var) + (input - target) ** 2 / var)
    return _reduced(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)
