"""More ways to split, join and rearrange: windows, diagonals, stacks by rows, columns and depth, grids of indices."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._device import array_module, namespace
from fastnet._tensor import Size, Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.ops._numeric import axis_of, is_short, rounded, wide
from fastnet.ops._operands import cast, check_tensor
from fastnet.ops.indexing import add_at
from fastnet.ops.shape import (
    cat,
    diagonal,
    expand,
    flatten,
    flip,
    movedim,
    narrow,
    reshape,
    sizes,
    split,
    squeeze,
    transpose,
    unsqueeze,
)


def _strided(x: Any, shape: tuple, strides: tuple) -> Any:
    return namespace(x).lib.stride_tricks.as_strided(x, shape, strides)


# ---- windows and strides -------------------------------------------------------------------------------------------


class Unfold(ArrayFunction):
    """Windows of a size along an axis, as a last axis."""

    view = True

    @staticmethod
    def forward(ctx: Any, x: Any, axis: int, size: int, step: int) -> Any:
        ctx.shape, ctx.how = x.shape, (axis, size, step)
        if not x.ndim:
            return _strided(x, (size,), (x.itemsize,))
        shape, strides = list(x.shape), list(x.strides)
        shape[axis] = (x.shape[axis] - size) // step + 1
        strides[axis] *= step
        return _strided(x, (*shape, size), (*strides, x.strides[axis]))

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        xp = namespace(grad)
        axis, size, step = ctx.how
        if not ctx.shape:
            return grad.sum(axis=-1).reshape(()), None, None, None
        out = xp.zeros(ctx.shape, np.float32 if is_short(grad) else grad.dtype)
        along = (slice(None),) * axis
        for k in range(size):  # one element of every window at a time: none is met twice
            stop = k + (grad.shape[axis] - 1) * step + 1
            out[(*along, slice(k, stop, step))] += wide(grad[..., k])
        return rounded(out, grad.dtype), None, None, None


def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """A view of all windows of ``size`` elements, ``step`` apart, along a dimension; the window is the last one.

    >>> import fastnet
    >>> fastnet.arange(5).unfold(0, 2, 2)
    tensor([[0, 1],
            [2, 3]])
    """
    check_tensor("unfold", input)
    a = axis_of(dimension, input._data.ndim, "unfold")
    n = input._data.shape[a] if input._data.ndim else 1
    if size < 0 or size > n:
        raise InputError(f"maximum size for tensor at dimension {a} is {n} but size is {size}")
    if step <= 0:
        raise InputError(f"step is {step} but must be > 0")
    return Unfold.apply(input, a, size, step)


class AsStrided(ArrayFunction):
    """Any strides over memory that lies in C order as a vector."""

    view = True

    @staticmethod
    def forward(ctx: Any, x: Any, shape: tuple, strides: tuple, offset: int) -> Any:
        ctx.n, ctx.how = x.size, (shape, strides, offset)
        return _strided(x[offset:], shape, tuple(s * x.itemsize for s in strides))

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        xp = namespace(grad)
        shape, strides, offset = ctx.how
        out = xp.zeros(ctx.n, np.float32 if is_short(grad) else grad.dtype)
        index = _strided(xp.arange(ctx.n)[offset:], shape, tuple(8 * s for s in strides))
        add_at(out, (index,), wide(grad))
        return rounded(out, grad.dtype), None, None, None


def as_strided(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """A view of the tensor's memory by sizes and strides (in elements); the memory must lie in C order."""
    check_tensor("as_strided", input)
    shape, strides = sizes((size,), "as_strided"), sizes((stride,), "as_strided")
    if len(shape) != len(strides):
        raise InputError("mismatch in length of strides and shape")
    if any(n < 0 for n in (*shape, *strides)):
        raise InputError("as_strided: Negative sizes and strides are not supported")
    offset = input.storage_offset() if storage_offset is None else int(storage_offset)
    base = input if input._base is None else input._base
    if not base._data.flags.c_contiguous:
        raise RuntimeError("as_strided: memory is not in C order; call contiguous() first")
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1
    if offset < 0 or (math.prod(shape) and last > base._data.size):
        raise InputError(
            f"setStorage: sizes {list(shape)}, strides {list(strides)}, storage offset {offset} need {last} elements, "
            f"the memory has {base._data.size}"
        )
    return AsStrided.apply(reshape(base, -1), shape, strides, offset)


# ---- axes ----------------------------------------------------------------------------------------------------------


def ravel(input: Tensor) -> Tensor:
    """All elements as a vector; a view where memory allows it."""
    return flatten(input)


def adjoint(input: Tensor) -> Tensor:
    """The last two dimensions exchanged."""
    check_tensor("adjoint", input)
    if input._data.ndim == 1:
        raise InputError("tensor.adjoint() is only supported on matrices or batches of matrices. Got 1-D tensor.")
    return transpose(input, -2, -1) if input._data.ndim else input


def fliplr(input: Tensor) -> Tensor:
    """Columns in reverse order."""
    check_tensor("fliplr", input)
    if input._data.ndim < 2:
        raise InputError("Input must be >= 2-d.")
    return flip(input, 1)


def flipud(input: Tensor) -> Tensor:
    """Rows in reverse order."""
    check_tensor("flipud", input)
    if input._data.ndim < 1:
        raise InputError("Input must be >= 1-d.")
    return flip(input, 0)


def rot90(input: Tensor, k: int = 1, dims: Any = (0, 1)) -> Tensor:
    """Turned by k times 90 degrees in the plane of two dimensions, from the first towards the second."""
    check_tensor("rot90", input)
    if len(dims) != 2:
        raise InputError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    n = input._data.ndim
    if n < 2:
        raise InputError(f"expected total dims >= 2, but got total dims = {n}")
    a, b = (axis_of(d, n, "rot90") for d in dims)
    if a == b:
        raise InputError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}")
    k %= 4
    if k == 0:
        return input.clone()
    if k == 2:
        return flip(input, a, b)
    return transpose(flip(input, b), a, b).contiguous() if k == 1 else flip(transpose(input, a, b), b)


def atleast_1d(*tensors: Any) -> Any:
    """Tensors of at least one dimension."""
    return _each(tensors, lambda x: reshape(x, 1) if x._data.ndim == 0 else x)


def atleast_2d(*tensors: Any) -> Any:
    """Tensors of at least two dimensions: vectors become rows."""
    return _each(tensors, lambda x: reshape(x, 1, -1) if x._data.ndim < 2 else x)


def atleast_3d(*tensors: Any) -> Any:
    """Tensors of at least three dimensions: (N,) becomes (1, N, 1), (M, N) becomes (M, N, 1)."""

    def at_least(x: Tensor) -> Tensor:
        n = x._data.ndim
        return x if n > 2 else unsqueeze(x, 2) if n == 2 else reshape(x, 1, -1, 1)

    return _each(tensors, at_least)


def _each(tensors: tuple, function: Any) -> Any:
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        return tuple(function(_tensor(x)) for x in tensors[0])
    made = tuple(function(_tensor(x)) for x in tensors)
    return made[0] if len(made) == 1 else made


def _tensor(x: Any) -> Tensor:
    check_tensor("atleast", x, "tensors")
    return x


# ---- joining -------------------------------------------------------------------------------------------------------


def column_stack(tensors: Any) -> Tensor:
    """Vectors as columns, matrices side by side."""
    if not len(tensors):
        raise InputError("column_stack expects a non-empty TensorList")
    return cat([reshape(x, -1, 1) if x._data.ndim <= 1 else x for x in tensors], 1)


def dstack(tensors: Any) -> Tensor:
    """Joined along the third dimension."""
    if not len(tensors):
        raise InputError("dstack expects a non-empty TensorList")
    return cat(list(atleast_3d(list(tensors))), 2)


def block_diag(*tensors: Any) -> Tensor:
    """A matrix with the given matrices along its diagonal, zeros elsewhere."""
    from fastnet.ops.padding import pad

    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        raise KindError("block_diag(): argument 'tensors' must be Tensors, not a sequence of them")
    for x in tensors:
        check_tensor("block_diag", x, "tensors")
        if x._data.ndim > 2:
            raise InputError(f"fastnet.block_diag: Input tensors must have 2 or fewer dimensions, got {x._data.ndim}")
    blocks = [reshape(x, 1, -1) if x._data.ndim < 2 else x for x in tensors]
    if not blocks:
        from fastnet.ops.creation import zeros

        return zeros(1, 0)
    common = _dtypes.result_type_of([(x.dtype, 2) for x in blocks])
    width, before, rows = sum(x._data.shape[1] for x in blocks), 0, []
    for x in blocks:
        rows.append(pad(cast(x, common), (before, width - before - x._data.shape[1])))
        before += x._data.shape[1]
    return cat(rows, 0)


def cartesian_prod(*tensors: Any) -> Tensor:
    """All tuples of one element of each vector, as rows."""
    from fastnet.ops.shape import meshgrid, stack

    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tuple(tensors[0])
    for x in tensors:
        check_tensor("cartesian_prod", x, "tensors")
        if x._data.ndim != 1:
            raise InputError(f"meshgrid: Expected 1D vector, got {x._data.ndim}D")
    if len(tensors) == 1:
        return tensors[0]
    return stack([flatten(g) for g in meshgrid(*tensors)], 1)


def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All ways to take r elements of a vector, as rows."""
    check_tensor("combinations", input)
    if input._data.ndim != 1:
        raise InputError(f"Expect a 1D vector, but got shape {list(input.shape)}")
    if r < 0:
        raise InputError(f"Expect a non-negative number, but got {r}")
    take = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = list(take(range(input._data.shape[0]), r))
    if r == 0:
        return Tensor._wrap(np.zeros(0, input._data.dtype))
    index = namespace(input._data).asarray(np.array(rows, np.int64).reshape(len(rows), r))
    return input[Tensor._wrap(index)]


def broadcast_shapes(*shapes: Any) -> Size:
    """The shape that tensors of these shapes have together."""
    plain = [(s,) if isinstance(s, int) else tuple(int(n) for n in s) for s in shapes]
    try:
        return Size(np.broadcast_shapes(*plain))
    except ValueError as error:
        raise InputError(f"Shape mismatch: objects cannot be broadcast to a single shape: {error}") from None


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """Tensors expanded to the shape that they have together."""
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tuple(tensors[0])
    for x in tensors:
        check_tensor("broadcast_tensors", x, "tensors")
    shape = broadcast_shapes(*[x._data.shape for x in tensors])
    return tuple(expand(x, *shape) for x in tensors)


# ---- splitting -----------------------------------------------------------------------------------------------------


def split_with_sizes(input: Tensor, split_sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of pieces of the sizes given."""
    return split(input, list(split_sizes), dim)


MOST_VIEWS = 1 << 27  # of one call: no machine has the memory for more


def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of so many pieces, sizes differing by at most one, or of the pieces between indices."""
    check_tensor("tensor_split", input)
    if input._data.ndim == 0:
        raise KindError("tensor_split received a rank zero tensor, but expected a tensor of rank one or greater!")
    a = axis_of(dim, input._data.ndim, "tensor_split")
    n = input._data.shape[a]
    if isinstance(indices_or_sections, Tensor):
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, (int, np.integer)):
        count = int(indices_or_sections)
        if count <= 0:
            raise InputError(f"number of sections must be larger than 0, got {count}")
        if count > MOST_VIEWS:
            raise MemoryError(f"tensor_split: {count} views of a dimension of size {n}")
        small, more = divmod(n, count)
        points = [0]
        for i in range(count):
            points.append(points[-1] + small + (i < more))
        pairs = list(itertools.pairwise(points))
    else:
        points = [0, *[slice(None, int(i)).indices(n)[1] for i in indices_or_sections], n]
        pairs = list(itertools.pairwise(points))
    return tuple(narrow(input, a, lo, max(0, hi - lo)) for lo, hi in pairs)


def _even(name: str, input: Tensor, how: Any, dim: int) -> tuple[Tensor, ...]:
    if isinstance(how, str):
        raise KindError(f"{name}(): indices_or_sections is a str, expected an int or a sequence of ints")
    if isinstance(how, (int, np.integer)) and (how <= 0 or input._data.shape[dim] % how):
        raise InputError(
            f"{name} attempted to split along dimension {dim}, but the size of the dimension "
            f"{input._data.shape[dim]} is not divisible by the split_size {how}!"
        )
    return tensor_split(input, how, dim)


def hsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Split by columns; vectors by elements."""
    check_tensor("hsplit", input)
    if input._data.ndim < 1:
        raise InputError("hsplit requires a tensor with at least 1 dimension, but got a tensor with 0 dimensions!")
    return _even("hsplit", input, indices_or_sections, 0 if input._data.ndim == 1 else 1)


def vsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Split by rows."""
    check_tensor("vsplit", input)
    if input._data.ndim < 2:
        raise InputError("vsplit requires a tensor with at least 2 dimension")
    return _even("vsplit", input, indices_or_sections, 0)


def dsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Split along the third dimension."""
    check_tensor("dsplit", input)
    if input._data.ndim < 3:
        raise InputError("dsplit requires a tensor with at least 3 dimension")
    return _even("dsplit", input, indices_or_sections, 2)


# ---- diagonals -----------------------------------------------------------------------------------------------------


def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices over two new dimensions whose diagonals are the last dimension of ``input``."""
    check_tensor("diag_embed", input)
    n = input._data.ndim + 1
    a, b = axis_of(dim1, n, "diag_embed"), axis_of(dim2, n, "diag_embed")
    if a == b:
        raise InputError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    length = input._data.shape[-1] + abs(offset)
    from fastnet.ops.creation import zeros

    out = zeros(*input._data.shape[:-1], length, length, dtype=input.dtype, device=input.device)
    # A negative order of the two dimensions is the transpose, which turns the offset round.
    diagonal(out, offset, -2, -1).copy_(input)
    return movedim(out, (-2, -1), (a, b))


def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """A matrix with all elements of ``input`` along a diagonal."""
    return diag_embed(flatten(input), offset)


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Where the lower triangle of a (row, col) matrix lies: (2, count), by rows."""
    return _triangle_indices(row, col, offset, False, dtype, device)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Where the upper triangle of a (row, col) matrix lies: (2, count), by rows."""
    return _triangle_indices(row, col, offset, True, dtype, device)


def _triangle_indices(row: int, col: int, offset: int, upper: bool, dtype: Any, device: Any) -> Tensor:
    if row < 0 or col < 0:
        raise InputError(f"row and col must be non-negative, got {row} and {col}")
    d = _dtypes.int64 if dtype is None else _dtypes.as_dtype(dtype)
    if d not in (_dtypes.int64, _dtypes.int32):
        raise KindError(f"tri{'u' if upper else 'l'}_indices: not implemented for {d}")
    found = np.stack(np.triu_indices(row, offset, col) if upper else np.tril_indices(row, offset, col))
    return Tensor._wrap(array_module(device).asarray(found.astype(d.numpy)))


def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """The Vandermonde matrix: powers of a vector's elements, as columns."""
    check_tensor("vander", x, "x")
    if x._data.ndim != 1:
        raise InputError("x must be a one-dimensional tensor.")
    from fastnet.ops.creation import arange

    n = x._data.shape[0] if N is None else N
    powers = arange(n, device=x.device)
    return unsqueeze(x, 1) ** (powers if increasing else flip(powers, 0))


def swapdims(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """As ``transpose``."""
    return transpose(input, dim0, dim1)


# ---- views changed in place: their own shape, of the same memory -----------------------------------------------------


def _become(self: Tensor, view: Tensor) -> Tensor:
    """Make ``self`` what a view of it is: shape, memory order and history."""
    self._data = view._data
    if view._node is not None:
        self._node, self._output_index = view._node, view._output_index
        if self._hooks is not None:
            self._watch_node()
    self._version_counter[0] += 1
    return self


def _reshaped_in_place(name: str, function: Any) -> Any:
    def operation(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        from fastnet.autograd import is_grad_enabled
        from fastnet.autograd.views import check_in_place

        if is_grad_enabled() and self.requires_grad:
            check_in_place(self)
        if self._view is None:
            return _become(self, function(self, *args, **kwargs))
        made = function(self, *args, **kwargs)
        self._view = made._view
        return _become(self, made)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = f"``{function.__name__}`` of this tensor itself."
    return operation


transpose_ = _reshaped_in_place("transpose_", transpose)
swapdims_ = swapaxes_ = transpose_
unsqueeze_ = _reshaped_in_place("unsqueeze_", unsqueeze)
squeeze_ = _reshaped_in_place("squeeze_", squeeze)
as_strided_ = _reshaped_in_place("as_strided_", as_strided)


def t_(self: Tensor) -> Tensor:
    """The transpose of this matrix itself."""
    if self._data.ndim > 2:
        raise InputError(f"t_() expects a tensor with <= 2 dimensions, but self is {self._data.ndim}D")
    return transpose_(self, 0, 1) if self._data.ndim == 2 else self


def resize_(self: Tensor, *size: Any, memory_format: Any = None) -> Tensor:
    """Another shape: elements are kept in C order, new ones are whatever memory held."""
    shape = sizes(size, "resize_")
    if self.requires_grad:
        raise RuntimeError("cannot resize variables that require grad")
    xp = namespace(self._data)
    n, old = math.prod(shape), self._data
    if n <= old.size and old.flags.c_contiguous:
        self._data = old.reshape(-1)[:n].reshape(shape)
    else:
        new = xp.empty(n, old.dtype)
        k = min(n, old.size)
        new[:k] = old.reshape(-1)[:k]
        self._data = new.reshape(shape)
    self._version_counter[0] += 1
    return self


def resize_as_(self: Tensor, other: Tensor, *, memory_format: Any = None) -> Tensor:
    """``resize_`` to the shape of another tensor."""
    return resize_(self, *other._data.shape)


def set_(self: Tensor, source: Tensor | None = None) -> Tensor:
    """Share the memory of ``source``; without one, become empty."""
    if source is not None:
        check_tensor("set_", source, "source")
        if source.dtype is not self.dtype:
            raise KindError(f"set_: expected a tensor of dtype {self.dtype}, got {source.dtype}")
    self._data = self._data.reshape(-1)[:0] if source is None else source._data
    self._version_counter[0] += 1
    return self


def sum_to_size(input: Tensor, *size: Any) -> Tensor:
    """Summed over what broadcasting from ``size`` would have repeated."""
    shape = sizes(size, "sum_to_size")
    have = input._data.shape
    extra = len(have) - len(shape)
    if extra < 0 or any(w not in (1, h) for w, h in zip(shape, have[extra:], strict=True)):
        raise InputError(f"size {list(shape)} is not expandable to size {list(have)}.")
    from fastnet.ops.reductions import sum as sum_over

    axes = (*range(extra), *[extra + i for i, w in enumerate(shape) if w == 1 and have[extra + i] != 1])
    return reshape(sum_over(input, axes), shape) if axes else input


def fill_diagonal_(self: Tensor, fill_value: Any, wrap: bool = False) -> Tensor:
    """Set the main diagonal to a value; with ``wrap``, of a tall matrix the diagonals below too."""
    n = self._data.ndim
    if n < 2:
        raise InputError("dimensions must larger than 1")
    if n > 2 and len(set(self._data.shape)) != 1:
        raise InputError("all dimensions of input must be of equal length")
    if n > 2:
        for i in range(self._data.shape[0]):
            self[(i,) * n] = fill_value
        return self
    rows, cols = self._data.shape
    diagonal(self).fill_(fill_value)
    if wrap:
        for start in range(cols + 1, rows, cols + 1):
            diagonal(self[start:]).fill_(fill_value)
    return self


def narrow_copy(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """``narrow``, as a copy."""
    return narrow(input, dim, start, length).clone()


def unravel_index(indices: Tensor, shape: Any) -> tuple[Tensor, ...]:
    """Flat indices into a tensor of ``shape`` as one index a dimension."""
    check_tensor("unravel_index", indices, "indices")
    shape = (shape,) if isinstance(shape, int) else tuple(int(n) for n in shape)
    if indices.dtype.category != 1:
        raise InputError(f"unravel_index: expected integer indices, got {indices.dtype}")
    out, rest = [], cast(indices, _dtypes.int64)
    for n in reversed(shape):
        out.append(rest % n)
        rest = rest // n
    return tuple(reversed(out))
