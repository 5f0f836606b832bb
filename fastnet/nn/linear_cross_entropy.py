"""A linear layer and the cross-entropy of its results as one loss."""

from __future__ import annotations

import math
from typing import Any

from fastnet._tensor import Tensor
from fastnet.errors import InputError, KindError
from fastnet.nn import functional as F
from fastnet.nn.linear import Linear
from fastnet.nn.loss import _WeightedLoss


class LinearCrossEntropyLoss(_WeightedLoss):
    """Cross-entropy of ``Linear``'s results, which are made for some rows at a time and never kept whole:
    ``F.linear_cross_entropy``. Losses of several dimensions and class probabilities are computed by the two functions.

    Args:
        in_features: of the input.
        num_classes: how many classes.
        out_features: dimensions of the loss after the batch's.
        bias: whether the linear layer has one.
        device, dtype: of its parameters.
        reduction, weight, ignore_index, label_smoothing: as ``CrossEntropyLoss``; ignore_index None for -100.
        options: None.
        chunk_rows: rows at a time, where PyTorch has ``options``; None for a number that fits the sizes.

    >>> import fastnet
    >>> loss = fastnet.nn.LinearCrossEntropyLoss(8, 5)
    >>> loss(fastnet.ones(3, 8), fastnet.tensor([0, 4, 2])).shape
    fastnet.Size([])
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        device: Any = None,
        dtype: Any = None,
        reduction: str = "mean",
        weight: Tensor | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        options: Any = None,
        chunk_rows: int | None = None,
    ):
        if weight is not None and not isinstance(weight, Tensor):
            raise KindError(f"expected weight to be a Tensor, got {type(weight).__name__}")
        if weight is not None and tuple(weight.shape) != (num_classes,):
            raise InputError(f"expected weight shape to be {(num_classes,)}, got {tuple(weight.shape)}")
        if not 0 <= label_smoothing <= 1:
            raise InputError(f"expected label_smoothing to be in range [0, 1], got {label_smoothing}")
        if options is not None:
            raise InputError("LinearCrossEntropyLoss: options is given, expected None: chunk_rows is what there is")
        super().__init__(weight, reduction=reduction)
        self.num_classes, self.out_features = num_classes, tuple(out_features)
        self.ignore_index, self.label_smoothing, self.chunk_rows = ignore_index, label_smoothing, chunk_rows
        self.linear = Linear(in_features, math.prod(out_features, start=num_classes), bias, device, dtype)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if self.out_features or target.is_floating_point():
            scores = self.linear(input)
            shape = (*input.shape[:-1], self.num_classes, *self.out_features)
            return F.cross_entropy(
                scores.reshape(shape),
                target,
                weight=self.weight,
                ignore_index=-100 if self.ignore_index is None else self.ignore_index,
                reduction=self.reduction,
                label_smoothing=self.label_smoothing,
            )
        return F.linear_cross_entropy(
            input,
            self.linear.weight,
            target,
            linear_bias=self.linear.bias,
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            chunk_rows=self.chunk_rows,
        )

    def extra_repr(self) -> str:
        return (
            f"in_features={self.linear.in_features}, num_classes={self.num_classes}, "
            f"out_features={self.out_features}, bias={self.linear.bias is not None}, reduction={self.reduction}, "
            f"ignore_index={self.ignore_index}, label_smoothing={self.label_smoothing}, options=None"
        )
