"""Indexing, gathering and scattering, sorting. Gradients of repeated indices are added in a fixed order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._device import namespace
from fastnet._faults import note
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.autograd.views import rebase, recorded_in_place
from fastnet.errors import InputError, KindError
from fastnet.ops._numeric import axis_of, is_short, rounded, wide
from fastnet.ops._operands import cast, check_tensor, number
from fastnet.ops._results import result
from fastnet.ops.in_place import old_value, writeable


def add_at(out: Any, index: Any, values: Any) -> None:
    """out[index] += values with repeated indices added one after another: np.add.at on the CPU; on the GPU, where its
    order would be that of arrival, sorted by index first."""
    if isinstance(out, np.ndarray):
        np.add.at(out, index, values)
        return
    import cupy

    flat = cupy.arange(out.size).reshape(out.shape)[index].reshape(-1)
    values = cupy.broadcast_to(cupy.asarray(values, out.dtype), out[index].shape).reshape(-1)
    order = cupy.argsort(flat, kind="stable") if flat.size else flat
    flat, values = flat[order], values[order]
    starts = cupy.flatnonzero(cupy.concatenate([cupy.ones(1, bool), flat[1:] != flat[:-1]])) if flat.size else flat
    if flat.size:
        ends = cupy.concatenate([starts[1:], cupy.asarray([flat.size])])
        rest = int((ends - starts).max())
        total = values[starts]
        for k in range(1, rest):  # the k-th repetition of every index: one addition each, in order
            more = starts + k < ends
            total[more] += values[starts[more] + k]
        out.reshape(-1)[flat[starts]] += total


_PLAIN = (int, type(None))


def _plain_index(index: Any) -> tuple[Any, bool]:
    """An index of arrays, slices and numbers, and whether it is basic (gives a view)."""
    items = index if isinstance(index, tuple) else (index,)
    if type(index) is int or (type(index) is slice and index.step is None):
        start, stop = (index.start, index.stop) if isinstance(index, slice) else (None, None)
        if type(start) in _PLAIN and type(stop) in _PLAIN:
            return items, True
    basic = True
    out = []
    for item in items:
        if not isinstance(item, Tensor) and hasattr(item, "__cuda_array_interface__"):
            item = Tensor._wrap(item)
        if isinstance(item, Tensor):
            if item._data.dtype == np.uint8:
                item = Tensor._wrap(item._data.astype(bool))
            if item._data.dtype.kind not in "iub" or item.dtype in (_dtypes.int8, _dtypes.int16):
                raise IndexError(f"tensors used as indices must be long, int, byte or bool tensors, got {item.dtype}")
            if not item._data.ndim and item._data.dtype.kind in "iu":  # a number: a view, as PyTorch
                out.append(int(item._data))
                continue
            basic = False
            out.append(item._data)
        elif isinstance(item, np.ndarray) and not item.ndim and item.dtype.kind in "iu":
            out.append(int(item))
        elif isinstance(item, (list, tuple, np.ndarray, range)):
            item = list(item) if isinstance(item, (range, tuple)) else item
            array = (
                np.asarray(item)
                if not isinstance(item, list) or not any(isinstance(i, Tensor) for i in item)
                else np.array([i.tolist() if isinstance(i, Tensor) else i for i in item])
            )
            if array.size == 0 and array.dtype.kind == "f":
                array = array.astype(np.int64)
            if array.dtype.kind not in "iub":
                raise IndexError(
                    "only integers, slices, ellipsis, None and long or bool tensors are valid indices (got "
                    f"{type(item).__name__})"
                )
            basic = False
            out.append(array)
        elif isinstance(item, slice):
            start, stop, step = (int(x) if isinstance(x, Tensor) else x for x in (item.start, item.stop, item.step))
            if step is not None and step <= 0:
                raise InputError("step must be greater than zero")
            out.append(slice(start, stop, step))
        elif isinstance(item, (bool, np.bool_)):
            basic = False
            out.append(np.asarray(bool(item)))
        elif item is None or item is Ellipsis or isinstance(item, (int, np.integer)):
            out.append(item)
        else:
            raise IndexError(
                "only integers, slices, ellipsis, None and long or bool tensors are valid indices (got "
                f"{type(item).__name__})"
            )
    return tuple(out), basic


def _check_index(x: Any, index: tuple) -> None:
    """IndexError, as PyTorch's, for what NumPy would report in other words or CuPy not at all."""
    dims = sum(
        1 if not (hasattr(i, "dtype") and i.dtype == np.bool_) else i.ndim
        for i in index
        if i is not None and i is not Ellipsis
    )
    if dims > x.ndim:
        raise IndexError(f"too many indices for tensor of dimension {x.ndim}")
    if not any(hasattr(i, "dtype") for i in index):
        return
    axis = 0
    for i in index:
        if i is None:
            continue
        if i is Ellipsis:
            axis += x.ndim - dims
            continue
        if hasattr(i, "dtype"):
            if i.dtype == np.bool_:
                if i.shape != x.shape[axis : axis + i.ndim]:
                    raise IndexError(
                        f"The shape of the mask {list(i.shape)} at index 0 does not match the shape of the "
                        f"indexed tensor {list(x.shape)} at index {axis}"
                    )
                axis += i.ndim
                continue
            if i.size and hasattr(i, "__cuda_array_interface__"):
                size = x.shape[axis]
                note("indexing", "an index is out of bounds for its dimension", (i < -size) | (i >= size))
            elif i.size:
                low, high = i.min(), i.max()
                if low < -x.shape[axis] or high >= x.shape[axis]:
                    raise IndexError(
                        f"index {low if low < -x.shape[axis] else high} is out of bounds for dimension {axis} "
                        f"with size {x.shape[axis]}"
                    )
        axis += 1


class Index(ArrayFunction):
    """x[index]."""

    @staticmethod
    def forward(ctx: Any, x: Any, index: tuple, basic: bool) -> Any:
        ctx.shape, ctx.index, ctx.basic = x.shape, index, basic
        return x[index]

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        xp = namespace(grad)
        if ctx.basic:
            out = xp.zeros(ctx.shape, grad.dtype)
            out[ctx.index] = grad
        else:
            out = xp.zeros(ctx.shape, np.float32 if is_short(grad) else grad.dtype)
            add_at(out, ctx.index, wide(grad))
            out = rounded(out, grad.dtype)
        return out, None, None


class BasicIndex(Index):
    """x[index] by numbers and slices: a view."""

    view = True
    node_name = "SelectBackward0"

    @staticmethod
    def forward(ctx: Any, x: Any, index: tuple, basic: bool) -> Any:
        ctx.shape, ctx.index, ctx.basic = x.shape, index, basic
        out = x[index]
        return x[(*index, Ellipsis)] if isinstance(out, np.generic) else out  # NumPy's scalars are no views

    @classmethod
    def _node_name(cls, ctx: Any) -> str:
        kinds = {type(i) for i in ctx.index}
        return (
            "SliceBackward0" if slice in kinds else "UnsqueezeBackward0" if kinds == {type(None)} else "SelectBackward0"
        )


def _numbers_first(ndim: int, index: tuple) -> tuple[tuple, tuple] | None:
    """Numbers among arrays are taken first, as PyTorch does, which leaves the arrays' dimension elsewhere than NumPy
    would: the index without arrays, and the arrays' index into what that gives. None where there are no numbers."""
    if not any(type(i) is int or isinstance(i, np.integer) for i in index):
        return None
    used = sum(
        i.ndim if hasattr(i, "dtype") and i.dtype.kind == "b" else 1
        for i in index
        if i is not None and i is not Ellipsis and not (hasattr(i, "dtype") and i.dtype.kind == "b" and i.ndim == 0)
    )
    filled: list = []
    for i in index:
        if i is Ellipsis:
            filled += [slice(None)] * max(0, ndim - used)
        else:
            filled.append(i)
    first: list = []
    then: list = []
    for i in filled:
        if hasattr(i, "dtype") and not isinstance(i, np.integer):
            first += [slice(None)] * (i.ndim if i.dtype.kind == "b" else 1)
            then.append(i)
        else:
            first.append(i)
            if i is None or isinstance(i, slice):
                then.append(slice(None))
    return tuple(first), tuple(then)


def getitem(self: Tensor, index: Any) -> Tensor:
    """``self[index]`` with numbers, slices, None, Ellipsis, and integer or bool tensors or lists."""
    plain, basic = _plain_index(index)
    try:
        _check_index(self._data, plain)
        if not basic and len(plain) > 1:
            two = _numbers_first(self._data.ndim, plain)
            if two is not None:
                return Index.apply(BasicIndex.apply(self, two[0], True), two[1], False)
        return (BasicIndex if basic else Index).apply(self, plain, basic)
    except IndexError as error:
        raise IndexError(str(error).replace("array", "tensor")) from None


class SetIndex(ArrayFunction):
    """A copy of x with x[index] = value."""

    node_name = "CopySlices"

    @staticmethod
    def forward(ctx: Any, x: Any, index: tuple, value: Any) -> Any:
        ctx.index = index
        ctx.shape = value.shape if hasattr(value, "shape") else None
        out = x.copy()
        out[index] = value
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        from fastnet.ops._numeric import unbroadcast

        of_x = of_value = None
        if ctx.needs_input_grad[2]:
            taken = grad[ctx.index]
            shape = ctx.shape
            while len(shape) > taken.ndim:  # leading sizes of 1 that assignment dropped
                shape = shape[1:]
            of_value = unbroadcast(namespace(grad).asarray(taken), shape).reshape(ctx.shape)
        if ctx.needs_input_grad[0]:
            of_x = grad.copy()
            of_x[ctx.index] = 0
        return of_x, None, of_value


def setitem(self: Tensor, index: Any, value: Any) -> None:
    """``self[index] = value``, recorded when gradients are."""
    plain, basic = _plain_index(index)
    try:
        _check_index(self._data, plain)
        if not basic and len(plain) > 1:
            two = _numbers_first(self._data.ndim, plain)
            if two is not None:
                setitem(BasicIndex.apply(self, two[0], True), two[1], value)
                return
        if isinstance(value, Tensor):
            if value.is_cuda != self.is_cuda:
                value = value.to(self.device)
            value = cast(value, self.dtype)
        elif not isinstance(value, (int, float, bool, np.generic)):
            from fastnet.ops.creation import as_tensor

            value = cast(as_tensor(value, device=self.device), self.dtype)
        history = None
        if recorded_in_place(self, value):
            history = SetIndex.apply(old_value(self, True), plain, value)
        writeable(self)[plain] = value._data if isinstance(value, Tensor) else value
        self._version_counter[0] += 1
        if history is not None:
            rebase(self, history, "setitem")
    except IndexError as error:
        raise IndexError(str(error).replace("array", "tensor")) from None
    except ValueError as error:
        raise InputError(f"setitem: shape mismatch: {error}".replace("array", "tensor")) from None


# ---- along one axis ------------------------------------------------------------------------------------------------


def _check_along(name: str, index: Tensor, size: int, input: Tensor) -> None:
    check_tensor(name, index, "index")
    if index.dtype not in (_dtypes.int64, _dtypes.int32, _dtypes.uint8):
        raise KindError(f"{name}(): Expected dtype int64 for index, got {index.dtype}")
    if index.is_cuda is not input.is_cuda:
        devices = f"{input.device} and {index.device}"
        raise InputError(f"{name}: expected all tensors to be on the same device, got {devices}")
    if index._data.size and not isinstance(index._data, np.ndarray):
        bad = (index._data < 0) | (index._data >= size)
        note(name, f"an index is out of bounds for dimension with size {size}", bad)
    elif index._data.size:
        low, high = index._data.min(), index._data.max()
        if low < 0 or high >= size:
            raise IndexError(
                f"{name}(): index {low if low < 0 else high} is out of bounds for dimension with size {size}"
            )


def _coordinates(index: Any, axis: int) -> tuple:
    """The full index of x whose elements ``index`` names along an axis."""
    xp = namespace(index)
    grid = list(xp.ogrid[tuple(slice(n) for n in index.shape)]) if index.ndim > 1 else [xp.arange(index.shape[0])]
    grid[axis] = index
    return tuple(grid)


class Gather(ArrayFunction):
    """out[i][j] = x[index[i][j]][j] for axis 0, and so on."""

    @staticmethod
    def forward(ctx: Any, x: Any, axis: int, index: Any) -> Any:
        ctx.shape, ctx.coordinates = x.shape, _coordinates(index, axis)
        return x[ctx.coordinates]

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        out = namespace(grad).zeros(ctx.shape, np.float32 if is_short(grad) else grad.dtype)
        add_at(out, ctx.coordinates, wide(grad))
        return rounded(out, grad.dtype), None, None


def _check_shapes(name: str, x: Any, axis: int, index: Any) -> None:
    if x.ndim != index.ndim:
        raise InputError(f"{name}(): Index tensor must have the same number of dimensions as input tensor")
    if any(i != axis and a > b for i, (a, b) in enumerate(zip(index.shape, x.shape, strict=True))):
        raise InputError(
            f"{name}(): Size does not match at some dimension: expected index {list(index.shape)} to be smaller "
            f"than self {list(x.shape)} apart from dimension {axis}"
        )


def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """The elements of ``input`` that ``index`` names along ``dim``: ``out[i, j] = input[index[i, j], j]`` for dim 0."""
    check_tensor("gather", input)
    a = axis_of(dim, input._data.ndim, "gather")
    check_tensor("gather", index, "index")
    if input._data.ndim == 0:
        from fastnet.ops.shape import reshape

        return reshape(gather(reshape(input, 1), 0, reshape(index, -1)), index._data.shape)
    if not index._data.size:  # of any number of dimensions, as in PyTorch
        from fastnet.ops.shape import flatten, narrow, reshape

        return reshape(narrow(flatten(input), 0, 0, 0), index._data.shape)
    _check_shapes("gather", input._data, a, index._data)
    _check_along("gather", index, input._data.shape[a], input)
    return Gather.apply(input, a, index._data.astype(np.int64))


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """As ``gather``, with broadcasting; of the flat tensor without ``dim``."""
    from fastnet.ops.shape import flatten

    if dim is None:
        return gather(flatten(input), 0, flatten(indices))
    a = axis_of(dim, input._data.ndim, "take_along_dim")
    shape = list(
        np.broadcast_shapes(*[[1 if i == a else n for i, n in enumerate(x._data.shape)] for x in (input, indices)])
    )
    shape[a] = indices._data.shape[a]
    if indices.dtype is not _dtypes.int64:
        raise KindError(f"take_along_dim(): dtype of indices should be Long but got {indices.dtype}")
    n = input._data.shape[a] if input._data.ndim else 1
    if indices._data.size and bool((indices._data < 0).any()):  # counted from the end
        indices = Tensor._wrap(namespace(indices._data).where(indices._data < 0, indices._data + n, indices._data))
    source = input.expand(*[input._data.shape[a] if i == a else n for i, n in enumerate(shape)])
    return gather(source, a, indices.expand(*shape))


class Scatter(ArrayFunction):
    """x with the elements that index names replaced by, or increased by, those of src."""

    @staticmethod
    def forward(ctx: Any, x: Any, axis: int, index: Any, src: Any, add: bool) -> Any:
        ctx.coordinates, ctx.add = _coordinates(index, axis), add
        part = src[tuple(slice(n) for n in index.shape)] if hasattr(src, "shape") else src
        ctx.shape = src.shape if hasattr(src, "shape") else None
        if add:
            out = wide(x).copy() if not is_short(x) else wide(x)
            add_at(out, ctx.coordinates, wide(part) if hasattr(part, "dtype") else part)
            return rounded(out, x.dtype)
        out = x.copy()
        out[ctx.coordinates] = part
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        of_x, of_src = grad, None
        if not ctx.add and ctx.needs_input_grad[0]:
            of_x = grad.copy()
            of_x[ctx.coordinates] = 0
        if ctx.needs_input_grad[3]:
            taken = grad[ctx.coordinates]
            of_src = namespace(grad).zeros(ctx.shape, grad.dtype)
            of_src[tuple(slice(n) for n in taken.shape)] = taken
        return of_x if ctx.needs_input_grad[0] else None, None, None, of_src, None


def _scatter(name: str, input: Tensor, dim: int, index: Tensor, src: Any, add: bool) -> Tensor:
    check_tensor(name, input)
    a = axis_of(dim, input._data.ndim, name)
    check_tensor(name, index, "index")
    if not input._data.ndim:
        from fastnet.ops.shape import reshape

        vector = reshape(src, -1) if isinstance(src, Tensor) else src
        return reshape(_scatter(name, reshape(input, 1), 0, reshape(index, -1), vector, add), ())
    if not index._data.size:
        return input.clone()
    if not isinstance(src, Tensor) and not input.dtype.is_floating_point:
        src = int(src)
    _check_shapes(name, input._data, a, index._data)
    _check_along(name, index, input._data.shape[a], input)
    if isinstance(src, Tensor):
        if src.dtype is not input.dtype:
            raise KindError(
                f"{name}(): Expected self.dtype to be equal to src.dtype, got {input.dtype} and {src.dtype}"
            )
        if any(i > s for i, s in zip(index._data.shape, src._data.shape, strict=True)):
            raise InputError(
                f"{name}(): Expected index {list(index._data.shape)} to be no larger than src {list(src._data.shape)}"
            )
    return Scatter.apply(input, a, index._data.astype(np.int64), src, add)


def scatter(
    input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None, reduce: str | None = None
) -> Tensor:
    """``input`` with elements replaced: ``out[index[i, j], j] = src[i, j]`` for dim 0."""
    if reduce not in (None, "add", "multiply"):
        raise InputError(f"scatter: reduce is {reduce!r}, expected None, 'add' or 'multiply'")
    if reduce == "multiply":
        from fastnet.ops.creation import full_like
        from fastnet.ops.scatter import scatter_reduce

        factor = src if value is None else value
        if not isinstance(factor, Tensor):
            factor = full_like(index, factor, dtype=input.dtype)
        return scatter_reduce(input, dim, index, factor, "prod")
    return _scatter("scatter", input, dim, index, number(src if value is None else value), reduce == "add")


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """``input`` with elements increased: ``out[index[i, j], j] += src[i, j]`` for dim 0, in a fixed order."""
    return _scatter("scatter_add", input, dim, index, src, True)


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The indices of a dimension that a vector names."""
    check_tensor("index_select", input)
    a = axis_of(dim, input._data.ndim, "index_select")
    _check_along("index_select", index, input._data.shape[a] if input._data.ndim else 1, input)
    if index._data.ndim > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    if not input._data.ndim:
        if index._data.size != 1:
            raise IndexError("index_select(): Index to scalar can have only 1 value")
        return input.clone()
    return Index.apply(input, (slice(None),) * a + (index._data.reshape(-1),), False)


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask is true, as a vector."""
    if mask._data.dtype != np.bool_:
        raise InputError("masked_select: expected BoolTensor for mask")
    shape = np.broadcast_shapes(input._data.shape, mask._data.shape)
    return getitem(input.expand(*shape), mask.expand(*shape))


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The indices of the elements that are not zero: (count, dims), or one vector a dimension."""
    found = (input._data.reshape(1) if input._data.ndim == 0 else input._data).nonzero()
    if as_tuple:
        return tuple(Tensor._wrap(f.astype(np.int64)) for f in found)
    xp = namespace(input._data)
    out = xp.stack(found, axis=1).astype(np.int64)
    return Tensor._wrap(out if input._data.ndim else out[:, :0])


# ---- order ---------------------------------------------------------------------------------------------------------


def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The indices that sort along ``dim``; equal elements keep their order; NaN counts as the greatest."""
    check_tensor("argsort", input)
    x = wide(input._data)
    if x.ndim == 0:
        return Tensor._wrap(np.zeros((), np.int64))
    a = axis_of(dim, x.ndim, "argsort")
    xp = namespace(x)
    if not descending:
        return Tensor._wrap(xp.argsort(x, axis=a, kind="stable").astype(np.int64))
    order = xp.flip(xp.argsort(xp.flip(x, a), axis=a, kind="stable"), a)
    return Tensor._wrap((x.shape[a] - 1 - order).astype(np.int64))


def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Any:
    """Values in order along ``dim`` and where they stood."""
    order = argsort(input, dim, descending)
    return result("sort", "values indices")(gather(input, dim, order), order)


def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The k greatest (or smallest) along ``dim``, in order, and where they stood."""
    a = axis_of(dim, input._data.ndim, "topk")
    if not 0 <= k <= (input._data.shape[a] if input._data.ndim else 1):
        raise InputError("selected index k out of range")
    if input.dtype is _dtypes.bool_:
        raise KindError("topk does not support bool dtypes")
    order = argsort(input, dim, largest)
    if input._data.ndim:
        order = Tensor._wrap(order._data[(slice(None),) * a + (slice(k),)])
    return result("topk", "values indices")(gather(input, dim, order), order)


def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The distinct elements in order (or slices along ``dim``), with inverse indices and counts if asked for."""
    check_tensor("unique", input)
    xp = namespace(input._data)
    axis = None if dim is None else axis_of(dim, input._data.ndim, "unique")
    x = input._data
    values, inverse, counts = xp.unique(
        x.view(np.uint8) if x.dtype == np.bool_ else wide(x),  # CuPy compares rows by differences
        return_inverse=True,
        return_counts=True,
        axis=axis,
        **({"equal_nan": False} if axis is None else {}),
    )
    inverse = inverse.reshape(x.shape) if dim is None else inverse.reshape(-1)
    return _with(values.astype(x.dtype), inverse if return_inverse else None, counts if return_counts else None)


def unique_consecutive(
    input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """Runs of equal elements (or slices along ``dim``) made one, with inverse indices and counts if asked for."""
    check_tensor("unique_consecutive", input)
    xp = namespace(input._data)
    x = (
        input._data.reshape(-1)
        if dim is None
        else xp.moveaxis(input._data, axis_of(dim, input._data.ndim, "unique"), 0)
    )
    rows = x.reshape(x.shape[0], math.prod(x.shape[1:]))
    new = xp.ones(x.shape[0], bool)
    new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    out = x[new] if dim is None else xp.moveaxis(x[new], 0, dim)
    inverse = xp.cumsum(new) - 1
    if dim is None:
        inverse = inverse.reshape(input._data.shape)
    starts = xp.flatnonzero(new)
    counts = xp.diff(xp.concatenate([starts, xp.asarray([x.shape[0]])]))
    return _with(out, inverse if return_inverse else None, counts if return_counts else None)


def _with(values: Any, *more: Any) -> Any:
    """A tensor, or a tuple of it and those of the int64 arrays that are not None."""
    out = [Tensor._wrap(values), *[Tensor._wrap(m.astype(np.int64)) for m in more if m is not None]]
    return out[0] if len(out) == 1 else tuple(out)


def argwhere(input: Tensor) -> Tensor:
    """The indices of the elements that are not zero, (count, dims)."""
    return nonzero(input)


def msort(input: Tensor) -> Tensor:
    """Sorted along the first dimension."""
    return sort(input, 0)[0]


def searchsorted(
    sorted_sequence: Tensor,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Where values would go into sequences sorted along their last dimension: before equal ones, or with ``right``
    (``side="right"``) behind them.

    Args:
        sorted_sequence: (..., N), or (N,) for all values.
        input: a number, or values (..., M) with the sequence's leading dimensions.
        out_int32: int32 in place of int64.
        sorter: the indices that sort ``sorted_sequence``.
    """
    check_tensor("searchsorted", sorted_sequence, "sorted_sequence")
    if side is not None:
        if side not in ("left", "right"):
            raise InputError(f"searchsorted(): side can only be 'left' or 'right' but got {side}")
        if right and side == "left":
            raise InputError(
                "searchsorted(): side and right can't be set to opposites, got side of left while right was True"
            )
        right = side == "right"
    xp = namespace(sorted_sequence._data)
    sequence = wide(sorted_sequence._data)
    if isinstance(input, Tensor):
        if input.dtype is not sorted_sequence.dtype:
            raise KindError(
                f"searchsorted(): boundary tensor and input value tensor should have same dtype, got "
                f"{sorted_sequence.dtype} and {input.dtype}"
            )
        values = wide(input._data)
    else:
        _dtypes.of_scalar(input)
        values = xp.asarray(input)
    if not sequence.ndim:
        raise InputError("searchsorted(): boundaries tensor should have positive dimension, but got 0 dimension")
    if sorter is not None:
        sequence = xp.take_along_axis(sequence, sorter._data, -1)
    where = "right" if right else "left"
    if sequence.ndim == 1:
        found = xp.asarray(xp.searchsorted(sequence, values, where))
    else:
        if values.shape[:-1] != sequence.shape[:-1] or not values.ndim:
            raise InputError(
                "searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries "
                f"tensor and input value tensor must match, got {list(sequence.shape)} and {list(values.shape)}"
            )
        count = math.prod(sequence.shape[:-1])
        rows, columns = sequence.reshape(count, sequence.shape[-1]), values.reshape(count, values.shape[-1])
        found = xp.empty(columns.shape, np.int64)
        for i in range(len(rows)):
            found[i] = xp.searchsorted(rows[i], columns[i], where)
        found = found.reshape(values.shape)
    return Tensor._wrap(found.astype(np.int32 if out_int32 else np.int64))


def bucketize(input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """The bucket of each value: how many of the sorted ``boundaries`` lie below it (with ``right``: not above)."""
    check_tensor("bucketize", boundaries, "boundaries")
    if boundaries._data.ndim != 1:
        raise InputError(f"boundaries tensor must be 1 dimension, but got dim({boundaries._data.ndim})")
    if isinstance(input, Tensor) and input.dtype is not boundaries.dtype:
        from fastnet.ops._operands import result_type

        common = result_type(input, boundaries)
        input, boundaries = cast(input, common), cast(boundaries, common)
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each non-negative integer occurs, or the sum of its weights (float32 of float32, else float64)."""
    check_tensor("bincount", input)
    if input._data.ndim != 1 or input.dtype.category != 1 or (input._data.size and input._data.min() < 0):
        raise KindError("bincount only supports 1-d non-negative integral inputs.")
    if minlength < 0:
        raise InputError("minlength should be >= 0")
    if weights is None:
        return Tensor._wrap(namespace(input._data).bincount(input._data, minlength=minlength))
    check_tensor("bincount", weights, "weights")
    if weights._data.shape != input._data.shape:
        raise InputError("weights should be 1-d and have the same length as input")
    counts = namespace(input._data).bincount(input._data, weights._data.astype(np.float64), minlength)
    return Tensor._wrap(counts.astype(np.float32 if weights._data.dtype == np.float32 else np.float64))


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """int64 vectors with a 1 where the class stands."""
    check_tensor("one_hot", tensor, "tensor")
    if tensor.dtype is not _dtypes.int64:
        raise KindError("one_hot is only applicable to index tensor of type LongTensor.")
    x = tensor._data
    if num_classes == -1:
        if x.size == 0:
            raise InputError("Can not infer total number of classes from empty tensor.")
        num_classes = int(x.max()) + 1
    if x.size and (x.min() < 0 or x.max() >= num_classes):
        raise InputError(
            "Class values must be non-negative." if x.min() < 0 else "Class values must be smaller than num_classes."
        )
    return Tensor._wrap((x[..., None] == namespace(x).arange(num_classes)).astype(np.int64))
