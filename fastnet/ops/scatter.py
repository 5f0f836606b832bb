"""Writing at indices: ``scatter`` with reductions, ``index_add`` and its kin, masks. Additions to one element happen in
a fixed order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.ops import arithmetic, selection
from fastnet.ops._numeric import axis_of, is_short, rounded, wide
from fastnet.ops._operands import cast, check_tensor
from fastnet.ops.indexing import _check_along, _check_shapes, _coordinates, add_at, getitem, setitem
from fastnet.ops.shape import diagonal, expand, flatten, reshape


def reduce_at(out: Any, index: tuple, values: Any, function: Any) -> None:
    """out[index] = function(out[index], values), repeated indices one after another."""
    if isinstance(out, np.ndarray):
        function.at(out, index, values)
        return
    xp = namespace(out)
    flat = xp.arange(out.size).reshape(out.shape)[index].reshape(-1)
    if not flat.size:
        return
    values = xp.broadcast_to(values, out[index].shape).reshape(-1)
    order = xp.argsort(flat, kind="stable")
    flat, values = flat[order], values[order]
    starts = xp.flatnonzero(xp.concatenate([xp.ones(1, bool), flat[1:] != flat[:-1]]))
    ends = xp.concatenate([starts[1:], xp.asarray([flat.size])])
    view = out.reshape(-1)
    for k in range(int((ends - starts).max())):  # the k-th repetition of every index
        at = starts[starts + k < ends] + k
        view[flat[at]] = function(view[flat[at]], values[at])


# ---- scatter_reduce --------------------------------------------------------------------------------------------------

_REDUCTIONS = {
    "sum": (np.add, 0),
    "mean": (np.add, 0),
    "prod": (np.multiply, 1),
    "amax": (np.maximum, None),
    "amin": (np.minimum, None),
}


class ScatterReduce(ArrayFunction):
    """x with the elements that index names combined with those of src."""

    @staticmethod
    def forward(ctx: Any, x: Any, axis: int, index: Any, src: Any, reduce: str, include_self: bool) -> Any:
        xp = namespace(x)
        where = _coordinates(index, axis)
        part = wide(src)[tuple(slice(n) for n in index.shape)]
        out = wide(x).copy()
        function, neutral = _REDUCTIONS[reduce]
        if not include_self:
            if neutral is None:
                if x.dtype.kind in "fV":
                    ends = (-np.inf, np.inf)
                else:
                    ends = (False, True) if x.dtype.kind == "b" else (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
                neutral = ends[0] if reduce == "amax" else ends[1]
            out[where] = neutral
        with np.errstate(all="ignore"):
            reduce_at(out, where, part, function)
        count = None
        if reduce == "mean":
            count = xp.full(x.shape, 1 if include_self else 0, np.int64)
            add_at(count, where, 1)
            count = xp.maximum(count, 1)
            out = out / count if x.dtype.kind in "fV" else out // count
        out = out.astype(x.dtype)
        ctx.save(x, src, out)
        ctx.where, ctx.reduce, ctx.include_self, ctx.count = where, reduce, include_self, count
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, src, out = (wide(a) for a in ctx.saved)
        xp, where, g = namespace(grad), ctx.where, wide(grad)
        part = src[tuple(slice(n) for n in where_shape(where))]
        with np.errstate(all="ignore"):
            if ctx.reduce in ("sum", "mean"):
                of_x = g if ctx.count is None else g / ctx.count
                of_part = of_x[where]
            elif ctx.reduce == "prod":
                # The product of all others: of a single zero, that of the rest; zero where there are several.
                zeros = ((x == 0) if ctx.include_self else xp.zeros(x.shape, bool)).astype(np.int64)
                add_at(zeros, where, (part == 0).astype(np.int64))
                rest = xp.where(x == 0, 1, x) if ctx.include_self else xp.ones_like(x)
                if not ctx.include_self:
                    untouched = xp.ones(x.shape, bool)
                    untouched[where] = False
                    rest = xp.where(untouched, x, rest)
                reduce_at(rest, where, xp.where(part == 0, 1, part), np.multiply)
                of_x = g * xp.where(x == 0, xp.where(zeros == 1, rest, 0), xp.where(zeros == 0, rest / x, 0))
                z = zeros[where]
                of_part = g[where] * xp.where(
                    part == 0, xp.where(z == 1, rest[where], 0), xp.where(z == 0, rest[where] / part, 0)
                )
            else:
                mine = (x == out) if ctx.include_self else xp.zeros(x.shape, bool)
                theirs = part == out[where]
                ties = mine.astype(np.int64)
                add_at(ties, where, theirs.astype(np.int64))
                share = g / xp.maximum(ties, 1)
                of_x, of_part = share * mine, share[where] * theirs
        if not ctx.include_self:
            untouched = xp.ones(x.shape, bool)
            untouched[where] = False
            of_x = xp.where(untouched, g, 0)
        of_src = xp.zeros(src.shape, g.dtype)
        of_src[tuple(slice(n) for n in of_part.shape)] = of_part
        need = ctx.needs_input_grad
        return (
            rounded(of_x, grad.dtype) if need[0] else None,
            None,
            None,
            rounded(of_src, grad.dtype) if need[3] else None,
            None,
            None,
        )


def where_shape(where: Any) -> tuple[int, ...]:
    """The shape that a full index gives."""
    return np.broadcast_shapes(*(index.shape for index in where))


def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """``input`` with elements combined by ``reduce`` ("sum", "prod", "mean", "amax", "amin") with those of ``src`` that
    ``index`` sends to them; without ``include_self`` they start anew."""
    check_tensor("scatter_reduce", input)
    check_tensor("scatter_reduce", index, "index")
    check_tensor("scatter_reduce", src, "src")
    if reduce not in _REDUCTIONS:
        raise InputError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}.")
    if src.dtype is not input.dtype:
        raise KindError("scatter_reduce(): Expected self.dtype to be equal to src.dtype")
    a = axis_of(dim, input._data.ndim, "scatter_reduce")
    if not input._data.ndim:
        one = scatter_reduce(
            reshape(input, 1), 0, reshape(index, -1), reshape(src, -1), reduce, include_self=include_self
        )
        return reshape(one, ())
    if not index._data.size:
        return input.clone()
    _check_shapes("scatter_reduce", input._data, a, index._data)
    _check_along("scatter_reduce", index, input._data.shape[a], input)
    if any(i > s for i, s in zip(index._data.shape, src._data.shape, strict=True)):
        raise InputError(
            f"scatter_reduce(): Expected index {list(index._data.shape)} to be no larger than src "
            f"{list(src._data.shape)}"
        )
    return ScatterReduce.apply(input, a, index._data.astype(np.int64), src, reduce, include_self)


# ---- one index along a dimension -------------------------------------------------------------------------------------


def _checked_index(name: str, input: Tensor, dim: int, index: Tensor) -> tuple[int, tuple]:
    """The axis, and the index of a vector of places along it."""
    check_tensor(name, input)
    check_tensor(name, index, "index")
    a = axis_of(dim, input._data.ndim, name)
    if index._data.ndim > 1:
        raise IndexError(f"{name}(): Index is supposed to be a vector, but got dim: {index._data.ndim}")
    _check_along(name, index, input._data.shape[a] if input._data.ndim else 1, input)
    return a, (*[slice(None)] * a, reshape(index, -1))


class IndexAdd(ArrayFunction):
    """A copy of x with values added at an index."""

    @staticmethod
    def forward(ctx: Any, x: Any, index: tuple, values: Any) -> Any:
        ctx.index, ctx.shape = index, values.shape
        out = wide(x).copy() if not is_short(x) else wide(x)
        add_at(out, index, wide(values))
        return rounded(out, x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        from fastnet.ops._numeric import unbroadcast

        of_values = (
            unbroadcast(namespace(grad).asarray(grad[ctx.index]), ctx.shape) if ctx.needs_input_grad[2] else None
        )
        return grad, None, of_values


def _along_source(name: str, input: Tensor, a: int, index: Tensor, source: Tensor) -> None:
    check_tensor(name, source, "source")
    if source.dtype is not input.dtype:
        raise KindError(
            f"{name}(): self and source expected to have the same dtype, but got {input.dtype} and {source.dtype}"
        )
    if input._data.ndim and source._data.ndim != input._data.ndim:
        raise (IndexError if name == "index_copy" else RuntimeError)(
            f"{name}(): source has {source._data.ndim} dimensions, expected {input._data.ndim}"
        )
    n = index._data.size
    wanted = tuple(n if i == a else k for i, k in enumerate(input._data.shape))
    if (source._data.shape != wanted) if input._data.ndim else (source._data.size != n):
        raise InputError(
            f"{name}(): Number of indices ({n}) and shape of source {list(source._data.shape)} do not fit self "
            f"{list(input._data.shape)}"
        )


def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """``input`` with ``alpha`` times the slices of ``source`` added to those that a vector of indices names."""
    a, _ = _checked_index("index_add", input, dim, index)
    _along_source("index_add", input, a, index, source)
    source = source if alpha == 1 else cast(arithmetic.mul(source, alpha), input.dtype)
    if not input._data.ndim:
        return reshape(index_add(reshape(input, 1), 0, reshape(index, -1), reshape(source, -1)), ())
    return IndexAdd.apply(input, (*[slice(None)] * a, index._data.reshape(-1).astype(np.int64)), source)


def _set(name: str, input: Tensor, index: Any, value: Any) -> Tensor:
    out = input.clone()
    setitem(out, index, value)
    return out


def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """``input`` with the slices of ``source`` in place of those that a vector of indices names."""
    a, places = _checked_index("index_copy", input, dim, index)
    _along_source("index_copy", input, a, index, source)
    if not input._data.ndim:
        return reshape(source, ()).clone()
    return _set("index_copy", input, places, source)


def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """``input`` with a value in the slices that a vector of indices names."""
    places = _places("index_fill", input, dim, index)
    if isinstance(value, Tensor):
        if value._data.ndim:
            raise InputError(
                f"index_fill_ only supports a 0-dimensional value tensor, but got tensor with {value._data.ndim} "
                "dimension(s)."
            )
        value = cast(value, input.dtype)
    if not input._data.ndim:
        return selection.where(Tensor._wrap(np.asarray(index._data.size > 0)), value, input)
    return _set("index_fill", input, places, value)


def _places(name: str, input: Tensor, dim: int, index: Tensor) -> tuple:
    """The index of a vector of places along a dimension, which may count from the end."""
    check_tensor(name, input)
    check_tensor(name, index, "index")
    a = axis_of(dim, input._data.ndim, name)
    if index.dtype.category != 1:
        raise IndexError(f"{name}(): Expected dtype int64 for index.")
    if index._data.ndim > 1:
        raise InputError("Index has to be a vector/scalar")
    return (*[slice(None)] * a, reshape(index, -1))


def index_reduce(
    input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """``input`` with the slices that ``index`` names combined with those of ``source``: "prod", "mean", "amax" or
    "amin"."""
    a, _ = _checked_index("index_reduce", input, dim, index)
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise InputError(f"index_reduce(): Expected reduce to be one of prod, mean, amax or amin but got {reduce}.")
    _along_source("index_reduce", input, a, index, source)
    if not input._data.ndim:
        return scatter_reduce(input, 0, reshape(index, -1), reshape(source, -1), reduce, include_self=include_self)
    spread = expand(reshape(index, [-1 if i == a else 1 for i in range(max(input._data.ndim, 1))]), *source._data.shape)
    return scatter_reduce(input, dim, spread, source, reduce, include_self=include_self)


# ---- any index -------------------------------------------------------------------------------------------------------


def index_put(input: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """``input`` with ``values`` at a tuple of index tensors, or added there."""
    check_tensor("index_put", input)
    check_tensor("index_put", values, "values")
    if values.dtype is not input.dtype:
        raise KindError(
            f"Index put requires the source and destination dtypes match, got {input.dtype} for the destination and "
            f"{values.dtype} for the source."
        )
    index = tuple(slice(None) if i is None else i for i in indices)
    if not accumulate:
        return _set("index_put", input, index, values)
    from fastnet.ops.indexing import _check_index, _plain_index

    plain, _ = _plain_index(index)
    _check_index(input._data, plain)
    return IndexAdd.apply(input, plain, values)


def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """``input`` with the elements of ``source``, in order, where the mask is true."""
    check_tensor("masked_scatter", input)
    check_tensor("masked_scatter", mask, "mask")
    check_tensor("masked_scatter", source, "source")
    if mask.dtype is not _dtypes.bool_:
        raise KindError(f"masked_scatter_ only supports boolean masks, but got mask with dtype {mask.dtype}")
    if source.dtype is not input.dtype:
        raise KindError(
            f"masked_scatter: expected self and source to have same dtypes but got {input.dtype} and {source.dtype}"
        )
    shape = np.broadcast_shapes(input._data.shape, mask._data.shape)
    out = expand(input, *shape).clone()
    mask = expand(mask, *shape)
    count = int(mask._data.sum())
    if source._data.size < count:
        raise InputError(
            "masked_scatter: expected number of elements in source to be greater than or equal to the number of true "
            f"elements in the mask, got {source._data.size} and {count}"
        )
    setitem(out, mask, flatten(source)[:count])
    return out


def take(input: Tensor, index: Tensor) -> Tensor:
    """The elements of the flat tensor that ``index`` names, in its shape."""
    check_tensor("take", input)
    check_tensor("take", index, "index")
    if index.dtype is not _dtypes.int64:
        raise KindError(f"take(): Expected a long tensor for index, but got {index.dtype}")
    n = input._data.size
    if n == 0 and index._data.size:
        raise IndexError("take(): tried to take from an empty tensor")
    return getitem(flatten(input), index)


def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """``input`` with the elements of ``source`` at flat indices, or added there."""
    check_tensor("put", input)
    check_tensor("put", index, "index")
    check_tensor("put", source, "source")
    if index.dtype is not _dtypes.int64:
        raise KindError(f"put_(): Expected a long tensor for index, but got {index.dtype}")
    if source.dtype is not input.dtype:
        raise KindError(
            f"put_(): self and source expected to have the same dtype, got {input.dtype} and {source.dtype}"
        )
    if index._data.size != source._data.size:
        raise InputError("put_(): Expected source and index to have the same number of elements")
    flat = flatten(input)
    return reshape(index_put(flat, (flatten(index),), flatten(source), accumulate), input._data.shape)


def _scattered(name: str, view: Callable) -> Callable:
    """``input`` with ``src`` in place of a view of it."""

    def operation(input: Tensor, src: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        check_tensor(name, input)
        check_tensor(name, src, "src")
        out = input.clone()
        part = view(out, *args, **kwargs)
        if part._data.shape != src._data.shape:
            raise InputError(
                f"{name}: expected src to have a size equal to the slice of self. src size = {list(src._data.shape)}, "
                f"slice size = {list(part._data.shape)}"
            )
        part.copy_(src)
        return out

    operation.__name__ = operation.__qualname__ = name
    return operation


def _slice(x: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Tensor:
    a = axis_of(dim, x._data.ndim, "slice_scatter")
    return x[(*[slice(None)] * a, slice(start, end, step))]


def _select(x: Tensor, dim: int, index: int) -> Tensor:
    from fastnet.ops.shape import select

    return select(x, dim, index)


select_scatter = _scattered("select_scatter", _select)
select_scatter.__doc__ = (
    "``input`` with ``src`` at one index of a dimension: ``select_scatter(input, src, dim, index)``."
)
slice_scatter = _scattered("slice_scatter", _slice)
slice_scatter.__doc__ = (
    "``input`` with ``src`` in a slice of a dimension: ``slice_scatter(input, src, dim=0, start=None, end=None, "
    "step=1)``."
)
diagonal_scatter = _scattered("diagonal_scatter", diagonal)
diagonal_scatter.__doc__ = (
    "``input`` with ``src`` along a diagonal: ``diagonal_scatter(input, src, offset=0, dim1=0, dim2=1)``."
)
