"""Matrix products by handwritten kernels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet.kernels._arrays import FLOATING, check_array, empty, stream_of
from fastnet.kernels._runtime import extension_for, record

DTYPES = (*FLOATING, "int32", "int64", "uint8")
ACTIVATIONS = (
    "none", "relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "mish", "softplus", "sigmoid", "tanh", "hardswish"
)                                        # those of csrc/host/activation.h
MAX_BATCH_RANK = 8                       # kMatmulBatchRank


def matmul(a: Any, b: Any, *, bias: Any = None, activation: str = "none", parameter: float | None = None,
           keep_preactivation: bool = False, out_dtype: Any = None, config: Any = None) -> Any:
    """Matrix product with bias and activation: ``out = activation(a @ b + bias)``.

    16-bit and float32 inputs are summed in float32, float64 in float64, integers in their own width, wrapping. Sums are
    two-level along K, bias and activation see the unrounded sum, and the result is rounded once.

    Args:
        a: (..., M, K) or (K,) float32, float64, float16, bfloat16, int32, int64 or uint8, any strides.
        b: (..., K, N) or (K,) of a's dtype, any strides. Leading dimensions broadcast.
        bias: (N,) of a's dtype, or None.
        activation: one of ``ACTIVATIONS``; only ``"none"`` for integers.
        parameter: the activation's number (leaky_relu: slope 0.01, elu: alpha 1, softplus: beta 1), None for its default.
        keep_preactivation: return ``a @ b + bias`` as well.
        out_dtype: a's dtype (default) or, for 16-bit inputs, float32.
        config: a ``MatmulConfig`` to use in place of the one chosen for the problem.

    Returns:
        (..., M, N) beside a, without M where a has one dimension and without N where b has; with
        ``keep_preactivation`` a pair of such arrays, the result and what the activation was applied to.

    Raises:
        TypeError, ValueError: arguments of another dtype, shape or device.

    >>> import numpy as np, fastnet
    >>> with fastnet.kernels.use("emulated"):
    ...     fastnet.kernels.matmul(np.float32([[1, 2], [3, 4]]), np.float32([[1, 0], [0, -1]]), activation="relu")
    array([[1., 0.],
           [3., 0.]], dtype=float32)
    """
    shape, out_type = check_matmul(a, b, bias, activation, parameter, out_dtype)
    ext = extension_for(a)
    if config is not None and not isinstance(config, ext.MatmulConfig):
        raise TypeError(f"matmul: config is a {type(config).__name__}, expected a MatmulConfig of {ext.__name__}")
    wide = a.dtype.itemsize <= 4 and a.dtype.kind != "i" and a.dtype.name != "uint8"
    if config is not None and config.tile == "large" and not wide:
        raise ValueError(f"matmul: config has the large tile, which {a.dtype.name} does not have")

    out = empty(a, shape, out_type)
    preactivation = empty(a, shape, out_type) if keep_preactivation else None
    if out.size:
        left = _loadable(a[None, :] if a.ndim == 1 else a)
        right = _loadable(b[:, None] if b.ndim == 1 else b)
        left, right = _collapse(left, right)
        m, k = left.shape[-2:]
        n = right.shape[-1]
        config = config or ext.matmul_config(math.prod(left.shape[:-2]), m, n, k, a.dtype.name)
        record("matmul", a, b, config=config)
        ext.matmul(out, preactivation, left, right, None if bias is None else _loadable(bias), activation,
                   math.nan if parameter is None else float(parameter), config, stream_of(a))
    return (out, preactivation) if keep_preactivation else out


def check_matmul(a: Any, b: Any, bias: Any, activation: str, parameter: Any, out_dtype: Any) -> tuple[tuple[int, ...], np.dtype]:
    """The result's shape and dtype; ValueError or TypeError for arrays that cannot be multiplied so."""
    check_array("matmul", "a", a, dtypes=DTYPES)
    check_array("matmul", "b", b, dtypes=DTYPES, like=a)
    dtype = a.dtype
    if b.dtype != dtype:
        raise TypeError(f"matmul: a and b must have the same dtype, got {dtype.name} and {b.dtype.name}")
    if not a.ndim or not b.ndim:
        raise ValueError(f"matmul: a and b need at least one dimension, got shapes {tuple(a.shape)} and {tuple(b.shape)}")
    rows, columns = a.shape[-2:-1], b.shape[-1:] if b.ndim > 1 else ()
    inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != inner:
        raise ValueError(
            f"matmul: a has {a.shape[-1]} columns and b has {inner} rows, expected the same; "
            f"got shapes {tuple(a.shape)} and {tuple(b.shape)}"
        )
    batch_a, batch_b = a.shape[:-2], b.shape[:-2]
    if batch_a and batch_b and batch_a != batch_b:
        try:
            batch = np.broadcast_shapes(batch_a, batch_b)
        except ValueError:
            raise ValueError(
                f"matmul: leading dimensions do not broadcast, got shapes {tuple(a.shape)} and {tuple(b.shape)}"
            ) from None
    else:
        batch = batch_a or batch_b
    if bias is not None:
        check_array("matmul", "bias", bias, dtypes=DTYPES, ndim=1, like=a)
        if bias.dtype != dtype:
            raise TypeError(f"matmul: bias has dtype {bias.dtype.name}, expected a's {dtype.name}")
        width = columns[0] if columns else 1
        if bias.shape[0] != width:
            raise ValueError(f"matmul: bias has {bias.shape[0]} elements, expected {width}, the columns of b")
    if activation not in ACTIVATIONS:
        raise ValueError(f"matmul: activation is {activation!r}, expected one of {', '.join(ACTIVATIONS)}")
    if activation != "none" and dtype.name not in FLOATING:
        raise TypeError(f"matmul: activation {activation!r} needs floating-point arrays, got {dtype.name}")
    if parameter is not None and (isinstance(parameter, bool) or not isinstance(parameter, (int, float, np.number))):
        raise TypeError(f"matmul: parameter is a {type(parameter).__name__}, expected a number or None")
    out = dtype if out_dtype is None else np.dtype(out_dtype)
    if out != dtype and not (out == np.float32 and dtype.name in ("float16", "bfloat16")):
        takes = "float32 or that" if dtype.name in ("float16", "bfloat16") else "that"
        raise TypeError(f"matmul: out_dtype is {out.name} for arrays of {dtype.name}, expected {takes}")
    return (*batch, *rows, *columns), out


def _loadable(x: Any) -> Any:
    """x, or a copy where its elements do not lie at multiples of their size (views of byte buffers)."""
    size = x.itemsize
    address = x.__array_interface__["data"][0] if isinstance(x, np.ndarray) else x.data.ptr
    return x if address % size == 0 and all(s % size == 0 for s in x.strides) else x.copy()


def _collapse(a: Any, b: Any) -> tuple[Any, Any]:
    """(batch..., M, K) and (batch..., K, N) with the same, fewest leading dimensions. No element moves unless more than
    ``MAX_BATCH_RANK`` are left."""
    if b.ndim == 2:                      # one tall product, as far as a's leading dimensions can be walked as rows
        while a.ndim > 2 and _merges(a, a.ndim - 3):
            a = _merge(a, a.ndim - 3)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if not batch:
        return a, b
    a, b = _expand(a, batch), _expand(b, batch)
    axis = 0
    while axis < a.ndim - 3:
        if _merges(a, axis) and _merges(b, axis):
            a, b = _merge(a, axis), _merge(b, axis)
        else:
            axis += 1
    if a.ndim - 2 > MAX_BATCH_RANK:
        a, b = (x.copy().reshape(math.prod(x.shape[:-2]), *x.shape[-2:]) for x in (a, b))
    return a, b


def _expand(x: Any, batch: tuple[int, ...]) -> Any:
    """A view of x with the leading dimensions ``batch``, repeated ones at stride zero."""
    if x.shape[:-2] == batch:
        return x
    if isinstance(x, np.ndarray):
        return np.broadcast_to(x, (*batch, *x.shape[-2:]))
    import cupy

    return cupy.broadcast_to(x, (*batch, *x.shape[-2:]))


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
