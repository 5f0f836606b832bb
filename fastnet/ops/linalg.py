"""Products, norms and decompositions of matrices, beyond ``fastnet.ops.matmul``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet import _dtypes
from fastnet._checks import into
from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError, LinAlgError
from fastnet.ops import arithmetic, elementwise, reductions, selection
from fastnet.ops._numeric import axes_of, axis_of
from fastnet.ops._operands import cast, check_tensor
from fastnet.ops._results import result
from fastnet.ops.matmul import bmm, dot, matmul, mm, mv
from fastnet.ops.shape import diagonal, expand, movedim, permute, reshape, stack, transpose, unsqueeze


def _scaled_sum(input: Tensor, product: Tensor, beta: Any, alpha: Any, shape: tuple, name: str) -> Tensor:
    """``beta * input + alpha * product``; input is not looked at where beta is 0."""
    if not product.dtype.is_floating_point:
        beta, alpha = int(beta), int(alpha)
    if input.dtype is not product.dtype:
        raise KindError(f"{name}: expected input and matrices to have the same dtype, got {input.dtype}")
    out = product if alpha == 1 else arithmetic.mul(product, alpha)
    have = input._data.shape
    if len(have) > len(shape) or any(n not in (1, w) for n, w in zip(have[::-1], shape[::-1], strict=False)):
        raise InputError(f"{name}: input of shape {list(have)} cannot be broadcast to {list(shape)}")
    if beta == 0:
        return out
    return arithmetic.add(out, input if beta == 1 else arithmetic.mul(input, beta))


def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * input + alpha * mat @ vec``."""
    check_tensor("addmv", input)
    product = mv(mat, vec)
    return _scaled_sum(input, product, beta, alpha, product._data.shape, "addmv")


def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * input + alpha * outer(vec1, vec2)``."""
    from fastnet.ops.einsum import outer

    check_tensor("addr", input)
    product = outer(vec1, vec2)
    return _scaled_sum(input, product, beta, alpha, product._data.shape, "addr")


def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * input + alpha * batch1 @ batch2``, batches (B, M, K) and (B, K, N)."""
    check_tensor("baddbmm", input)
    product = bmm(batch1, batch2)
    return _scaled_sum(input, product, beta, alpha, product._data.shape, "baddbmm")


def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * input + alpha * sum of batch1[i] @ batch2[i]``."""
    check_tensor("addbmm", input)
    product = reductions.sum(bmm(batch1, batch2), 0, dtype=batch1.dtype)
    return _scaled_sum(input, product, beta, alpha, product._data.shape, "addbmm")


def vdot(input: Tensor, other: Tensor) -> Tensor:
    """As ``dot``."""
    return dot(input, other)


def inner(input: Tensor, other: Tensor) -> Tensor:
    """The sums of products over the last dimensions; numbers multiply."""
    check_tensor("inner", input)
    check_tensor("inner", other, "other")
    if not input._data.ndim or not other._data.ndim:
        return arithmetic.mul(input, other)
    return tensordot(input, other, ([-1], [-1]))


def tensordot(a: Tensor, b: Tensor, dims: Any = 2, out: Tensor | None = None) -> Tensor:
    """Products summed over the last ``dims`` dimensions of a and the first of b, or over the pairs of dimensions
    given."""
    if out is not None:
        return into(out, tensordot(a, b, dims), "tensordot")
    check_tensor("tensordot", a, "a")
    check_tensor("tensordot", b, "b")
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if isinstance(dims, (int, np.integer)):
        if dims < 0 or dims > min(a._data.ndim, b._data.ndim):
            raise InputError(f"tensordot expects dims >= 0 and no more than either tensor has, but got dims={dims}")
        left, right = list(range(a._data.ndim - dims, a._data.ndim)), list(range(dims))
    else:
        left, right = ([d] if isinstance(d, int) else list(d) for d in dims)
    if len(left) != len(right):
        raise InputError("both dimension lists should have same length")
    left = [axis_of(d, a._data.ndim, "tensordot") for d in left]
    right = [axis_of(d, b._data.ndim, "tensordot") for d in right]
    sa, sb = a._data.shape, b._data.shape
    for i, j in zip(left, right, strict=True):  # a size of one is broadcast: the other tensor is summed along it
        if sa[i] == 1 and sb[j] != 1:
            b = reductions.sum(b, j, True, dtype=b.dtype)
        elif sb[j] == 1 and sa[i] != 1:
            a = reductions.sum(a, i, True, dtype=a.dtype)
        elif sa[i] != sb[j]:
            raise InputError(
                f"contracted dimensions need to match, but first has size {sa[i]} in dim {i} and second has size "
                f"{sb[j]} in dim {j}"
            )
    sa, sb = a._data.shape, b._data.shape
    rows = [i for i in range(a._data.ndim) if i not in left]
    cols = [i for i in range(b._data.ndim) if i not in right]
    inside = math.prod(sa[i] for i in left)
    x = reshape(permute(a, *rows, *left), math.prod(sa[i] for i in rows), inside)
    y = reshape(permute(b, *right, *cols), inside, math.prod(sb[i] for i in cols))
    return reshape(mm(x, y), (*[sa[i] for i in rows], *[sb[i] for i in cols]))


def kron(input: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product: every element of ``input`` times all of ``other``."""
    check_tensor("kron", input)
    check_tensor("kron", other, "other")
    n = max(input._data.ndim, other._data.ndim)
    a, b = ((1,) * (n - x._data.ndim) + x._data.shape for x in (input, other))
    left = reshape(input, [k for pair in zip(a, (1,) * n, strict=True) for k in pair])
    right = reshape(other, [k for pair in zip((1,) * n, b, strict=True) for k in pair])
    return reshape(arithmetic.mul(left, right), [p * q for p, q in zip(a, b, strict=True)])


def trace(input: Tensor) -> Tensor:
    """The sum of a matrix's diagonal."""
    check_tensor("trace", input)
    if input.dtype is _dtypes.bool_:
        raise NotImplementedError("trace: not implemented for bool")
    if input._data.ndim != 2:
        raise InputError(f"trace: expected a matrix, but got tensor with dim {input._data.ndim}")
    return reductions.sum(diagonal(input))


def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """The cross product of vectors of three elements along ``dim`` (the first of that size if not given)."""
    check_tensor("cross", input)
    check_tensor("cross", other, "other")
    if input._data.ndim != other._data.ndim:
        raise InputError("linalg.cross: inputs must have the same number of dimensions.")
    shape = np.broadcast_shapes(input._data.shape, other._data.shape)
    if dim is None:
        if 3 not in shape:
            raise InputError("no dimension of size 3 in input")
        dim = shape.index(3)
    a = axis_of(dim, len(shape), "cross")
    if input._data.shape[a] != 3 or other._data.shape[a] != 3:
        raise InputError(
            f"linalg.cross: inputs dimension {dim} must have length 3. Got {input._data.shape[a]} and "
            f"{other._data.shape[a]}"
        )
    x, y = expand(input, *shape).unbind(a), expand(other, *shape).unbind(a)
    return stack([x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]], a)


def _linalg_cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    return cross(input, other, dim)


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: Any = None) -> Tensor:
    """The p-norm of the difference of every row of x1 (..., P, M) and every row of x2 (..., R, M): (..., P, R)."""
    for name, x in (("x1", x1), ("x2", x2)):
        check_tensor("cdist", x, name)
        if not x.dtype.is_floating_point:
            raise KindError(f"cdist only supports floating-point dtypes, {name} got: {x.dtype}")
        if x._data.ndim < 2:
            raise InputError(f"cdist only supports at least 2D tensors, {name} got: {x._data.ndim}D")
    if x1._data.shape[-1] != x2._data.shape[-1]:
        raise InputError(
            f"X1 and X2 must have the same number of columns. X1: {x1._data.shape[-1]} X2: {x2._data.shape[-1]}"
        )
    if p < 0:
        raise InputError("cdist only supports non-negative p values")
    return reductions.norm(arithmetic.sub(unsqueeze(x1, -2), unsqueeze(x2, -3)), p, -1)


def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """The p-norms of the differences of all pairs of rows, (N (N - 1) / 2,)."""
    check_tensor("pdist", input)
    if input._data.ndim != 2:
        raise InputError(f"pdist only supports 2D tensors, got: {input._data.ndim}D")
    i, j = np.triu_indices(input._data.shape[0], 1)
    xp = namespace(input._data)
    left, right = (input[Tensor._wrap(xp.asarray(k))] for k in (i, j))
    return reductions.norm(arithmetic.sub(left, right), p, -1)


def chain_matmul(*matrices: Any) -> Tensor:
    """The product of matrices, from left to right."""
    if len(matrices) == 1 and isinstance(matrices[0], (list, tuple)):
        matrices = tuple(matrices[0])
    if not matrices:
        raise InputError("chain_matmul(): Expected one or more matrices")
    out = matrices[0]
    for m in matrices[1:]:
        out = matmul(out, m)
    return out


def multi_dot(tensors: Any) -> Tensor:
    """The product of two or more matrices; the first and the last may be vectors."""
    if len(tensors) < 2:
        raise InputError("multi_dot(): expected at least 2 tensors but got " + str(len(tensors)))
    return chain_matmul(*tensors)


def matrix_power(input: Tensor, n: int) -> Tensor:
    """Square matrices to a whole power; negative ones of the inverse."""
    check_tensor("matrix_power", input)
    _check_square("linalg.matrix_power", input)
    if n < 0:
        return matrix_power(inv(input), -n)
    if n == 0:
        from fastnet.ops.creation import eye

        return expand(eye(input._data.shape[-1], dtype=input.dtype, device=input.device), *input._data.shape).clone()
    out, square = None, input
    while n:
        if n & 1:
            out = square if out is None else matmul(out, square)
        n >>= 1
        if n:
            square = matmul(square, square)
    assert out is not None
    return out.clone() if out is input else out


# ---- norms -----------------------------------------------------------------------------------------------------------


def vector_norm(x: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The p-norm of the elements, over ``dim`` or all."""
    check_tensor("linalg.vector_norm", x, "x")
    return reductions.norm(x, ord, dim, keepdim, dtype=dtype)


def matrix_norm(
    A: Tensor, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """The norm of matrices over two dimensions: "fro", "nuc", 1, -1, 2, -2, inf or -inf."""
    check_tensor("linalg.matrix_norm", A, "A")
    if A._data.ndim < 2:
        raise InputError("linalg.matrix_norm: The input tensor A must have at least 2 dimensions.")
    if len(dim) != 2:
        raise InputError("linalg.matrix_norm: dim must be a 2-tuple.")
    a, b = axes_of(dim, A._data.ndim, "linalg.matrix_norm")
    if dtype is not None:
        A = cast(A, _dtypes.as_dtype(dtype))
    if ord == "fro":
        return reductions.norm(A, 2, (a, b), keepdim)
    if ord in ("nuc", 2, -2):
        from fastnet.ops.decompositions import svdvals

        s = svdvals(movedim(A, (a, b), (-2, -1)))
        out = s.sum(-1) if ord == "nuc" else s.amax(-1) if ord == 2 else s.amin(-1)
        if keepdim:
            for axis in sorted((a, b)):
                out = unsqueeze(out, axis)
        return out
    if abs(ord) not in (1, math.inf):
        raise InputError(f"linalg.matrix_norm: Order {ord} not supported.")
    over, then = (a, b) if abs(ord) == 1 else (b, a)
    sums = reductions.sum(elementwise.abs(A), over, keepdim=True)
    out = (reductions.amax if ord > 0 else reductions.amin)(sums, then, keepdim=True)
    return out if keepdim else out.squeeze((a, b))


def norm(A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """A vector's norm, or with two dimensions and an order a matrix's; without an order that of all elements."""
    check_tensor("linalg.norm", A, "A")
    if ord is None:
        return reductions.norm(A, 2, dim, keepdim, dtype=dtype)
    pair = dim is not None and not isinstance(dim, (int, np.integer)) and len(dim) == 2
    if pair or (dim is None and A._data.ndim == 2):
        return matrix_norm(A, ord, dim if pair else (-2, -1), keepdim, dtype=dtype)
    if isinstance(ord, str):
        raise InputError(f"linalg.norm: order {ord!r} needs a matrix")
    if dim is None and A._data.ndim not in (1, 2):
        raise InputError("linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D.")
    return vector_norm(A, ord, dim, keepdim, dtype=dtype)


# ---- inverses, determinants, decompositions --------------------------------------------------------------------------


def _check_square(name: str, A: Any) -> None:
    check_tensor(name, A, "A")
    if not A.dtype.is_floating_point:
        raise KindError(f"{name}: Expected a floating point tensor as input. Got {A.dtype}")
    if A._data.ndim < 2 or A._data.shape[-1] != A._data.shape[-2]:
        raise InputError(
            f"{name}: A must be batches of square matrices, but they are {' by '.join(map(str, A._data.shape[-2:]))} "
            "matrices"
        )


def _full(A: Tensor, name: str) -> Tensor:
    if A._data.dtype.itemsize == 2:
        raise KindError(f"{name}: Low precision dtypes not supported. Got {A.dtype}")
    return A


def _t(x: Any) -> Any:
    return x.swapaxes(-1, -2)


def _singular(name: str, error: Exception) -> LinAlgError:
    return LinAlgError(f"{name}: {error}")


class Inverse(ArrayFunction):
    """The inverse of square matrices."""

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        out = namespace(a).linalg.inv(a)
        ctx.save(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (out,) = ctx.saved
        return -_t(out) @ grad @ _t(out)


def inv(A: Tensor) -> Tensor:
    """The inverse of square matrices; LinAlgError for a singular one."""
    _check_square("linalg.inv", A)
    try:
        return Inverse.apply(_full(A, "linalg.inv"))
    except np.linalg.LinAlgError as error:
        raise _singular("linalg.inv", error) from None


def _solved(a: Any, b: Any) -> Any:
    """x with a x = b, where a may have fewer batches, which CuPy broadcasts none of."""
    xp = namespace(a)
    return xp.linalg.solve(a if xp is np else xp.broadcast_to(a, (*b.shape[:-2], *a.shape[-2:])), b)


class Solve(ArrayFunction):
    """x with a x = b."""

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any) -> Any:
        out = _solved(a, b)
        ctx.save(a, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        from fastnet.ops._numeric import unbroadcast

        a, x = ctx.saved
        of_b = _solved(_t(a), grad)
        return unbroadcast(-of_b @ _t(x), a.shape), of_b


def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """X with ``A X = B`` (or ``X A = B``), B a vector, a matrix or a batch of them."""
    _check_square("linalg.solve", A)
    check_tensor("linalg.solve", B, "B")
    vector = B._data.ndim == 1 or (B._data.ndim + 1 == A._data.ndim and B._data.shape == A._data.shape[:-1])
    b = unsqueeze(B, -1) if vector else B
    if not left:
        return transpose(solve(transpose(A, -2, -1), transpose(b, -2, -1)), -2, -1)
    if b._data.shape[-2] != A._data.shape[-1]:
        raise InputError(f"linalg.solve: Incompatible shapes of A {list(A.shape)} and B {list(B.shape)}")
    batch = np.broadcast_shapes(A._data.shape[:-2], b._data.shape[:-2])
    b = expand(b, *batch, *b._data.shape[-2:])
    try:
        out = Solve.apply(_full(A, "linalg.solve"), b)
    except np.linalg.LinAlgError as error:
        raise _singular("linalg.solve", error) from None
    return out.squeeze(-1) if vector else out


class Determinant(ArrayFunction):
    """The determinant of square matrices."""

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        out = namespace(a).asarray(namespace(a).linalg.det(a))
        ctx.save(a, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        a, out = ctx.saved
        return (grad * out)[..., None, None] * _t(namespace(a).linalg.inv(a))


def det(A: Tensor) -> Tensor:
    """The determinant of square matrices."""
    _check_square("linalg.det", A)
    return Determinant.apply(_full(A, "linalg.det"))


class LogDeterminant(ArrayFunction):
    """Sign and logarithm of the absolute value of the determinant."""

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        sign, value = namespace(a).linalg.slogdet(a)
        ctx.save(a)
        return namespace(a).asarray(sign), namespace(a).asarray(value)

    @staticmethod
    def backward(ctx: Any, _: Any, grad: Any) -> Any:
        (a,) = ctx.saved
        return grad[..., None, None] * _t(namespace(a).linalg.inv(a))


def slogdet(A: Tensor) -> Any:
    """A named tuple: the determinant's sign, and the logarithm of its absolute value."""
    _check_square("linalg.slogdet", A)
    return result("slogdet", "sign logabsdet")(*LogDeterminant.apply(_full(A, "linalg.slogdet")))


def logdet(input: Tensor) -> Tensor:
    """The logarithm of the determinant; NaN where that is negative."""
    sign, value = slogdet(input)
    return selection.where(sign < 0, math.nan, value)


class Cholesky(ArrayFunction):
    """L with a = L L^T, L lower triangular (Murray 2016 for the gradient)."""

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        out = namespace(a).linalg.cholesky(a)
        ctx.save(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (low,) = ctx.saved
        xp = namespace(low)
        inverse = xp.linalg.inv(low)
        middle = xp.tril(_t(low) @ grad)
        middle = middle - 0.5 * middle * xp.eye(low.shape[-1], dtype=low.dtype)
        s = _t(inverse) @ middle @ inverse
        return 0.5 * (s + _t(s))


def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """The lower (or upper) triangular factor of symmetric positive definite matrices."""
    _check_square("linalg.cholesky", A)
    try:
        low = Cholesky.apply(_full(A, "linalg.cholesky"))
    except np.linalg.LinAlgError as error:
        raise _singular("linalg.cholesky", error) from None
    return transpose(low, -2, -1) if upper else low


def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """The sums of products along ``dim``."""
    return reductions.sum(arithmetic.mul(x, y), dim)


def linalg_diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonals of matrices."""
    return diagonal(A, offset, dim1, dim2)


def solve_triangular(A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Tensor:
    """X with ``A X = B`` (or ``X A = B``) for triangular A."""
    from fastnet.ops.shape import tril, triu

    _check_square("linalg.solve_triangular", A)
    if unitriangular:
        from fastnet.ops.creation import eye

        part = triu(A, 1) if upper else tril(A, -1)
        return solve(part + eye(A._data.shape[-1], dtype=A.dtype, device=A.device), B, left=left)
    return solve(triu(A) if upper else tril(A), B, left=left)
