"""Rows of a table by index, and the table's gradient, in array code: the specification."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from fastnet._array_code import where
from fastnet._device import namespace
from fastnet._faults import check_faults, fault_flag
from fastnet.errors import InputError
from fastnet.kernels._arrays import check_array

BAD_INDEX = "index out of range in self: an index is outside [0, rows)"


def check_index(function: str, x: Any, index: Any) -> None:
    """Raise for an index that is no (count,) array of int64 or int32 beside x."""
    check_array(function, "index", index, dtypes=("int64", "int32"), ndim=1, like=x)


def check_backward(function: str, grad: Any, index: Any, rows: Any, padding_idx: Any) -> tuple[int, int]:
    """rows, and padding_idx or -1; TypeError or ValueError for arguments that do not fit."""
    check_array(function, "grad", grad, ndim=2)
    check_index(function, grad, index)
    if index.shape[0] != grad.shape[0]:
        raise InputError(
            f"{function}: index has {index.shape[0]} elements, expected one for each of grad's {grad.shape[0]} rows"
        )
    rows = operator.index(rows)
    if rows < 0:
        raise InputError(f"{function}: rows is {rows}, expected a number that is not negative")
    padding = -1 if padding_idx is None else operator.index(padding_idx)
    if padding_idx is not None and not 0 <= padding < max(rows, 1):
        raise InputError(f"{function}: padding_idx is {padding_idx}, expected one of {rows} rows")
    return rows, padding


def embedding(weight: Any, index: Any, *, config: Any = None) -> Any:
    """``weight[index]``. Arguments and results as ``fastnet.kernels.embedding``.

    >>> import numpy as np
    >>> embedding(np.eye(3, dtype=np.float32), np.array([2, 0]))
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    check_array("embedding", "weight", weight, ndim=2)
    check_index("embedding", weight, index)
    xp = namespace(weight)
    bad = (index < 0) | (index >= weight.shape[0])
    flag = fault_flag(weight, "embedding", BAD_INDEX)
    flag |= bad.any()
    if xp is np:
        check_faults("embedding")
    if weight.shape[0] == 0:
        return xp.zeros((index.shape[0], weight.shape[1]), weight.dtype)
    return where(bad[:, None], weight.dtype.type(0), weight[xp.where(bad, 0, index)])


def embedding_backward(grad: Any, index: Any, rows: int, *, padding_idx: int | None = None, config: Any = None) -> Any:
    """The sum of the rows of ``grad`` by ``index``, in float32 at least, rounded once; in order of position.

    Arguments and results as ``fastnet.kernels.embedding_backward``.

    >>> import numpy as np
    >>> embedding_backward(np.ones((3, 1), np.float32), np.array([1, 1, 0]), 3).ravel()
    array([1., 2., 0.], dtype=float32)
    """
    rows, padding = check_backward("embedding_backward", grad, index, rows, padding_idx)
    xp = namespace(grad)
    out = xp.zeros((rows, grad.shape[1]), grad.dtype)
    keep = (index >= 0) & (index < rows) & (index != padding)
    positions = xp.flatnonzero(keep)
    order = positions[xp.argsort(index[positions], kind="stable")]
    if order.size == 0 or grad.shape[1] == 0:
        return out
    by_row = index[order]
    values = grad[order].astype(np.float64 if grad.dtype == np.float64 else np.float32)
    starts = xp.flatnonzero(xp.concatenate([xp.ones(1, bool), by_row[1:] != by_row[:-1]]))
    with np.errstate(all="ignore"):
        if xp is np:
            total = np.add.reduceat(values, starts, axis=0)
        else:
            ends = xp.concatenate([starts[1:], xp.asarray([order.size])])
            total = values[starts]
            for k in range(1, int((ends - starts).max())):  # the k-th repetition of every row: one addition each
                more = starts + k < ends
                total[more] += values[starts[more] + k]
        out[by_row[starts]] = total.astype(grad.dtype)
    return out
