"""Rows of a table by index as differentiable operations, on the embedding kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._device import namespace
from fastnet._faults import note
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction, no_grad
from fastnet.errors import InputError, KindError
from fastnet.kernels._runtime import implementation
from fastnet.ops._numeric import rounded, wide
from fastnet.ops._operands import check_tensor


class Embedding(ArrayFunction):
    """weight[index]. The gradient sums in a fixed order; ``by_frequency`` divides it by how often a row was used."""

    @staticmethod
    def forward(ctx: Any, index: Any, weight: Any, padding_idx: int | None, by_frequency: bool) -> Any:
        ctx.index, ctx.shape, ctx.padding, ctx.by_frequency = index, weight.shape, padding_idx, by_frequency
        return implementation(weight).embedding(weight, index.reshape(-1)).reshape(*index.shape, weight.shape[1])

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        rows, dim = ctx.shape
        index = ctx.index.reshape(-1)
        out = implementation(grad).embedding_backward(grad.reshape(-1, dim), index, rows, padding_idx=ctx.padding)
        if ctx.by_frequency:
            counts = namespace(grad).bincount(index.clip(0, max(rows - 1, 0)), minlength=rows)
            out = rounded(wide(out) / counts.clip(1, None).astype(wide(out).dtype)[:, None], out.dtype)
        return None, out, None, None


def _check_table(name: str, input: Any, weight: Any) -> None:
    check_tensor(name, input)
    check_tensor(name, weight, "weight")
    if input.dtype not in (_dtypes.int64, _dtypes.int32):
        raise KindError(f"{name}: input has dtype {input.dtype.name}, expected int64 or int32")
    if weight.dim() != 2:
        raise InputError(f"{name}: weight has shape {tuple(weight.shape)}, expected (rows, dim)")


def _renormalise(name: str, input: Tensor, weight: Tensor, max_norm: float, norm_type: float) -> None:
    """Scale the rows in use, in place, so that their norms are at most max_norm."""
    x = input._data
    if not isinstance(x, np.ndarray):
        note(name, "index out of range in self", (x < 0) | (x >= weight.shape[0]))
    elif x.size and (x.min() < 0 or x.max() >= weight.shape[0]):
        raise IndexError(f"{name}: index out of range in self: {weight.shape[0]} rows, got {x.min()} to {x.max()}")
    with no_grad():
        used = Tensor._wrap(namespace(x).unique(x))
        rows = weight.detach()[used]
        norms = rows.norm(norm_type, 1, keepdim=True)
        factor = (max_norm / (norms + 1e-7)).clamp(max=1.0)
        weight[used] = rows * factor


def _padding(name: str, padding_idx: int | None, rows: int) -> int | None:
    if padding_idx is None:
        return None
    if not -rows <= padding_idx < rows:
        raise InputError(f"{name}: padding_idx is {padding_idx}, expected one within num_embeddings {rows}")
    return padding_idx % rows


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """``weight[input]``: (...) integers and (rows, dim) give (..., dim).

    Args:
        input: int64 or int32.
        weight: the table, floating point.
        padding_idx: a row without a gradient.
        max_norm: rows in use are scaled, in place, to this norm of order ``norm_type`` where theirs is greater.
        scale_grad_by_freq: divide a row's gradient by how often it is used.
        sparse: accepted; the gradient is dense.

    Raises:
        IndexError: an index is out of range; for tensors on the GPU at the next synchronising call.
        TypeError, ValueError: wrong dtypes or shapes.

    >>> import fastnet
    >>> embedding(fastnet.tensor([1, 0]), fastnet.eye(2))
    tensor([[0., 1.],
            [1., 0.]])
    """
    _check_table("embedding", input, weight)
    padding = _padding("embedding", padding_idx, weight.shape[0])
    if max_norm is not None:
        _renormalise("embedding", input, weight, max_norm, norm_type)
    return Embedding.apply(input, weight, padding, scale_grad_by_freq)


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Sums, means or maxima of bags of rows: of each row of (B, N) indices, or of the parts of (N) that offsets begin.

    Args:
        input: int64 or int32, (B, N), or (N) with offsets (B).
        weight: (rows, dim).
        mode: "mean", "sum" or "max"; ``per_sample_weights``, of input's shape, in "sum" only.
        include_last_offset: offsets end with the end of the last bag.
        padding_idx: a row that counts for nothing.

    Raises:
        TypeError, ValueError, IndexError: as ``embedding``.
    """
    name = "embedding_bag"
    if isinstance(weight, Tensor) and weight.dtype in (_dtypes.int64, _dtypes.int32) and input.is_floating_point():
        raise InputError(f"{name}: input and weight are swapped, expected integers first")
    _check_table(name, input, weight)
    if mode not in ("mean", "sum", "max"):
        raise InputError(f"{name}: mode has to be one of sum, mean or max, got {mode!r}")
    if mode == "max" and scale_grad_by_freq:
        raise InputError(f"{name}: max mode does not support scaling the gradient by the frequency")
    if per_sample_weights is not None:
        if mode != "sum":
            raise NotImplementedError(f"{name}: per_sample_weights was not None, expected None in mode {mode!r}")
        if tuple(per_sample_weights.shape) != tuple(input.shape):
            raise InputError(
                f"{name}: per_sample_weights has shape {tuple(per_sample_weights.shape)}, expected input's, "
                f"{tuple(input.shape)}"
            )
    if input.dim() == 2:
        if offsets is not None:
            raise InputError("if input is 2D, then offsets has to be None, as input is treated is a mini-batch")
        lengths = np.full(input.shape[0], input.shape[1])
    elif input.dim() == 1:
        if offsets is None or offsets.dim() != 1:
            raise InputError(f"{name}: offsets has to be a 1D Tensor for 1D input")
        begins = np.asarray(offsets.tolist(), np.int64)
        if len(begins) and (begins[0] != 0 or begins[-1] > input.numel() or (np.diff(begins) < 0).any()):
            raise InputError(f"{name}: offsets must begin at 0, not decrease and not pass the {input.numel()} indices")
        lengths = np.diff(begins) if include_last_offset else np.diff(np.append(begins, input.numel()))
    else:
        raise InputError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.dim()}")
    padding = _padding(name, padding_idx, weight.shape[0])
    flat = input.reshape(-1)
    rows = embedding(flat, weight, padding, max_norm, norm_type, scale_grad_by_freq)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape(-1, 1)
    # Every bag is padded to the longest: (B, longest, dim) and a mask of what counts.
    longest = int(lengths.max()) if len(lengths) else 0
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(lengths) else np.zeros(0)
    places = np.minimum(starts[:, None] + np.arange(longest), max(flat.numel() - 1, 0)).astype(np.int64)
    xp = namespace(flat._data)
    inside = xp.asarray(np.arange(longest) < lengths[:, None])
    if padding is not None and longest:
        inside = inside & (flat._data[xp.asarray(places)] != padding)
    if not longest or not flat.numel():
        return Tensor._wrap(xp.zeros((len(lengths), weight.shape[1]), weight._data.dtype)) + 0 * weight.sum()
    mask = Tensor._wrap(inside[:, :, None])
    padded = rows[Tensor._wrap(xp.asarray(places))]
    if mode == "max":
        empty = Tensor._wrap(~inside.any(axis=1)[:, None])
        return padded.masked_fill(~mask, float("-inf")).max(1).values.masked_fill(empty, 0)
    total = padded.masked_fill(~mask, 0).sum(1)
    if mode == "sum":
        return total
    return total / Tensor._wrap(inside.sum(axis=1).clip(1, None)[:, None].astype(total._data.dtype))
