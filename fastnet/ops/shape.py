"""Views and rearrangements: the same elements in another shape or order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._array_code import triangle
from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError
from fastnet.ops._numeric import axis_of, unbroadcast
from fastnet.ops._operands import cast, check_tensor


def sizes(args: tuple, function: str) -> tuple[int, ...]:
    """Sizes given one by one or as one sequence."""
    if len(args) == 1 and isinstance(args[0], (tuple, list)):
        args = tuple(args[0])
    for a in args:
        if isinstance(a, bool) or (
            not isinstance(a, (int, np.integer)) and not (isinstance(a, Tensor) and a.numel() == 1)
        ):
            raise KindError(f"{function}(): sizes must be int, got {type(a).__name__}")
    return tuple(int(a) for a in args)


class Reshape(ArrayFunction):
    """The same elements in C order in another shape; a view where memory allows it."""

    view = True
    node_name = "ViewBackward0"

    @staticmethod
    def forward(ctx: Any, x: Any, shape: tuple[int, ...]) -> Any:
        ctx.shape = x.shape
        return x.reshape(shape)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return grad.reshape(ctx.shape), None


def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The same elements in C order in another shape, one size of which may be -1. A view where memory allows it.

    >>> import fastnet
    >>> fastnet.arange(6).reshape(2, -1)
    tensor([[0, 1, 2],
            [3, 4, 5]])
    """
    check_tensor("reshape", input)
    wanted = sizes(shape, "reshape")
    size = input._data.size
    if any(s < -1 for s in wanted) or wanted.count(-1) > 1:
        raise InputError(
            f"invalid shape dimension {min(wanted)}" if wanted.count(-1) < 2 else "only one dimension can be inferred"
        )
    known = math.prod(s for s in wanted if s != -1)
    if -1 in wanted:
        if known == 0:
            raise InputError(
                f"cannot reshape tensor of {size} elements into shape {list(wanted)} because the unspecified "
                "dimension size -1 can be any value and is ambiguous"
            )
        ok = size % known == 0
    else:
        ok = known == size
    if not ok:
        raise InputError(f"shape '{list(wanted)}' is invalid for input of size {size}")
    return Reshape.apply(input, wanted)


def view(input: Tensor, *shape: Any, dtype: _dtypes.dtype | None = None) -> Tensor:
    """As ``reshape``: it copies where PyTorch would refuse (a listed deviation), and with a dtype it reinterprets
    memory."""
    if dtype is not None and not shape:
        shape = (dtype,)
    if len(shape) == 1 and isinstance(shape[0], _dtypes.dtype):
        wanted = shape[0]
        if wanted.itemsize != input.dtype.itemsize and (
            not input._data.ndim
            or input._data.strides[-1] != input._data.itemsize
            or (input._data.shape[-1] * input._data.itemsize) % wanted.itemsize
        ):
            raise KindError(
                f"view: {input.dtype} {list(input.shape)} cannot be viewed as {wanted}: the last dimension must be "
                "contiguous, and its bytes a multiple of the new size"
            )
        out = Tensor._wrap(input._data.view(wanted.numpy))
        out._version_counter = input._version_counter
        return out
    return reshape(input, *shape)


def view_as(input: Tensor, other: Tensor) -> Tensor:
    """``input`` in the shape of ``other``."""
    check_tensor("view_as", other, "other")
    return reshape(input, other._data.shape)


class Permute(ArrayFunction):
    """Axes in another order."""

    view = True

    @staticmethod
    def forward(ctx: Any, x: Any, axes: tuple[int, ...]) -> Any:
        ctx.inverse = tuple(int(i) for i in np.argsort(axes))
        return x.transpose(axes)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return grad.transpose(ctx.inverse), None


class Transpose(Permute):
    """Two axes exchanged."""


class T(Permute):
    """The axes of a matrix exchanged."""


def permute(input: Tensor, *dims: Any) -> Tensor:
    """A view with the dimensions in another order."""
    check_tensor("permute", input)
    order = sizes(dims, "permute")
    if len(order) != input._data.ndim:
        raise InputError(
            "permute: number of dimensions in the tensor input does not match the length of the desired ordering of "
            f"dimensions i.e. input.dim() = {input._data.ndim} is not equal to len(dims) = {len(order)}"
        )
    axes = tuple(axis_of(d, input._data.ndim, "permute") for d in order)
    if len(set(axes)) != len(axes):
        raise InputError("permute(): duplicate dims are not allowed.")
    return Permute.apply(input, axes)


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """A view with two dimensions exchanged."""
    check_tensor("transpose", input)
    n = input._data.ndim
    a, b = axis_of(dim0, n, "transpose"), axis_of(dim1, n, "transpose")
    if n == 0:
        return Permute.apply(input, ())
    axes = list(range(n))
    axes[a], axes[b] = axes[b], axes[a]
    return Transpose.apply(input, tuple(axes))


def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; tensors of fewer dimensions as they are."""
    if input._data.ndim > 2:
        raise InputError(f"t() expects a tensor with <= 2 dimensions, but self is {input._data.ndim}D")
    return T.apply(input, (1, 0)) if input._data.ndim == 2 else input


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """A view with dimensions moved to other places."""
    n = input._data.ndim
    src = [axis_of(s, n, "movedim") for s in ([source] if isinstance(source, int) else source)]
    dst = [axis_of(d, n, "movedim") for d in ([destination] if isinstance(destination, int) else destination)]
    if len(src) != len(dst) or len(set(src)) != len(src) or len(set(dst)) != len(dst):
        raise InputError(f"movedim: Invalid source or destination dims: source {source}, destination {destination}")
    order = [i for i in range(n) if i not in src]
    if n == 0:
        return input
    for d, s in sorted(zip(dst, src, strict=True)):
        order.insert(d, s)
    return permute(input, *order)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions start_dim to end_dim made one."""
    check_tensor("flatten", input)
    n = input._data.ndim
    a, b = axis_of(start_dim, n, "flatten"), axis_of(end_dim, n, "flatten")
    if n == 0:
        return reshape(input, 1)
    if a > b:
        raise InputError("flatten() has invalid args: start_dim cannot come after end_dim")
    shape = input._data.shape
    return reshape(input, (*shape[:a], math.prod(shape[a : b + 1]), *shape[b + 1 :]))


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """One dimension made several; one of the sizes may be -1."""
    a = axis_of(dim, input._data.ndim, "unflatten")
    n, known = input._data.shape[a], math.prod(s for s in sizes if s != -1)
    if (-1 not in sizes and known != n) or (-1 in sizes and (known == 0 or n % known)):
        raise InputError(
            f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {a} ({n}) in the input "
            "tensor"
        )
    filled = [n // known if s == -1 else s for s in sizes]
    return reshape(input, (*input._data.shape[:a], *filled, *input._data.shape[a + 1 :]))


class Unsqueeze(Reshape):
    """An axis of size 1 more."""

    node_name = None


class Squeeze(Reshape):
    """Axes of size 1 fewer."""

    node_name = None


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A dimension of size 1 inserted at ``dim``."""
    check_tensor("unsqueeze", input)
    a = axis_of(dim, input._data.ndim + 1, "unsqueeze")
    return Unsqueeze.apply(input, (*input._data.shape[:a], 1, *input._data.shape[a:]))


def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Dimensions of size 1 removed: all, or those named."""
    check_tensor("squeeze", input)
    shape = input._data.shape
    if dim is None:
        drop = set(range(len(shape)))
    else:
        drop = {axis_of(d, len(shape), "squeeze") for d in ([dim] if isinstance(dim, (int, np.integer)) else dim)}
    return Squeeze.apply(input, tuple(n for i, n in enumerate(shape) if n != 1 or i not in drop))


class Expand(ArrayFunction):
    """Dimensions of size 1 repeated without a copy."""

    view = True

    @staticmethod
    def forward(ctx: Any, x: Any, shape: tuple[int, ...]) -> Any:
        ctx.shape = x.shape
        return namespace(x).broadcast_to(x, shape)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return unbroadcast(grad, ctx.shape), None


def expand(input: Tensor, *shape: Any) -> Tensor:
    """A view in which dimensions of size 1 are repeated; -1 keeps a size."""
    check_tensor("expand", input)
    wanted, have = list(sizes(shape, "expand")), input._data.shape
    extra = len(wanted) - len(have)
    if extra < 0:
        raise InputError(
            f"expand: the number of sizes provided ({len(wanted)}) must be greater or equal to the number of "
            f"dimensions in the tensor ({len(have)})"
        )
    for i, n in enumerate(have):
        w = wanted[extra + i]
        if w == -1:
            wanted[extra + i] = n
        elif n not in (1, w):
            raise InputError(
                f"The expanded size of the tensor ({w}) must match the existing size ({n}) at non-singleton "
                f"dimension {extra + i}. Target sizes: {wanted}. Tensor sizes: {list(have)}"
            )
    if any(w < 0 for w in wanted):
        raise InputError(f"expand: negative sizes are not allowed for new dimensions, got {wanted}")
    return Expand.apply(input, tuple(wanted))


def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """``input`` expanded to the shape of ``other``."""
    return expand(input, *other._data.shape)


def broadcast_to(input: Tensor, shape: Any) -> Tensor:
    """As ``expand``."""
    return expand(input, *shape)


class Repeat(ArrayFunction):
    """Copies along every axis."""

    @staticmethod
    def forward(ctx: Any, x: Any, counts: tuple[int, ...]) -> Any:
        ctx.counts, ctx.shape = counts, x.shape
        return namespace(x).tile(x, counts)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        shape = (1,) * (len(ctx.counts) - len(ctx.shape)) + ctx.shape
        split = [n for pair in zip(ctx.counts, shape, strict=True) for n in pair]
        from fastnet.ops._numeric import sum_over

        return sum_over(grad.reshape(split), tuple(range(0, len(split), 2))).reshape(ctx.shape), None


def repeat(input: Tensor, *repeats: Any) -> Tensor:
    """The tensor copied so many times along each dimension."""
    counts = sizes(repeats, "repeat")
    if len(counts) < input._data.ndim:
        raise InputError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    return Repeat.apply(input, counts)


def tile(input: Tensor, *dims: Any) -> Tensor:
    """As ``repeat``, with missing leading counts taken as 1."""
    counts = sizes(dims, "tile")
    return Repeat.apply(input, (1,) * (input._data.ndim - len(counts)) + counts)


def repeat_interleave(
    input: Tensor, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """Each element repeated: ``repeats`` is a number or one count an element.

    Without ``repeats`` the input holds the counts and the result indices. ``output_size``, where given, must be the
    result's size along ``dim``; nothing is saved by knowing it here.
    """
    from fastnet.ops.indexing import index_select

    check_tensor("repeat_interleave", input)
    xp = namespace(input._data)
    if repeats is None:
        indices = xp.repeat(xp.arange(input._data.size), input._data)
        _check_output_size(output_size, indices.size)
        return Tensor._wrap(indices.astype(np.int64))
    x = flatten(input) if dim is None else input
    a = axis_of(dim or 0, x._data.ndim, "repeat_interleave")
    counts = repeats._data if isinstance(repeats, Tensor) else repeats
    indices = xp.repeat(xp.arange(x._data.shape[a]), counts)
    _check_output_size(output_size, indices.size)
    return index_select(x, a, Tensor._wrap(indices))


def _check_output_size(output_size: int | None, size: int) -> None:
    if output_size is not None and output_size != size:
        raise InputError(f"repeat_interleave: output_size is {output_size}, but the counts add up to {size}")


class Concatenate(ArrayFunction):
    """Tensors one after another along an axis."""

    node_name = "CatBackward0"

    @staticmethod
    def forward(ctx: Any, axis: int, *xs: Any) -> Any:
        ctx.axis, ctx.lengths = axis, [x.shape[axis] for x in xs]
        return namespace(xs[0]).concatenate(xs, axis=axis)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        out, start = [None], 0
        for n, need in zip(ctx.lengths, ctx.needs_input_grad[1:], strict=True):
            out.append(grad[(slice(None),) * ctx.axis + (slice(start, start + n),)] if need else None)
            start += n
        return tuple(out)


def _sequence(name: str, tensors: Any) -> list[Tensor]:
    if isinstance(tensors, Tensor) or not isinstance(tensors, (list, tuple)):
        raise KindError(f"{name}(): argument 'tensors' must be tuple of Tensors, not {type(tensors).__name__}")
    if not tensors:
        raise InputError(f"{name}(): expected a non-empty list of Tensors")
    for x in tensors:
        check_tensor(name, x, "tensors")
    if any(x.is_cuda != tensors[0].is_cuda for x in tensors):
        raise InputError(
            f"{name}: expected all tensors to be on the same device, got {', '.join(str(x.device) for x in tensors)}"
        )
    common = _dtypes.result_type_of([(x.dtype, 2 if x._data.ndim else 1) for x in tensors])
    return [cast(x, common) for x in tensors]


def cat(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors joined along an existing dimension; the other sizes must agree."""
    xs = _sequence("cat", tensors)
    kept = [x for x in xs if x._data.shape != (0,)] or xs[:1]  # PyTorch skips empty vectors
    n = kept[0]._data.ndim
    if n == 0:
        raise InputError("zero-dimensional tensor (at position 0) cannot be concatenated")
    a = axis_of(dim, n, "cat")
    for i, x in enumerate(kept):
        same = x._data.ndim == n and all(
            p == q for j, (p, q) in enumerate(zip(x._data.shape, kept[0]._data.shape, strict=True)) if j != a
        )
        if not same:
            raise InputError(
                f"Sizes of tensors must match except in dimension {a}. Expected shape {list(kept[0]._data.shape)} "
                f"but got {list(x._data.shape)} for tensor number {i} in the list."
            )
    return Concatenate.apply(a, *kept)


concat = concatenate = cat


def stack(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dimension."""
    xs = _sequence("stack", tensors)
    for i, x in enumerate(xs):
        if x._data.shape != xs[0]._data.shape:
            raise InputError(
                f"stack expects each tensor to be equal size, but got {list(xs[0]._data.shape)} at entry 0 and "
                f"{list(x._data.shape)} at entry {i}"
            )
    a = axis_of(dim, xs[0]._data.ndim + 1, "stack")
    return Stack.apply(a, *[unsqueeze(x, a) for x in xs])


class Stack(Concatenate):
    """Tensors of one shape along a new axis, which they have already."""

    node_name = None


def hstack(tensors: Any) -> Tensor:
    """Joined along the second dimension, vectors along the first."""
    if not len(tensors):
        raise InputError("hstack expects a non-empty TensorList")
    tensors = [reshape(x, 1) if x._data.ndim == 0 else x for x in tensors]
    return cat(tensors, 0 if tensors[0]._data.ndim <= 1 else 1)


def vstack(tensors: Any) -> Tensor:
    """Joined along the first dimension, vectors as rows."""
    return cat([x if x._data.ndim > 1 else reshape(x, 1, -1) for x in tensors], 0)


def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """``length`` indices of a dimension from ``start`` on."""
    a = axis_of(dim, input._data.ndim, "narrow")
    n = input._data.shape[a]
    start = int(start)
    if not -n <= start <= n:
        raise IndexError(f"start out of range (expected to be in range of [{-n}, {n}], but got {start})")
    start = start + n if start < 0 else start
    if length < 0 or start + length > n:
        raise InputError(f"start ({start}) + length ({length}) exceeds dimension size ({n}).")
    return input[(slice(None),) * a + (slice(start, start + length),)]


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """One index of a dimension, which goes away."""
    a = axis_of(dim, input._data.ndim, "select")
    return input[(slice(None),) * a + (index,)]


def split(tensor: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of pieces along a dimension: of one size (the last may be smaller) or of the sizes given."""
    a = axis_of(dim, tensor._data.ndim, "split")
    n = tensor._data.shape[a]
    if isinstance(split_size_or_sections, int):
        if split_size_or_sections < 0 or (split_size_or_sections == 0 and n):
            raise InputError(f"split expects split_size be non-negative, but got split_size={split_size_or_sections}")
        lengths = [min(split_size_or_sections, n - i) for i in range(0, n, split_size_or_sections)] if n else [0]
    else:
        lengths = list(split_size_or_sections)
        if sum(lengths) != n:
            raise InputError(
                f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at dimension "
                f"{a}), but got split_sizes={lengths}"
            )
    out, start = [], 0
    for length in lengths:
        out.append(narrow(tensor, a, start, length))
        start += length
    return tuple(out)


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of at most ``chunks`` pieces of equal size along a dimension."""
    if chunks <= 0:
        raise InputError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    n = input._data.shape[axis_of(dim, input._data.ndim, "chunk")]
    return split(input, max(1, -(-n // chunks)), dim)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The views at every index of a dimension."""
    a = axis_of(dim, input._data.ndim, "unbind")
    return tuple(select(input, a, i) for i in range(input._data.shape[a]))


class Contiguous(ArrayFunction):
    """A copy in C order."""

    node_name = "CloneBackward0"

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x.copy(order="C")

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return grad


def contiguous(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """The tensor itself if its memory is in C order, else a copy that is."""
    return input if input._data.flags.c_contiguous else Contiguous.apply(input)


def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy, through which gradients flow."""
    check_tensor("clone", input)
    return Contiguous.apply(input)


class Diagonal(ArrayFunction):
    """The elements whose two indices differ by an offset."""

    view = True

    @staticmethod
    def forward(ctx: Any, x: Any, offset: int, axis1: int, axis2: int) -> Any:
        ctx.shape, ctx.how = x.shape, (offset, axis1, axis2)
        out = x.diagonal(offset, axis1, axis2)
        if isinstance(out, np.ndarray) and not out.flags.writeable and x.flags.writeable:
            out.flags.writeable = True
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        xp = namespace(grad)
        offset, axis1, axis2 = ctx.how
        out = xp.zeros(ctx.shape, grad.dtype)
        moved = xp.moveaxis(out, (axis1, axis2), (-2, -1))
        i = xp.arange(grad.shape[-1])
        moved[..., i + max(0, -offset), i + max(0, offset)] = grad
        return out, None, None, None


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of two dimensions, as the last dimension: a view."""
    n = input._data.ndim
    return Diagonal.apply(input, offset, axis_of(dim1, n, "diagonal"), axis_of(dim2, n, "diagonal"))


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix, or the matrix with a vector as its diagonal."""
    if input._data.ndim == 2:
        return Diagonal.apply(input, diagonal, 0, 1).clone()
    if input._data.ndim != 1:
        raise InputError(f"diag(): Supports 1D or 2D tensors. Got {input._data.ndim}D")
    n = input._data.shape[0] + abs(diagonal)
    xp = namespace(input._data)
    i = xp.arange(input._data.shape[0])
    out = Tensor._wrap(xp.zeros((n, n), input._data.dtype))
    out[Tensor._wrap(i + max(0, -diagonal)), Tensor._wrap(i + max(0, diagonal))] = input
    return out


class Triangle(ArrayFunction):
    """A matrix with one side of a diagonal set to 0."""

    @staticmethod
    def forward(ctx: Any, x: Any, diagonal: int, upper: bool) -> Any:
        ctx.how = diagonal, upper
        return triangle(x, diagonal, upper)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return triangle(grad, *ctx.how), None, None


def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of the last two dimensions, zeros above."""
    if input._data.ndim < 2:
        raise InputError("tril: input tensor must have at least 2 dimensions")
    return Triangle.apply(input, diagonal, False)


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of the last two dimensions, zeros below."""
    if input._data.ndim < 2:
        raise InputError("triu: input tensor must have at least 2 dimensions")
    return Triangle.apply(input, diagonal, True)


class Flip(ArrayFunction):
    """Axes reversed."""

    @staticmethod
    def forward(ctx: Any, x: Any, axes: tuple[int, ...]) -> Any:
        ctx.axes = axes
        return namespace(x).flip(x, axes).copy()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return namespace(grad).flip(grad, ctx.axes), None


def flip(input: Tensor, *args: Any, dims: Any = None) -> Tensor:
    """A copy with the order of elements reversed along dimensions: ``flip(x, 0, 1)`` or ``flip(x, dims=(0, 1))``."""
    check_tensor("flip", input)
    if dims is not None and args:
        raise KindError("flip() got multiple values for argument 'dims'")
    axes = tuple(axis_of(d, input._data.ndim, "flip") for d in sizes(args if dims is None else (dims,), "flip"))
    if len(set(axes)) != len(axes):
        raise InputError("flip: a dim appears multiple times in the list of dims")
    return Flip.apply(input, axes if input._data.ndim else ())


class Roll(ArrayFunction):
    """Elements moved round along axes."""

    @staticmethod
    def forward(ctx: Any, x: Any, shifts: Any, axes: Any) -> Any:
        ctx.how = shifts, axes
        return namespace(x).roll(x, shifts, axes)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        shifts, axes = ctx.how
        back = -shifts if isinstance(shifts, int) else tuple(-s for s in shifts)
        return namespace(grad).roll(grad, back, axes), None, None


def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """Elements moved round along dimensions; those that leave at the end come in at the start."""
    check_tensor("roll", input)
    if isinstance(shifts, (tuple, list)) and not shifts:
        raise InputError("roll: `shifts` required")
    count = [len(v) if isinstance(v, (tuple, list)) else 1 for v in (shifts, () if dims is None else dims)]
    if count[0] != count[1] and (dims is not None or count[0] > 1):
        raise InputError(f"roll: shifts and dimensions must align. shifts: {count[0]}, dims: {count[1]}")
    return Roll.apply(
        input, tuple(shifts) if isinstance(shifts, list) else shifts, tuple(dims) if isinstance(dims, list) else dims
    )


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Grids of coordinates from vectors."""
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tuple(tensors[0])
    for x in tensors:
        check_tensor("meshgrid", x)
    if indexing not in ("ij", "xy"):
        raise InputError(f'meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    if not tensors:
        raise InputError("meshgrid expects a non-empty TensorList")
    for x in tensors:
        if x._data.ndim > 1:
            raise InputError(f"meshgrid: Expected 0D or 1D tensor in the tensor list but got: {list(x.shape)}")
        if x.dtype is not tensors[0].dtype:
            raise KindError("meshgrid expects all tensors to have the same dtype")
    swap = indexing == "xy" and len(tensors) > 1
    order = [1, 0, *range(2, len(tensors))] if swap else list(range(len(tensors)))
    shape = [tensors[i]._data.size for i in order]
    return tuple(
        expand(
            reshape(
                x,
                [-1 if order[k] == i else 1 for k in range(len(order))]
                if x._data.size
                else [0 if order[k] == i else 1 for k in range(len(order))],
            ),
            *shape,
        )
        for i, x in enumerate(tensors)
    )
