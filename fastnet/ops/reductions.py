"""Sums, means, extrema and their kin along dimensions."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._array_code import greatest
from fastnet._checks import into
from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.ops._numeric import axes_of, axis_of, is_short, rounded, wide
from fastnet.ops._operands import cast, check_tensor
from fastnet.ops._results import result
from fastnet.ops.elementwise import abs as abs_
from fastnet.ops.elementwise import unary, zero_gradient


def _spread(grad: Any, shape: tuple[int, ...], axes: tuple[int, ...], keepdim: bool) -> Any:
    """grad of a reduction over axes, repeated to the input's shape (a read-only view)."""
    if not keepdim:
        grad = grad.reshape([1 if i in axes else n for i, n in enumerate(shape)])
    return namespace(grad).broadcast_to(grad, shape)


class Sum(ArrayFunction):
    """Sum over axes; 16-bit types are summed in float32."""

    @classmethod
    def _node_name(cls, ctx: Any) -> str:
        return f"{cls.__name__}Backward{int(ctx.keepdim or len(ctx.axes) < len(ctx.shape))}"

    @staticmethod
    def forward(ctx: Any, x: Any, axes: tuple[int, ...], keepdim: bool) -> Any:
        ctx.shape, ctx.axes, ctx.keepdim = x.shape, axes, keepdim
        w = wide(x)
        out = (
            w.sum(axis=axes, keepdims=keepdim)
            if x.dtype.kind == "f"
            else w.sum(axis=axes, keepdims=keepdim, dtype=w.dtype)
        )
        return rounded(out, x.dtype) if is_short(x) else out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return _spread(grad, ctx.shape, ctx.axes, ctx.keepdim), None, None


def sum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum over ``dim`` (a number, several, or None for all). Integers and bools are summed as int64.

    >>> import fastnet
    >>> fastnet.ones(2, 3).sum(dim=1)
    tensor([3., 3.])
    """
    check_tensor("sum", input)
    if dtype is not None:
        input = cast(input, _dtypes.as_dtype(dtype))
    elif input.dtype.category < 2:
        input = cast(input, _dtypes.int64)
    return Sum.apply(input, axes_of(dim, input._data.ndim, "sum"), keepdim)


def _floating(name: str, input: Tensor, dtype: Any) -> Tensor:
    check_tensor(name, input)
    if dtype is not None:
        input = cast(input, _dtypes.as_dtype(dtype))
    if not input.dtype.is_floating_point:
        raise KindError(
            f"{name}(): could not infer output dtype. Input dtype must be either a floating point or complex "
            f"dtype. Got: {input.dtype.name}"
        )
    return input


class Mean(ArrayFunction):
    """Mean over axes."""

    @classmethod
    def _node_name(cls, ctx: Any) -> str:
        return f"{cls.__name__}Backward{int(ctx.keepdim or len(ctx.axes) < len(ctx.shape))}"

    @staticmethod
    def forward(ctx: Any, x: Any, axes: tuple[int, ...], keepdim: bool) -> Any:
        ctx.shape, ctx.axes, ctx.keepdim = x.shape, axes, keepdim
        total = wide(x).sum(axis=axes, keepdims=keepdim)
        ctx.count = int(np.prod([x.shape[a] for a in axes]))
        with np.errstate(all="ignore"):
            return rounded(np.true_divide(total, total.dtype.type(ctx.count)), x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        share = namespace(grad).asarray(rounded(wide(grad) / np.float32(ctx.count), grad.dtype))
        return _spread(share, ctx.shape, ctx.axes, ctx.keepdim), None, None


def mean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean over ``dim`` of a floating-point tensor."""
    input = _floating("mean", input, dtype)
    return Mean.apply(input, axes_of(dim, input._data.ndim, "mean"), keepdim)


class Var(ArrayFunction):
    """Variance over axes: sum |x - mean|^2 / (count - correction)."""

    @staticmethod
    def forward(ctx: Any, x: Any, axes: tuple[int, ...], keepdim: bool, correction: float) -> Any:
        w = wide(x)
        count = int(np.prod([x.shape[a] for a in axes]))
        with np.errstate(all="ignore"):
            centred = w - np.true_divide(w.sum(axis=axes, keepdims=True), w.dtype.type(count))
            divisor = w.dtype.type(builtins.max(0, count - correction))
            out = np.true_divide((centred * centred).sum(axis=axes, keepdims=keepdim), divisor)
        ctx.save(centred)
        ctx.axes, ctx.keepdim, ctx.divisor = axes, keepdim, divisor
        return rounded(out, x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (centred,) = ctx.saved
        with np.errstate(all="ignore"):
            g = _spread(wide(grad), centred.shape, ctx.axes, ctx.keepdim) * centred * (2 / ctx.divisor)
        return rounded(g, grad.dtype), None, None, None


def var(
    input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
) -> Tensor:
    """The variance over ``dim``: the sum of squared differences over (count - correction); ``unbiased`` is correction
    1."""
    if isinstance(dim, bool):  # var(unbiased)
        dim, unbiased = None, dim
    input = _floating("var", input, None)
    correction = float(unbiased) if correction is None else correction
    return Var.apply(input, axes_of(dim, input._data.ndim, "var"), keepdim, correction)


def std(
    input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
) -> Tensor:
    """The standard deviation over ``dim``: the root of ``var``; its gradient at 0 is 0."""
    if isinstance(dim, bool):  # std(unbiased)
        dim, unbiased = None, dim
    input = _floating("std", input, None)
    correction = float(unbiased) if correction is None else correction
    return Std.apply(input, axes_of(dim, input._data.ndim, "std"), keepdim, correction)


class Std(ArrayFunction):
    """The root of the variance."""

    @staticmethod
    def forward(ctx: Any, x: Any, axes: tuple[int, ...], keepdim: bool, correction: float) -> Any:
        variance = namespace(x).asarray(Var.forward(ctx, wide(x), axes, keepdim, correction))
        with np.errstate(all="ignore"):
            ctx.root = np.sqrt(variance)
        return rounded(namespace(x).asarray(ctx.root), x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        xp = namespace(grad)
        with np.errstate(all="ignore"):
            half = xp.where(ctx.root == 0, 0, wide(grad) / (2 * ctx.root)).astype(wide(grad).dtype)
        return rounded(Var.backward(ctx, half)[0], grad.dtype), None, None, None


class Prod(ArrayFunction):
    """Product over axes."""

    @staticmethod
    def forward(ctx: Any, x: Any, axis: int | None, keepdim: bool) -> Any:
        ctx.axis, ctx.keepdim = axis, keepdim
        ctx.save(x)
        return rounded(wide(x).prod(axis=axis, keepdims=keepdim, dtype=wide(x).dtype), x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved
        xp = namespace(x)
        w = wide(x)
        flat = w.reshape(-1) if ctx.axis is None else xp.moveaxis(w, ctx.axis, -1)
        # The product of all others, right also where factors are 0: products from the left times products from the
        # right.
        left, right = xp.ones_like(flat), xp.ones_like(flat)
        if flat.shape[-1] > 1:
            left[..., 1:] = xp.cumprod(flat[..., :-1], axis=-1)
            right[..., :-1] = xp.cumprod(flat[..., :0:-1], axis=-1)[..., ::-1]
        others = left * right
        others = others.reshape(x.shape) if ctx.axis is None else xp.moveaxis(others, -1, ctx.axis)
        axes = tuple(range(x.ndim)) if ctx.axis is None else (ctx.axis,)
        return rounded(_spread(wide(grad), x.shape, axes, ctx.keepdim) * others, grad.dtype), None, None


def prod(input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The product over one dimension or all."""
    check_tensor("prod", input)
    if dtype is not None:
        input = cast(input, _dtypes.as_dtype(dtype))
    elif input.dtype.category < 2:
        input = cast(input, _dtypes.int64)
    axis = None if dim is None else axis_of(dim, input._data.ndim, "prod")
    return Prod.apply(input, axis if input._data.ndim else None, keepdim)


# ---- extrema -------------------------------------------------------------------------------------------------------


def _require_elements(name: str, x: Any, axis: int | None) -> None:
    if axis is None and x.size == 0:
        raise (IndexError if name.startswith("arg") else InputError)(
            f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim with "
            "the 'dim' argument."
        )
    if axis is not None and x.ndim and x.shape[axis] == 0:
        raise IndexError(f"{name}(): Expected reduction dimension {axis} to have non-zero size.")


def _nonempty_axes(name: str, x: Any, dim: Any) -> tuple[int, ...]:
    """The axes of a reduction that needs elements; IndexError where there are none."""
    axes = axes_of(dim, x.ndim, name)
    if dim is None or dim == ():
        _require_elements(name, x, None)
    for axis in axes:
        _require_elements(name, x, axis)
    return axes


class Extreme(ArrayFunction):
    """The greatest or smallest over axes; equal ones share the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Any, axes: tuple[int, ...], keepdim: bool, greatest: bool) -> Any:
        out = (x.max if greatest else x.min)(axis=axes, keepdims=keepdim)
        ctx.axes, ctx.keepdim = axes, keepdim
        ctx.save(x, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, out = ctx.saved
        chosen = x == _spread(namespace(x).asarray(out), x.shape, ctx.axes, ctx.keepdim)
        share = wide(_spread(grad, x.shape, ctx.axes, ctx.keepdim)) / chosen.sum(axis=ctx.axes, keepdims=True)
        return (share * chosen).astype(grad.dtype), None, None, None


class ExtremeAlong(ArrayFunction):
    """The greatest or smallest along an axis and where the first of them stands; the gradient goes there."""

    @staticmethod
    def forward(ctx: Any, x: Any, axis: int, keepdim: bool, greatest: bool) -> Any:
        xp = namespace(x)
        w = wide(x)
        index = (
            xp.expand_dims((w.argmax if greatest else w.argmin)(axis=axis), axis) if x.ndim else xp.zeros((), np.int64)
        )
        out = xp.take_along_axis(x, index, axis) if x.ndim else x.copy()
        ctx.axis, ctx.shape, ctx.keepdim = axis, x.shape, keepdim
        ctx.index = index
        if x.ndim and not keepdim:
            out, index = xp.squeeze(out, axis), xp.squeeze(index, axis)
        return out, index.astype(np.int64)

    @staticmethod
    def backward(ctx: Any, grad: Any, _: Any) -> Any:
        xp = namespace(grad)
        if not ctx.shape:
            return grad, None, None, None
        out = xp.zeros(ctx.shape, grad.dtype)
        xp.put_along_axis(out, ctx.index, grad if ctx.keepdim else xp.expand_dims(grad, ctx.axis), ctx.axis)
        return out, None, None, None


def _extreme(name: str, greatest: bool) -> Callable:
    def operation(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
        check_tensor(name, input)
        if isinstance(dim, Tensor) or other is not None:
            from fastnet.ops.arithmetic import maximum, minimum

            return (maximum if greatest else minimum)(input, dim if other is None else other)
        if dim is None:
            _require_elements(name, input._data, None)
            return Extreme.apply(input, tuple(range(input._data.ndim)), False, greatest)
        axis = axis_of(dim, input._data.ndim, name)
        _require_elements(name, input._data, axis)
        return result(name, "values indices")(*ExtremeAlong.apply(input, axis, keepdim, greatest))

    operation.__name__ = operation.__qualname__ = name
    which = "greatest" if greatest else "smallest"
    operation.__doc__ = (
        f"The {which} element, or with ``dim`` a named tuple (values, indices) along it, or with a second tensor the "
        f"elementwise {name}imum."
    )
    return operation


max = _extreme("max", True)
min = _extreme("min", False)


def amax(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The greatest over dimensions; equal ones share the gradient."""
    check_tensor("amax", input)
    axes = _nonempty_axes("amax", input._data, dim)
    return Extreme.apply(input, axes, keepdim, True)


def amin(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The smallest over dimensions; equal ones share the gradient."""
    check_tensor("amin", input)
    axes = _nonempty_axes("amin", input._data, dim)
    return Extreme.apply(input, axes, keepdim, False)


def _arg(name: str) -> Callable:
    def operation(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
        check_tensor(name, input)
        if input.dtype is _dtypes.bool_:
            raise KindError(f"{name}(): does not support bool input")
        x = wide(input._data)
        axis = None if dim is None else axis_of(dim, x.ndim, name)
        _require_elements(name, x, axis)
        if axis is not None and x.ndim == 0:
            axis = None
        out = getattr(x, name)(axis=axis)
        if keepdim:
            out = (
                namespace(x)
                .asarray(out)
                .reshape([1 if axis is None or i == axis else n for i, n in enumerate(x.shape)])
            )
        return Tensor._wrap(namespace(x).asarray(out, np.int64))

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = (
        f"Where the {'greatest' if name == 'argmax' else 'smallest'} element stands: in the flat tensor, or along "
        "``dim``."
    )
    return operation


argmax = _arg("argmax")
argmin = _arg("argmin")


def _truth(name: str) -> Callable:
    def operation(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
        check_tensor(name, input)
        x = input._data
        out = getattr(x != 0, name)(axis=axes_of(dim, x.ndim, name), keepdims=keepdim)
        return Tensor._wrap(out.astype(np.uint8) if x.dtype == np.uint8 else out)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = f"Whether {name} of the elements is not zero."
    return operation


any = _truth("any")
all = _truth("all")


def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """How many elements are not zero."""
    check_tensor("count_nonzero", input)
    return Tensor._wrap((input._data != 0).sum(axis=axes_of(dim, input._data.ndim, "count_nonzero"), dtype=np.int64))


# ---- norms, logsumexp ----------------------------------------------------------------------------------------------


class Norm2(ArrayFunction):
    """The Euclidean norm over axes; its gradient at 0 is 0."""

    @staticmethod
    def forward(ctx: Any, x: Any, axes: tuple[int, ...], keepdim: bool) -> Any:
        w = wide(x)
        out = np.sqrt((w * w).sum(axis=axes, keepdims=keepdim))
        ctx.axes, ctx.keepdim = axes, keepdim
        ctx.save(x)
        ctx.norm = out
        return rounded(out, x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved
        xp = namespace(x)
        norm = _spread(xp.asarray(ctx.norm), x.shape, ctx.axes, ctx.keepdim)
        with np.errstate(all="ignore"):
            direction = xp.where(norm == 0, 0, wide(x) / norm)
        return rounded(wide(_spread(grad, x.shape, ctx.axes, ctx.keepdim)) * direction, grad.dtype), None, None


class NormP(ArrayFunction):
    """(sum |x|^p)^(1/p) over axes for p other than 0, 1, 2 and the infinities; its gradient at 0 is 0."""

    @staticmethod
    def forward(ctx: Any, x: Any, axes: tuple[int, ...], keepdim: bool, p: float) -> Any:
        w = wide(x)
        with np.errstate(all="ignore"):
            out = namespace(x).asarray(
                (np.abs(w) ** w.dtype.type(p)).sum(axis=axes, keepdims=keepdim) ** w.dtype.type(1 / p)
            )
        ctx.axes, ctx.keepdim, ctx.p, ctx.norm = axes, keepdim, p, out
        ctx.save(x)
        return rounded(out, x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved
        xp = namespace(x)
        w, p = wide(x), ctx.p
        norm = _spread(ctx.norm, x.shape, ctx.axes, ctx.keepdim)
        with np.errstate(all="ignore"):
            if p < 1:
                rate = xp.where(w == 0, 0, xp.sign(w) * xp.abs(w) ** (p - 1)) * norm ** (1 - p)
            else:
                rate = w * xp.where(w == 0, 0, xp.abs(w) ** (p - 2)) / norm ** (p - 1)
            rate = xp.where(norm == 0, 0, rate)
        g = wide(_spread(grad, x.shape, ctx.axes, ctx.keepdim)) * rate
        return rounded(g.astype(w.dtype), grad.dtype), None, None, None


_present = unary("present", lambda x: (x != 0).astype(x.dtype), zero_gradient, "1 where an element is not 0, else 0.")


def norm(
    input: Tensor, p: Any = "fro", dim: Any = None, keepdim: bool = False, out: Tensor | None = None, dtype: Any = None
) -> Tensor:
    """The p-norm of the elements over ``dim``: (sum |x|^p)^(1/p); "fro" is 2; infinities give the extremes of |x|."""
    if out is not None:
        return into(out, norm(input, p, dim, keepdim, dtype=dtype), "norm")
    input = _floating("norm", input, dtype)
    if isinstance(p, str) and p == "nuc":
        from fastnet.ops.linalg import matrix_norm

        return matrix_norm(input, "nuc", (-2, -1) if dim is None else dim, keepdim)
    if p is None or p in ("fro", 2):
        return Norm2.apply(input, axes_of(dim, input._data.ndim, "norm"), keepdim)
    if isinstance(p, str):
        raise InputError(f"norm: p is {p!r}, expected a number or 'fro'")
    if p in (float("inf"), float("-inf")):
        return (amax if p > 0 else amin)(abs_(input), () if dim is None else dim, keepdim)
    if p == 0:
        return sum(_present(input), dim, keepdim)
    if p == 1:
        return sum(abs_(input), dim, keepdim)
    return NormP.apply(input, axes_of(dim, input._data.ndim, "norm"), keepdim, float(p))


class LogSumExp(ArrayFunction):
    """log(sum(exp(x))) over axes, shifted by the greatest element."""

    @staticmethod
    def forward(ctx: Any, x: Any, axes: tuple[int, ...], keepdim: bool) -> Any:
        xp = namespace(x)
        w = wide(x)
        top = greatest(w, axes)  # of no elements: log(0)
        top = xp.where(xp.isfinite(top), top, 0)
        with np.errstate(divide="ignore", over="ignore"):
            out = xp.log(xp.exp(w - top).sum(axis=axes, keepdims=True)) + top
        ctx.axes, ctx.keepdim, ctx.out = axes, keepdim, out
        ctx.save(x)
        return rounded(out if keepdim else out.reshape([n for i, n in enumerate(x.shape) if i not in axes]), x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved
        with np.errstate(all="ignore"):
            weight = namespace(x).exp(wide(x) - ctx.out)
        return rounded(wide(_spread(grad, x.shape, ctx.axes, ctx.keepdim)) * weight, grad.dtype), None, None


def logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """log(sum(exp(x))) over ``dim``, without overflow."""
    check_tensor("logsumexp", input)
    input = input if input.dtype.is_floating_point else cast(input, _dtypes.get_default_dtype())
    return LogSumExp.apply(input, axes_of(dim, input._data.ndim, "logsumexp"), keepdim)
