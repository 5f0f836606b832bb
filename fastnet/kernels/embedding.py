"""Rows of a table by index, and the table's gradient, by handwritten kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._faults import check_faults
from fastnet.errors import KindError
from fastnet.kernels._arrays import addressable, check_array, empty, fault_flag, is_numpy, packed, stream_of
from fastnet.kernels._runtime import extension_for, record
from fastnet.reference.embedding import BAD_INDEX, check_backward, check_index


def _config(function: str, ext: Any, config: Any, row_bytes: int) -> Any:
    if config is None:
        return ext.embedding_config(row_bytes)
    if not isinstance(config, ext.EmbeddingConfig):
        raise KindError(
            f"{function}: config is a {type(config).__name__}, expected an EmbeddingConfig of {ext.__name__}"
        )
    return config


def embedding(weight: Any, index: Any, *, config: Any = None) -> Any:
    """Rows of a table: ``out[i] = weight[index[i]]``.

    Args:
        weight: (rows, dim) float32, float64, float16 or bfloat16, any strides (copied unless
            its rows are contiguous).
        index: (count,) int64 or int32.
        config: an ``EmbeddingConfig`` to use in place of the one chosen for the problem.

    Returns:
        (count, dim) beside weight, in its dtype.

    Raises:
        TypeError, ValueError: arguments that do not fit.
        IndexError: an index outside [0, rows); on the GPU at the next synchronising call (zeros stand there
            until then).

    >>> import numpy as np, fastnet
    >>> with fastnet.kernels.use("emulated"):
    ...     fastnet.kernels.embedding(np.eye(2, dtype=np.float32), np.array([1, 1]))
    array([[0., 1.],
           [0., 1.]], dtype=float32)
    """
    name = "embedding"
    check_array(name, "weight", weight, ndim=2)
    check_index(name, weight, index)
    ext = extension_for(weight)
    xp = namespace(weight)
    dim = weight.shape[1]
    config = _config(name, ext, config, dim * weight.itemsize)
    weight = addressable(weight)
    if weight.strides[0] < 0 or (dim > 1 and weight.strides[1] != weight.itemsize):
        weight = xp.ascontiguousarray(weight)
    index = xp.ascontiguousarray(addressable(index), np.int64)
    out = empty(weight, (index.shape[0], dim))
    if out.size:
        record(name, weight, index, config=config)
        ext.embedding(
            out, weight, index, weight.itemsize, fault_flag(weight, name, BAD_INDEX), config, stream_of(weight)
        )
        if is_numpy(weight):
            check_faults(name)
    return out


def embedding_backward(grad: Any, index: Any, rows: int, *, padding_idx: int | None = None, config: Any = None) -> Any:
    """The gradient of a table: ``out[r] = sum of grad[i] over i with index[i] == r``, in a fixed order.

    Positions are sorted by row (by the array library), added up in chunks, and joined where a row's positions cross
    the ends of chunks. Accumulates in float32 (float64 for float64) and rounds once.

    Args:
        grad: (count, dim) float32, float64, float16 or bfloat16, any strides.
        index: (count,) int64 or int32; numbers outside [0, rows) count for nothing.
        rows: of the table.
        padding_idx: a row whose gradient is 0.
        config: an ``EmbeddingConfig`` to use in place of the one chosen for the problem.

    Returns:
        (rows, dim) beside grad, in its dtype.

    Raises:
        TypeError, ValueError: arguments that do not fit.

    >>> import numpy as np, fastnet
    >>> with fastnet.kernels.use("emulated"):
    ...     fastnet.kernels.embedding_backward(np.ones((3, 1), np.float32), np.array([1, 1, 0]), 3).ravel()
    array([1., 2., 0.], dtype=float32)
    """
    name = "embedding_backward"
    rows, padding = check_backward(name, grad, index, rows, padding_idx)
    ext = extension_for(grad)
    xp = namespace(grad)
    count, dim = grad.shape
    config = _config(name, ext, config, dim * grad.itemsize)
    grad = xp.ascontiguousarray(addressable(grad))
    index = xp.ascontiguousarray(addressable(index), np.int64)
    out = empty(grad, (rows, dim))
    out[...] = 0
    if count and dim and rows:
        order = packed(xp.argsort(index, kind="stable").astype(np.int64, copy=False))
        chunks = -(-count // config.chunk)
        workspace = empty(grad, (2 * chunks, dim), np.float64 if grad.dtype == np.float64 else np.float32)
        record(name, grad, index, config=config)
        ext.embedding_backward(out, grad, order, packed(index[order]), padding, workspace, config, stream_of(grad))
    return out
