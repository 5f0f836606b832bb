"""Medians, modes, quantiles, histograms, covariances; reductions that leave NaN out."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._array_code import accumulate
from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.ops import arithmetic, comparisons, elementwise, reductions, selection
from fastnet.ops._numeric import axis_of, wide
from fastnet.ops._operands import cast, check_tensor
from fastnet.ops._results import result
from fastnet.ops.indexing import argsort, gather, sort
from fastnet.ops.shape import flatten, movedim, narrow, reshape, squeeze, unsqueeze


def _check_not_bool(name: str, input: Tensor) -> None:
    check_tensor(name, input)
    if input.dtype is _dtypes.bool_:
        raise KindError(f"{name}: not implemented for bool")


# ---- without NaN -----------------------------------------------------------------------------------------------------


def nansum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum over ``dim``, NaN counted as 0."""
    check_tensor("nansum", input)
    if input.dtype.is_floating_point:
        input = selection.where(comparisons.isnan(input), 0.0, input)
    return reductions.sum(input, dim, keepdim, dtype=dtype)


def nanmean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean over ``dim`` of what is not NaN."""
    check_tensor("nanmean", input)
    if not input.dtype.is_floating_point:
        raise KindError(f"nanmean(): expected input to have floating point dtype but got {input.dtype}")
    count = reductions.sum(comparisons.logical_not(comparisons.isnan(input)), dim, keepdim)
    return arithmetic.div(nansum(input, dim, keepdim, dtype=dtype), count)


# ---- order statistics ------------------------------------------------------------------------------------------------


class EvenlyAmongEqual(ArrayFunction):
    """A value that occurs in x; the elements equal to it share the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Any, value: Any) -> Any:
        equal = (x == value) | ((x != x) & (value != value))
        ctx.equal = equal
        return value

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        share = wide(grad) / builtins.max(1, int(ctx.equal.sum()))
        return (ctx.equal * share).astype(grad.dtype), None


def _pick(name: str, input: Tensor, axis: int, place: Any, keepdim: bool, order: Tensor | None = None) -> Any:
    """(values, indices) of the element at ``place`` of the order along an axis."""
    if not input._data.ndim:
        return result(name, "values indices")(input.clone(), Tensor._wrap(np.zeros((), np.int64)))
    order = argsort(input, axis) if order is None else order
    index = gather(order, axis, place) if isinstance(place, Tensor) else narrow(order, axis, place, 1)
    values = gather(input, axis, index)
    if not keepdim:
        values, index = squeeze(values, axis), squeeze(index, axis)
    return result(name, "values indices")(values, index.clone())


def _along(name: str, input: Tensor, dim: int) -> int:
    axis = axis_of(dim, input._data.ndim, name)
    if input._data.ndim and input._data.shape[axis] == 0:
        raise IndexError(f"{name}(): Expected reduction dim {axis} to have non-zero size.")
    return axis


def _median(name: str, skip_nan: bool) -> Callable:
    def operation(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
        _check_not_bool(name, input)
        x = wide(input._data)
        xp = namespace(x)
        if dim is None:
            flat = x.reshape(-1)
            seen = flat[~xp.isnan(flat)] if skip_nan and x.dtype.kind == "f" else flat
            if not seen.size:
                value = xp.full((), math.nan if x.dtype.kind == "f" else np.iinfo(x.dtype).min, x.dtype)
            elif x.dtype.kind == "f" and bool(xp.isnan(seen).any()):
                value = xp.full((), math.nan, x.dtype)
            else:
                value = xp.sort(seen)[(seen.size - 1) // 2].reshape(())
            return EvenlyAmongEqual.apply(input, xp.asarray(value).astype(input._data.dtype))
        axis = _along(name, input, dim)
        if not x.ndim:
            return _pick(name, input, axis, 0, keepdim)
        nan = xp.isnan(x) if x.dtype.kind == "f" else xp.zeros(x.shape, bool)
        counted = (~nan).sum(axis=axis, keepdims=True) if skip_nan else x.shape[axis]
        place = (counted - 1) // 2 + xp.zeros([1 if i == axis else n for i, n in enumerate(x.shape)], np.int64)
        place = xp.maximum(place, 0)
        if not skip_nan:  # NaN sorts last: where there is one, the first of them is the median
            some = nan.any(axis=axis, keepdims=True)
            place = xp.where(some, (~nan).sum(axis=axis, keepdims=True), place)
        return _pick(name, input, axis, Tensor._wrap(place.astype(np.int64)), keepdim)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = "The median, the lower of two, or with ``dim`` a named tuple (values, indices) along it; " + (
        "NaN is left out." if skip_nan else "NaN if there is a NaN."
    )
    return operation


median, nanmedian = _median("median", False), _median("nanmedian", True)


def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """A named tuple (values, indices): the k-th smallest along ``dim``, counted from 1."""
    _check_not_bool("kthvalue", input)
    axis = _along("kthvalue", input, dim)
    if not 1 <= k <= (input._data.shape[axis] if input._data.ndim else 1):
        raise InputError("kthvalue(): selected number k out of range for dimension " + str(axis))
    return _pick("kthvalue", input, axis, k - 1, keepdim)


def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    """A named tuple (values, indices): the most frequent value along ``dim``, the smallest of several, and where its
    last one stands."""
    check_tensor("mode", input)
    axis = _along("mode", input, dim)
    x = input._data
    if not x.ndim:
        return result("mode", "values indices")(input.clone(), Tensor._wrap(np.zeros((), np.int64)))
    xp = namespace(x)
    order = argsort(input, axis)
    ordered = xp.moveaxis(xp.take_along_axis(wide(x), order._data, axis), axis, -1)
    n = ordered.shape[-1]
    # How many equal ones end at every place of the order; the first place with the longest run is the mode's last one.
    new = xp.ones(ordered.shape, bool)
    new[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    places = xp.arange(n)
    run = places - accumulate(np.maximum, xp.where(new, places, 0), -1)
    place = xp.moveaxis(run.argmax(axis=-1)[..., None], -1, axis)
    return _pick("mode", input, axis, Tensor._wrap(place), keepdim, order)


def _quantile(name: str, skip_nan: bool) -> Callable:
    def operation(
        input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
    ) -> Tensor:
        check_tensor(name, input)
        if input.dtype.name not in ("float32", "float64"):
            raise KindError(f"{name}() input tensor must be either float or double dtype")
        if interpolation not in ("linear", "lower", "higher", "midpoint", "nearest"):
            raise InputError(
                f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, but got "
                f"{interpolation}"
            )
        if isinstance(q, Tensor):
            if q.dtype is not input.dtype:
                raise KindError(f"{name}() q tensor must be same dtype as the input tensor")
            if q._data.ndim > 1:
                raise InputError(f"{name}() q must be a scalar or 1D tensor")
            wanted, scalar = q._data, q._data.ndim == 0
        else:
            wanted, scalar = np.asarray(q, input._data.dtype), True
        xp = namespace(input._data)
        wanted = xp.asarray(wanted).reshape(-1)
        if not bool(((wanted >= 0) & (wanted <= 1)).all()):
            raise InputError(f"{name}() q values must be in the range [0, 1]")
        if input._data.size == 0:
            raise InputError(f"{name}() input tensor must be non-empty")
        n = input._data.ndim
        axis = axis_of(0 if dim is None else dim, n, name)
        moved = flatten(input) if dim is None or not n else movedim(input, axis, -1)  # (..., N)
        values = sort(moved, -1)[0]
        last = moved._data.shape[-1] - 1
        nan = xp.isnan(moved._data)
        rank = wanted.reshape(-1, *[1] * moved._data.ndim)  # (Q, 1, ..., 1)
        if skip_nan:
            rank = rank * (xp.maximum((~nan).sum(axis=-1, keepdims=True), 1) - 1)
        else:  # where there is a NaN, it is the greatest
            rank = xp.where(nan.any(axis=-1, keepdims=True), last, rank * last)
        rank = rank.astype(input._data.dtype)
        if interpolation == "lower":
            rank = xp.floor(rank)
        elif interpolation == "higher":
            rank = xp.ceil(rank)
        elif interpolation == "nearest":
            rank = xp.round(rank)
        below = xp.floor(rank)
        wide_values = unsqueeze(values, 0).expand(len(wanted), *values._data.shape)

        def at(where: Any) -> Tensor:
            index = xp.broadcast_to(where.astype(np.int64), (len(wanted), *values._data.shape[:-1], 1))
            return gather(wide_values, -1, Tensor._wrap(index))

        out = at(below)
        if interpolation in ("linear", "midpoint"):
            weight = (rank - below) if interpolation == "linear" else xp.full_like(rank, 0.5)
            out = arithmetic.lerp(out, at(xp.ceil(rank)), Tensor._wrap(xp.asarray(weight)))
        out = squeeze(out, -1)
        if keepdim:
            out = reshape(out, (len(wanted), *[1] * n)) if dim is None else unsqueeze(out, axis + 1) if n else out
        return squeeze(out, 0) if scalar else out

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = (
        "Quantiles q (a number or a vector, whose dimension comes first) of all elements or along ``dim``"
        + (", NaN left out." if skip_nan else ".")
    )
    return operation


quantile, nanquantile = _quantile("quantile", False), _quantile("nanquantile", True)


# ---- pairs -----------------------------------------------------------------------------------------------------------


def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """A named tuple (min, max): the extremes of all elements or along ``dim``."""
    check_tensor("aminmax", input)
    return result("aminmax", "min max")(
        reductions.amin(input, () if dim is None else dim, keepdim),
        reductions.amax(input, () if dim is None else dim, keepdim),
    )


def std_mean(
    input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean over ``dim``."""
    dim, unbiased = (None, dim) if isinstance(dim, bool) else (dim, unbiased)
    return reductions.std(input, dim, unbiased, keepdim, correction=correction), reductions.mean(input, dim, keepdim)


def var_mean(
    input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
) -> tuple[Tensor, Tensor]:
    """Variance and mean over ``dim``."""
    dim, unbiased = (None, dim) if isinstance(dim, bool) else (dim, unbiased)
    return reductions.var(input, dim, unbiased, keepdim, correction=correction), reductions.mean(input, dim, keepdim)


def cov(
    input: Tensor, *, correction: int = 1, fweights: Tensor | None = None, aweights: Tensor | None = None
) -> Tensor:
    """The covariance matrix of variables in rows, observed in columns."""
    check_tensor("cov", input)
    if input._data.ndim > 2:
        raise InputError(f"cov(): expected input to have two or fewer dimensions but got an input with {input.dim()}")
    if input.dtype is _dtypes.bool_:
        raise KindError("cov(): bool dtype is not supported for input")
    x = reshape(input, 1, -1) if input._data.ndim < 2 else input
    x = x if x.dtype.is_floating_point else cast(x, _dtypes.get_default_dtype())
    weights = None
    for name, w in (("fweights", fweights), ("aweights", aweights)):
        if w is not None:
            check_tensor("cov", w, name)
            if w._data.ndim > 1:
                raise InputError(f"cov(): expected {name} to have one or fewer dimensions but got {w._data.ndim}")
            if w._data.size != x._data.shape[1]:
                raise InputError(
                    f"cov(): expected {name} to have the same numel as there are observations in the input but got "
                    f"{w._data.size} != {x._data.shape[1]}"
                )
            if w.dtype.is_floating_point is (name == "fweights"):
                kind = "integral" if name == "fweights" else "floating-point"
                raise KindError(f"cov(): expected {name} to have {kind} dtype but got {name} with {w.dtype} dtype")
            if w._data.size and float(w._data.min()) < 0:
                raise InputError(f"cov(): {name} cannot be negative")
            weights = w if weights is None else weights * w
    if weights is None:
        total: Any = x._data.shape[1]
        centred = x - reductions.mean(x, 1, True)
        weighted = centred
    else:
        total = reductions.sum(weights)
        centred = x - reductions.sum(x * weights, 1, True) / total
        weighted = centred * weights
    if aweights is not None and correction:
        divisor = total - correction * reductions.sum(weights * aweights) / total
    else:
        divisor = total - correction
    divisor = selection.clamp(divisor, min=0) if isinstance(divisor, Tensor) else float(builtins.max(0, divisor))
    from fastnet.ops.matmul import mm

    return squeeze(arithmetic.div(mm(cast(weighted, x.dtype), cast(centred, x.dtype).t()), divisor))


def corrcoef(input: Tensor) -> Tensor:
    """The correlation matrix of variables in rows, observed in columns."""
    from fastnet.ops.shape import diagonal

    c = cov(input)
    if not c._data.ndim:
        return c / c
    deviation = elementwise.sqrt(diagonal(c))
    return selection.clamp(c / unsqueeze(deviation, 1) / unsqueeze(deviation, 0), -1, 1)


# ---- counting --------------------------------------------------------------------------------------------------------


def _range(name: str, x: Any, low: float, high: float, around: float) -> tuple[float, float]:
    """The range given, or that of the elements; ``around`` a value to both sides if all are one."""
    if low == high and not x.size:
        return low, low + 2 * around
    if low == high:
        low, high = float(x.min()), float(x.max())
    if low == high:
        low, high = low - around, high + around
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError(f"{name}: range of [{low}, {high}] is not finite")
    if low > high:
        raise InputError(f"{name}: max must be larger than min")
    return low, high


def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements lie in each of ``bins`` equal parts of [min, max] (of all elements if both are 0)."""
    check_tensor("histc", input)
    if bins <= 0:
        raise InputError("bins must be > 0")
    if input.dtype is _dtypes.bool_ or input._data.dtype.itemsize == 2:
        raise KindError(f"histc: not implemented for {input.dtype}")
    x = input._data.reshape(-1)
    low, high = _range("histc", x, min, max, 1.0)
    inside = x[(x >= low) & (x <= high)]
    place = namespace(x).minimum(((inside - low) * bins / (high - low)).astype(np.int64), bins - 1)
    return Tensor._wrap(namespace(x).bincount(place, minlength=bins).astype(x.dtype))


def histogram(
    input: Tensor, bins: Any, *, range: Any = None, weight: Tensor | None = None, density: bool = False
) -> Any:
    """A named tuple (hist, bin_edges): counts, or summed weights, in equal parts or between the edges given."""
    check_tensor("histogram", input)
    if not input.dtype.is_floating_point:
        raise KindError(f"histogram: not implemented for {input.dtype}")
    x = input._data.reshape(-1)
    xp = namespace(x)
    if isinstance(bins, Tensor):
        edges = bins._data
    else:
        low, high = range or (0, 0)
        low, high = _range("histogram", x, low, high, 0.5)
        edges = xp.linspace(low, high, bins + 1).astype(x.dtype)
    hist, _ = xp.histogram(x, edges, weights=None if weight is None else weight._data.reshape(-1), density=density)
    return result("histogram", "hist bin_edges")(Tensor._wrap(hist.astype(x.dtype)), Tensor._wrap(edges))


def histogramdd(
    input: Tensor, bins: Any, *, range: Any = None, weight: Tensor | None = None, density: bool = False
) -> Any:
    """A named tuple (hist, bin_edges): ``histogram`` of points (..., D) in D dimensions, with a list of D edges.

    Args:
        bins: numbers of bins, one or D; or D sequences of edges.
        range: 2 D numbers, the least and the greatest edge of each dimension; default: of the points.
    """
    check_tensor("histogramdd", input)
    if not input.dtype.is_floating_point:
        raise KindError(f"histogramdd: not implemented for {input.dtype}")
    if input.dim() < 2:
        raise InputError(f"histogramdd: input tensor should have at least 2 dimensions, but got {input.dim()}")
    points = input._data.reshape(-1, input.shape[-1])
    dims = points.shape[1]
    xp = namespace(points)
    bins = [bins] * dims if isinstance(bins, (int, np.integer)) else list(bins)
    if len(bins) != dims:
        raise InputError(f"histogramdd: expected {dims} bins or sequences of edges, got {len(bins)}")
    if range is not None and len(range) != 2 * dims:
        raise InputError(f"histogramdd: for a {dims}-dimensional histogram range should have {2 * dims} elements")
    edges = []
    for d, b in enumerate(bins):
        if isinstance(b, Tensor):
            edges.append(b._data)
        else:
            low, high = (0, 0) if range is None else range[2 * d : 2 * d + 2]
            low, high = _range("histogramdd", points[:, d], low, high, 0.5)
            edges.append(xp.linspace(low, high, int(b) + 1).astype(points.dtype))
    weights = None if weight is None else weight._data.reshape(-1)
    hist, _ = xp.histogramdd(points, edges, weights=weights, density=density)
    found = Tensor._wrap(hist.astype(points.dtype)), [Tensor._wrap(e) for e in edges]
    return result("histogramdd", "hist bin_edges")(*found)
