"""A linear layer and the cross-entropy of its scores with classes, by chunks of rows: large vocabularies without an
array of all scores."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.kernels._runtime import implementation
from fastnet.ops._numeric import rounded, wide
from fastnet.ops._operands import check_tensor
from fastnet.ops.losses import reduction_of
from fastnet.ops.pointwise import check_floating
from fastnet.ops.softmax import mean_loss

LEAST_ROWS = 128  # of a chunk: fewer leave a product's tiles half empty


def rows_at_once(rows: int, features: int, classes: int) -> int:
    """Rows of a chunk whose scores are about as many numbers as the input has."""
    return max(1, min(rows, max(LEAST_ROWS, rows * features // max(classes, 1))))


class LinearCrossEntropy(ArrayFunction):
    """Cross-entropy of input weight^T + bias; backward computes each chunk's scores again."""

    @staticmethod
    def forward(
        ctx: Any, x: Any, weight: Any, bias: Any, target: Any, options: dict[str, Any], reduction: str, chunk: int
    ) -> Any:
        ctx.bias, ctx.target, ctx.options, ctx.chunk, ctx.reduction = bias, target, options, chunk, reduction
        ctx.save(x, weight)
        parts = [losses for _, losses, _ in _chunks(x, weight, bias, target, options, chunk, False)]
        losses = namespace(x).concatenate(parts) if parts else wide(x[:, :0].sum(axis=1))
        ctx.mass = None
        if reduction == "none":
            return rounded(losses, x.dtype)
        total = losses.sum(dtype=losses.dtype)
        if reduction == "mean":
            total, ctx.mass = mean_loss(total, target, options["weight"], options["ignore_index"])
        return rounded(total, x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, weight = ctx.saved
        xp, sums = namespace(x), wide(x[:0]).dtype
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        dx = xp.zeros(x.shape, x.dtype) if of_x else None
        dw = xp.zeros(weight.shape, sums) if of_weight else None
        db = xp.zeros(weight.shape[:1], sums) if of_bias else None
        scale = wide(grad)
        if ctx.mass is not None:
            scale = scale / ctx.mass
        for rows, _, g in _chunks(x, weight, ctx.bias, ctx.target, ctx.options, ctx.chunk, True):
            g = rounded(wide(g) * (scale[rows, None] if ctx.reduction == "none" else scale), g.dtype)
            by = implementation(x)
            if dx is not None:
                dx[rows] = by.matmul(g, weight)
            if dw is not None:
                dw += by.matmul(g.T, x[rows])
            if db is not None:
                db += by.column_sum(g)
        narrow = [None if d is None else rounded(d, x.dtype) for d in (dw, db)]
        return dx, *narrow, None, None, None, None


def _chunks(
    x: Any, weight: Any, bias: Any, target: Any, options: dict[str, Any], chunk: int, with_gradient: bool
) -> Iterator[tuple[slice, Any, Any]]:
    """Rows, their losses and the gradients of their scores."""
    by = implementation(x)
    for start in range(0, x.shape[0], chunk):
        rows = slice(start, start + chunk)
        scores = by.matmul(x[rows], weight.T, bias=bias)
        yield rows, *by.cross_entropy(scores, target[rows], with_gradient=with_gradient, **options)


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    chunk_rows: int | None = None,
) -> Tensor:
    """``cross_entropy(linear(input, linear_weight, linear_bias), target, ...)`` without keeping the scores.

    Scores are made for some rows at a time, forward and once more in backward: a third more products than the two
    functions have, and memory for ``chunk_rows`` rows of scores in place of all.

    Args:
        input: (E) or (N, E), floating point.
        linear_weight, linear_bias: (C, E) and (C), of input's dtype.
        target: () or (N) class indices.
        weight, reduction, label_smoothing: as in ``cross_entropy``.
        ignore_index: a target that counts for nothing; None for -100.
        chunk_rows: rows of scores at a time, where PyTorch has ``options``; None for about as many numbers as input
            has, 128 rows at least.

    Raises:
        TypeError, ValueError: arguments that do not fit.
        IndexError: a class out of range; for tensors on the GPU at the next synchronising call.

    >>> import fastnet
    >>> linear_cross_entropy(fastnet.zeros(3, 2), fastnet.ones(4, 2), fastnet.tensor([0, 1, 2]))
    tensor(1.3863)
    """
    name = "linear_cross_entropy"
    reduction = reduction_of(name, None, None, reduction)
    check_floating(name, input)
    for argument, x in (("linear_weight", linear_weight), ("target", target)):
        check_tensor(name, x, argument)
    if input.dim() not in (1, 2) or linear_weight.dim() != 2 or input.shape[-1] != linear_weight.shape[1]:
        raise InputError(
            f"{name}: input has shape {list(input.shape)} and linear_weight {list(linear_weight.shape)}, expected "
            "(N, E) or (E) and (C, E)"
        )
    classes = linear_weight.shape[0]
    for argument, x in (("linear_bias", linear_bias), ("weight", weight)):
        if x is not None:
            check_tensor(name, x, argument)
            if tuple(x.shape) != (classes,):
                raise InputError(f"{name}: {argument} has shape {list(x.shape)}, expected [{classes}], one a class")
    for argument, x in (("linear_weight", linear_weight), ("linear_bias", linear_bias)):
        if x is not None and x.dtype is not input.dtype:
            raise InputError(f"{name}: {argument} has dtype {x.dtype}, expected input's {input.dtype}")
    if target.dtype.name not in ("int64", "int32", "uint8"):
        raise KindError(f"{name}: target has dtype {target.dtype}, expected class indices, int64, int32 or uint8")
    if tuple(target.shape) != tuple(input.shape[:-1]):
        raise InputError(f"{name}: target has shape {list(target.shape)}, expected {list(input.shape[:-1])}")
    if isinstance(label_smoothing, bool) or not isinstance(label_smoothing, (int, float, np.floating)):
        raise KindError(f"{name}: label_smoothing is a {type(label_smoothing).__name__}, expected a number")
    if not 0.0 <= label_smoothing <= 1.0:
        raise InputError(f"{name}: label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    options = {
        "weight": None if weight is None else weight._data,
        "ignore_index": -100 if ignore_index is None else operator.index(ignore_index),
        "label_smoothing": float(label_smoothing),
    }
    single = input.dim() == 1
    rows = input.reshape(1, -1) if single else input
    if chunk_rows is None:
        chunk_rows = rows_at_once(rows.shape[0], rows.shape[1], classes)
    elif isinstance(chunk_rows, bool) or not isinstance(chunk_rows, (int, np.integer)) or chunk_rows < 1:
        raise InputError(f"{name}: chunk_rows is {chunk_rows!r}, expected at least one row")
    out = LinearCrossEntropy.apply(
        rows, linear_weight, linear_bias, target._data.reshape(-1), options, reduction, int(chunk_rows)
    )
    return out.reshape(()) if single else out
