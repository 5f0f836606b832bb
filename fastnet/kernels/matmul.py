"""Matrix products by handwritten kernels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet.errors import KindError
from fastnet.kernels._arrays import empty, stream_of
from fastnet.kernels._runtime import extension_for, record
from fastnet.kernels.reduction import column_sum, loadable
from fastnet.reference.matmul import check_matmul, check_precision

MAX_BATCH_RANK = 8  # kMatmulBatchRank
_precision = "highest"


def set_float32_matmul_precision(precision: str) -> None:
    """How float32 matrices are multiplied from here on, as ``torch.set_float32_matmul_precision``.

    Args:
        precision: ``"highest"`` (the default) gives errors of float32's size, on tensor cores by three products of
            TF32 numbers where there are any; ``"high"`` and ``"medium"`` allow operands to be rounded to TF32, which
            has 10 explicit bits of significand in place of 23.

    Raises:
        ValueError: another name.
    """
    global _precision
    check_precision("set_float32_matmul_precision", precision)
    _precision = precision


def get_float32_matmul_precision() -> str:
    """What ``set_float32_matmul_precision`` set.

    >>> get_float32_matmul_precision()
    'highest'
    """
    return _precision


def matmul(
    a: Any,
    b: Any,
    *,
    bias: Any = None,
    activation: str = "none",
    parameter: float | None = None,
    keep_preactivation: bool = False,
    out_dtype: Any = None,
    c: Any = None,
    alpha: float = 1,
    beta: float = 1,
    residual: Any = None,
    row_sums: bool = False,
    precision: str | None = None,
    config: Any = None,
) -> Any:
    """Matrix product with all that follows it: ``out = activation(alpha * a @ b + beta * c + bias + residual)``.

    16-bit and float32 inputs are summed in float32, float64 in float64, integers in their own width, wrapping. Sums are
    two-level along K, what follows sees the unrounded sum, and the result is rounded once.

    Args:
        a: (..., M, K) or (K,) float32, float64, float16, bfloat16, int32, int64 or uint8, any strides.
        b: (..., K, N) or (K,) of a's dtype, any strides. Leading dimensions broadcast.
        bias: (N,) of a's dtype, or None.
        activation: a name from ``fastnet.reference.pointwise.ACTIVATIONS``; only ``"none"`` for integers.
        parameter: the activation's number (leaky_relu: slope 0.01, elu: alpha 1, softplus: beta 1), None: its default.
        keep_preactivation: return what the activation was applied to as well.
        out_dtype: a's dtype (default) or, for 16-bit inputs, float32.
        c: an array that broadcasts to the result, of a's dtype or out_dtype, any strides; or None. Not read where beta
            is 0.
        alpha, beta: numbers, whole for integer arrays and then at most 2^53.
        residual: as c.
        row_sums: return the sums of a's rows too; a and b are floating-point matrices then. Where a is the transposed
            gradient of a linear layer's output, b its input and the product its weight's gradient, they are its bias's.
        precision: of float32 products, None for ``get_float32_matmul_precision()``.
        config: a ``MatmulConfig`` to use in place of the one chosen for the problem.

    Returns:
        (..., M, N) beside a, without M where a has one dimension and without N where b has. With
        ``keep_preactivation`` what the activation was applied to follows it, such an array too, and with ``row_sums``
        the sums of a over K, (M,) of a's dtype.

    Raises:
        TypeError, ValueError: arguments of another dtype, shape or device, or a config that cannot serve them.

    >>> import numpy as np, fastnet
    >>> with fastnet.kernels.use("emulated"):
    ...     fastnet.kernels.matmul(np.float32([[1, 2], [3, 4]]), np.float32([[1, 0], [0, -1]]), activation="relu")
    array([[1., 0.],
           [3., 0.]], dtype=float32)
    """
    shape, out_type = check_matmul(
        a, b, bias, activation, parameter, out_dtype, c, alpha, beta, residual, row_sums, precision
    )
    ext = extension_for(a)
    if config is not None and not isinstance(config, ext.MatmulConfig):
        raise KindError(f"matmul: config is a {type(config).__name__}, expected a MatmulConfig of {ext.__name__}")
    tf32 = a.dtype == np.float32 and (precision or _precision) != "highest"

    out = empty(a, shape, out_type)
    sums = None
    preactivation = empty(a, shape, out_type) if keep_preactivation else None
    if out.size:
        left = loadable(a[None, :] if a.ndim == 1 else a)
        right = loadable(b[:, None] if b.ndim == 1 else b)
        matrices = [
            None if x is None else _result_matrix(loadable(x), a, b, shape) for x in (c if beta else None, residual)
        ]
        left, right, *matrices = _collapse(left, right, *matrices)
        problem = ext.matmul_problem(out, left, right, tf32, row_sums)
        if config is None:
            config = ext.matmul_config(problem)
        else:
            ext.matmul_check(config, problem)
        if row_sums:
            sums = empty(a, a.shape[:1])
        workspace = ext.matmul_workspace_bytes(config, problem)
        record("matmul", a, b, config=config)
        ext.matmul(
            out,
            preactivation,
            left,
            right,
            None if bias is None else loadable(bias),
            *matrices,
            sums,
            empty(a, (workspace,), np.uint8) if workspace else None,
            float(alpha),
            float(beta),
            activation,
            math.nan if parameter is None else float(parameter),
            tf32,
            config,
            stream_of(a),
        )
    elif row_sums:
        sums = column_sum(a.T)
    results = [x for x, wanted in ((out, True), (preactivation, keep_preactivation), (sums, row_sums)) if wanted]
    return out if len(results) == 1 else tuple(results)


def _result_matrix(x: Any, a: Any, b: Any, shape: tuple[int, ...]) -> Any:
    """x as a view of ``shape``, the result's, with the axes of M and N where a or b is a vector."""
    x = _broadcast(x, shape)
    if b.ndim == 1:
        x = x[..., None]
    return x[..., None, :] if a.ndim == 1 else x


def _collapse(a: Any, b: Any, *addends: Any) -> list[Any]:
    """(batch..., M, K), (batch..., K, N) and what is added to their product, (batch..., M, N) or None, with the same,
    fewest leading dimensions. No element moves unless more than ``MAX_BATCH_RANK`` are left."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows = [a, *(x for x in addends if x is not None)]  # what has M and a batch
    if b.ndim == 2:  # one tall product, as far as the leading dimensions can be walked as rows
        while rows[0].ndim > 2 and all(_merges(x, x.ndim - 3) for x in rows):
            rows = [_merge(x, x.ndim - 3) for x in rows]
        batch = rows[0].shape[:-2]
    arrays = [_broadcast(x, (*batch, *x.shape[-2:])) for x in (rows[0], b, *rows[1:])]
    axis = 0
    while axis < len(batch) - 1:
        if all(_merges(x, axis) for x in arrays):
            arrays = [_merge(x, axis) for x in arrays]
            batch = arrays[0].shape[:-2]
        else:
            axis += 1
    if len(batch) > MAX_BATCH_RANK:
        arrays = [x.copy().reshape(math.prod(batch), *x.shape[-2:]) for x in arrays]
    left = iter(arrays)
    return [next(left), next(left), *(None if x is None else next(left) for x in addends)]


def _broadcast(x: Any, shape: tuple[int, ...]) -> Any:
    """A view of x with this shape, repeated dimensions at stride zero."""
    if x.shape == shape:
        return x
    if isinstance(x, np.ndarray):
        return np.broadcast_to(x, shape)
    import cupy

    return cupy.broadcast_to(x, shape)


def _merges(x: Any, axis: int) -> bool:
    """Whether axis and axis + 1 can be walked as one."""
    first, second = x.shape[axis : axis + 2]
    return first == 1 or second == 1 or x.strides[axis] == x.strides[axis + 1] * second


def _merge(x: Any, axis: int) -> Any:
    """x with axis and axis + 1 as one, by strides: reshape would copy where a stride is zero."""
    first, second = x.shape[axis : axis + 2]
    stride = x.strides[axis] if second == 1 else x.strides[axis + 1]
    shape = (*x.shape[:axis], first * second, *x.shape[axis + 2 :])
    strides = (*x.strides[:axis], stride, *x.strides[axis + 2 :])
    if isinstance(x, np.ndarray):
        return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)
    from cupy.lib.stride_tricks import as_strided

    return as_strided(x, shape, strides)
