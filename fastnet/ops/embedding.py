"""Rows of a table by index; the gradient of a row is the sum over its uses, in a fixed order."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.ops._numeric import is_short, rounded, wide
from fastnet.ops.arithmetic import check_tensor
from fastnet.ops.indexing import add_at


class Embedding(ArrayFunction):
    """weight[index]."""

    @staticmethod
    def forward(ctx: Any, index: Any, weight: Any, padding_idx: int | None) -> Any:
        ctx.index, ctx.shape, ctx.padding = index, weight.shape, padding_idx
        return weight[index]

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        out = namespace(grad).zeros(ctx.shape, np.float32 if is_short(grad) else grad.dtype)
        add_at(out, ctx.index, wide(grad))
        if ctx.padding is not None:
            out[ctx.padding] = 0
        return None, rounded(out, grad.dtype), None


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """``weight[input]``: (...) integers and (rows, dim) give (..., dim). The row ``padding_idx`` has no gradient.

    Raises:
        IndexError: an index is out of range.
        TypeError, ValueError: wrong dtypes or shapes; max_norm, scale_grad_by_freq and sparse are not supported.
    """
    check_tensor("embedding", input)
    check_tensor("embedding", weight, "weight")
    if max_norm is not None or scale_grad_by_freq or sparse:
        raise ValueError("embedding: max_norm, scale_grad_by_freq and sparse are not supported")
    if input._data.dtype.kind not in "iu":
        raise TypeError(f"embedding: input has dtype {input.dtype.name}, expected int64 or int32")
    if weight.dim() != 2:
        raise ValueError(f"embedding: weight has shape {tuple(weight.shape)}, expected (rows, dim)")
    rows = weight.shape[0]
    x = input._data
    if x.size and isinstance(x, np.ndarray) and (x.min() < 0 or x.max() >= rows):
        raise IndexError(f"index out of range in self: embedding of {rows} rows, indices from {x.min()} to {x.max()}")
    return Embedding.apply(input, weight, None if padding_idx is None else padding_idx % rows)
