"""Running sums, products, extrema and logarithms of sums along a dimension; differences and trapezoids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._array_code import accumulate
from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.ops import arithmetic, comparisons
from fastnet.ops._numeric import axis_of, rounded, wide
from fastnet.ops._operands import cast, check_tensor
from fastnet.ops._results import result
from fastnet.ops.shape import cat, narrow


def _reverse_cumsum(x: Any, axis: int) -> Any:
    xp = namespace(x)
    return xp.flip(xp.flip(x, axis).cumsum(axis=axis), axis)


class CumSum(ArrayFunction):
    """Running sums along an axis."""

    node_name = "CumsumBackward0"

    @staticmethod
    def forward(ctx: Any, x: Any, axis: int) -> Any:
        ctx.axis = axis
        return wide(x).cumsum(axis=axis, dtype=wide(x).dtype).astype(x.dtype) if x.ndim else x.copy()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return (rounded(_reverse_cumsum(wide(grad), ctx.axis), grad.dtype) if grad.ndim else grad), None


class CumProd(ArrayFunction):
    """Running products along an axis."""

    node_name = "CumprodBackward0"

    @staticmethod
    def forward(ctx: Any, x: Any, axis: int) -> Any:
        out = wide(x).cumprod(axis=axis, dtype=wide(x).dtype).astype(x.dtype) if x.ndim else x.copy()
        ctx.axis = axis
        ctx.save(x, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, out = (wide(a) for a in ctx.saved)
        if not x.ndim:
            return grad, None
        xp = namespace(x)
        if not bool((x == 0).any()):
            return rounded(_reverse_cumsum(wide(grad) * out, ctx.axis) / x, grad.dtype), None
        # With zeros: of every k, the running products without the k-th factor.
        x, g = xp.moveaxis(x, ctx.axis, -1), xp.moveaxis(wide(grad), ctx.axis, -1)
        of_x = xp.zeros_like(x)
        for k in range(x.shape[-1]):
            others = x[..., k:].copy()
            others[..., 0] = x[..., :k].prod(axis=-1)
            of_x[..., k] = (g[..., k:] * others.cumprod(axis=-1)).sum(axis=-1)
        return rounded(xp.moveaxis(of_x, -1, ctx.axis), grad.dtype), None


def _cumulative(name: str, function: Any, doc: str) -> Callable:
    def operation(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
        check_tensor(name, input)
        if dtype is not None:
            input = cast(input, _dtypes.as_dtype(dtype))
        elif input.dtype.category < 2:
            input = cast(input, _dtypes.int64)
        axis = axis_of(dim, input._data.ndim, name)
        if input.dtype is _dtypes.bool_:
            return cast(function.apply(cast(input, _dtypes.int64), axis), _dtypes.bool_)
        with np.errstate(all="ignore"):
            return function.apply(input, axis)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = doc
    return operation


cumsum = _cumulative("cumsum", CumSum, "Running sums along ``dim``. Integers and bools as int64.")
cumprod = _cumulative("cumprod", CumProd, "Running products along ``dim``. Integers and bools as int64.")


class CumExtreme(ArrayFunction):
    """Running extrema along an axis, and where the latest of them stands."""

    @staticmethod
    def forward(ctx: Any, x: Any, axis: int, greatest: bool) -> Any:
        xp = namespace(x)
        w = wide(x)
        ctx.axis, ctx.shape = axis, x.shape
        if not x.ndim:
            ctx.index = xp.zeros((), np.int64)
            return x.copy(), ctx.index
        function = np.maximum if greatest else np.minimum
        out = accumulate(function, w, axis) if x.size else w.copy()
        n = x.shape[axis]
        places = xp.arange(n).reshape([n if i == axis else 1 for i in range(x.ndim)])
        reached = (w == out) | (w != w)
        index = accumulate(np.maximum, xp.where(reached, places, 0), axis) if x.size else reached.astype(np.int64)
        ctx.index = index
        return rounded(out, x.dtype), index.astype(np.int64)

    @staticmethod
    def backward(ctx: Any, grad: Any, _: Any) -> Any:
        from fastnet.ops.indexing import _coordinates, add_at

        if not ctx.shape:
            return grad, None, None
        out = namespace(grad).zeros(ctx.shape, wide(grad).dtype)
        add_at(out, _coordinates(ctx.index, ctx.axis), wide(grad))
        return rounded(out, grad.dtype), None, None


def _cumulative_extreme(name: str, greatest: bool) -> Callable:
    def operation(input: Tensor, dim: int) -> Any:
        check_tensor(name, input)
        axis = axis_of(dim, input._data.ndim, name)
        return result(name, "values indices")(*CumExtreme.apply(input, axis, greatest))

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = (
        f"Running {'maxima' if greatest else 'minima'} along ``dim``, and where the latest of equal ones stands."
    )
    return operation


cummax, cummin = _cumulative_extreme("cummax", True), _cumulative_extreme("cummin", False)


class LogCumSumExp(ArrayFunction):
    """log of the running sums of exp(x) along an axis."""

    @staticmethod
    def forward(ctx: Any, x: Any, axis: int) -> Any:
        ctx.axis = axis
        w = wide(x)
        with np.errstate(all="ignore"):
            out = accumulate(np.logaddexp, w, axis) if x.ndim and x.size else w.copy()
        out = rounded(out, x.dtype)
        ctx.save(x, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, out = (wide(a) for a in ctx.saved)
        if not x.ndim:
            return grad, None
        xp, g = namespace(x), wide(grad)
        with np.errstate(all="ignore"):
            total = xp.zeros_like(x)
            for sign in (1, -1):  # sums of exp(log|g| - out), positive and negative upstream gradients apart
                logs = xp.where(sign * g > 0, xp.log(xp.abs(g)), -np.inf) - out
                sums = xp.flip(accumulate(np.logaddexp, xp.flip(logs, ctx.axis), ctx.axis), ctx.axis)
                total += sign * xp.exp(sums + x)
        return rounded(total, grad.dtype), None


def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """The logarithm of the running sums of exp(x) along ``dim``, without overflow."""
    check_tensor("logcumsumexp", input)
    if not input.dtype.is_floating_point:
        raise KindError(f"logcumsumexp: not implemented for {input.dtype}")
    return LogCumSumExp.apply(input, axis_of(dim, input._data.ndim, "logcumsumexp"))


# ---- differences and trapezoids --------------------------------------------------------------------------------------


def diff(
    input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None
) -> Tensor:
    """The n-th differences of neighbours along ``dim``; bools by exclusive or."""
    check_tensor("diff", input)
    if input._data.ndim == 0:
        raise InputError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise InputError(f"order must be non-negative but got {n}")
    a = axis_of(dim, input._data.ndim, "diff")
    if n == 0:
        return input.clone()
    parts = [t for t in (prepend, input, append) if t is not None]
    out = cat(parts, a) if len(parts) > 1 else input
    for _ in range(min(n, out._data.shape[a])):
        size = out._data.shape[a]
        after, before = narrow(out, a, min(1, size), max(size - 1, 0)), narrow(out, a, 0, max(size - 1, 0))
        out = comparisons.logical_xor(after, before) if out.dtype is _dtypes.bool_ else arithmetic.sub(after, before)
    return out


def _steps(name: str, y: Tensor, x: Any, dx: Any, dim: int) -> Tensor:
    """The area of every trapezoid."""
    check_tensor(name, y, "y")
    if y.dtype is _dtypes.bool_:
        raise KindError(f"{name}: received a bool input for `y`, but bool is not supported")
    a = axis_of(dim, y._data.ndim, name)
    n = y._data.shape[a]
    pairs = arithmetic.add(narrow(y, a, min(1, n), max(n - 1, 0)), narrow(y, a, 0, max(n - 1, 0)))
    if x is None:
        return arithmetic.div(arithmetic.mul(pairs, 1 if dx is None else dx), 2)
    check_tensor(name, x, "x")
    if x._data.ndim == 1 and y._data.ndim > 1:
        width = diff(x).reshape([-1 if i == a else 1 for i in range(y._data.ndim)])
    else:
        width = diff(x, dim=a)
    return arithmetic.div(arithmetic.mul(pairs, width), 2)


def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """The integral along ``dim`` by the trapezoidal rule, at the places ``x`` or at a distance of ``dx`` (1)."""
    from fastnet.ops.reductions import sum as sum_over
    from fastnet.ops.shape import select

    check_tensor("trapezoid", y, "y")
    if y.dtype is _dtypes.bool_:
        raise KindError("trapezoid: received a bool input for `y`, but bool is not supported")
    if x is None and y._data.shape[axis_of(dim, y._data.ndim, "trapezoid")]:
        ends = arithmetic.mul(arithmetic.add(select(y, dim, 0), select(y, dim, -1)), 0.5)
        return arithmetic.mul(arithmetic.sub(sum_over(y, dim), ends), 1 if dx is None else dx)
    return sum_over(_steps("trapezoid", y, x, dx, dim), dim)


def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """The running integral along ``dim`` by the trapezoidal rule."""
    return cumsum(_steps("cumulative_trapezoid", y, x, dx, dim), dim)
