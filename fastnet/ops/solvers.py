"""Factors of matrices and systems of equations solved by them: LU, Cholesky, Householder; the exponential."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet._checks import into
from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, LinAlgError
from fastnet.ops._numeric import axis_of
from fastnet.ops._operands import check_tensor
from fastnet.ops._results import result
from fastnet.ops.decompositions import _matrices
from fastnet.ops.linalg import _check_square, _full, _t, cholesky, inv, solve, solve_triangular
from fastnet.ops.matmul import matmul
from fastnet.ops.shape import cat, expand, movedim, narrow, reshape, transpose, tril, triu, unsqueeze

# ---- LU ------------------------------------------------------------------------------------------------------------


def _permutation(pivots: Any, rows: int) -> Any:
    """Rows in the order that a factor's exchanges leave them in: (..., rows); pivots (..., k) count from 1."""
    xp = namespace(pivots)
    k = pivots.shape[-1]
    flat = pivots.reshape(math.prod(pivots.shape[:-1]), k)
    order = xp.broadcast_to(xp.arange(rows), (flat.shape[0], rows)).copy()
    lines = xp.arange(flat.shape[0])
    for i in range(k):
        other = flat[:, i] - 1
        first, second = order[:, i].copy(), order[lines, other].copy()
        order[:, i] = second
        order[lines, other] = first
    return order.reshape(*pivots.shape[:-1], rows)


class LU(ArrayFunction):
    """L, without its diagonal of ones, and U in one matrix, and the rows exchanged: the largest of each column comes
    up (Golub and Van Loan, section 3.4)."""

    @staticmethod
    def forward(ctx: Any, a: Any) -> tuple[Any, Any]:
        xp = namespace(a)
        rows, columns = a.shape[-2:]
        k = min(rows, columns)
        lu = a.reshape(math.prod(a.shape[:-2]), rows, columns).copy()
        lines = xp.arange(lu.shape[0])
        pivots = xp.zeros((lu.shape[0], k), np.int32)
        for i in range(k):
            chosen = xp.argmax(xp.abs(lu[:, i:, i]), axis=1) + i
            pivots[:, i] = chosen + 1
            first, second = lu[:, i].copy(), lu[lines, chosen].copy()
            lu[:, i], lu[lines, chosen] = second, first
            pivot = lu[:, i, i][:, None]
            lu[:, i + 1 :, i] /= xp.where(pivot == 0, 1, pivot)
            lu[:, i + 1 :, i + 1 :] -= lu[:, i + 1 :, i, None] * lu[:, i, None, i + 1 :]
        lu, pivots = lu.reshape(a.shape), pivots.reshape(*a.shape[:-2], k)
        ctx.save(lu)
        ctx.pivots = pivots
        return lu, pivots

    @staticmethod
    def backward(ctx: Any, grad: Any, _: Any = None) -> Any:
        (lu,) = ctx.saved
        xp = namespace(lu)
        rows, columns = lu.shape[-2:]
        k = min(rows, columns)
        eye = xp.eye(k, dtype=lu.dtype)
        low, up = xp.tril(lu[..., :k, :k], -1) + eye, xp.triu(lu[..., :k, :k])
        of_low, of_up = xp.tril(grad[..., :k, :k], -1), xp.triu(grad[..., :k, :k])
        product, upper = _t(low) @ of_low, of_up @ _t(up)
        beside = below = None
        if columns > k:  # what is right of the square is L^-1 A
            beside = xp.linalg.solve(_t(low), grad[..., k:])
            product = product - grad[..., k:] @ _t(lu[..., k:])
        if rows > k:  # what is below it is A U^-1
            below = _t(xp.linalg.solve(up, _t(grad[..., k:, :])))
            upper = upper - _t(lu[..., k:, :]) @ grad[..., k:, :]
        inner = xp.tril(product, -1) + xp.triu(upper)
        out = _t(xp.linalg.solve(up, _t(xp.linalg.solve(_t(low), inner))))
        if beside is not None:
            out = xp.concatenate([out, beside], axis=-1)
        if below is not None:
            out = xp.concatenate([out, below], axis=-2)
        order = xp.argsort(_permutation(ctx.pivots, rows), axis=-1)
        return xp.take_along_axis(out, order[..., None], axis=-2)


def _info(xp: Any, batch: tuple) -> Tensor:
    return Tensor._wrap(xp.zeros(batch, np.int32))


def lu_factor(A: Tensor, *, pivot: bool = True) -> Any:
    """A named tuple: L (below the diagonal, whose ones are left out) and U in one matrix (..., M, N), and pivots
    (..., min(M, N)), int32: row i was exchanged with row pivots[i] - 1."""
    if not pivot:
        raise InputError("linalg.lu_factor: LU without pivoting is not implemented on the CPU")
    return result("linalg_lu_factor", "LU pivots")(*LU.apply(_matrices("linalg.lu_factor", A)))


def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False) -> Any:
    """``lu_factor`` and, as ``info``, for every matrix the number of its first pivot that is zero, or 0."""
    lu, pivots = lu_factor(A, pivot=pivot)
    x = lu._data
    xp = namespace(x)
    zero = xp.diagonal(x, axis1=-2, axis2=-1) == 0
    info = xp.where(zero.any(axis=-1), xp.argmax(zero, axis=-1) + 1, 0) if zero.shape[-1] else xp.zeros(x.shape[:-2])
    info = xp.asarray(info, np.int32)
    if check_errors and bool((info != 0).any()):
        raise LinAlgError(f"linalg.lu_factor: U({int(info.max())},{int(info.max())}) is exactly zero")
    return result("linalg_lu_factor_ex", "LU pivots info")(lu, pivots, Tensor._wrap(info))


def lu_unpack(LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True) -> Any:
    """P, L and U, with ``A = P L U``, from what ``lu_factor`` gives; what is not asked for is empty."""
    check_tensor("lu_unpack", LU_data, "LU_data")
    check_tensor("lu_unpack", LU_pivots, "LU_pivots")
    x = LU_data._data
    xp = namespace(x)
    rows, columns = x.shape[-2:]
    k = min(rows, columns)
    nothing = Tensor._wrap(xp.zeros(0, x.dtype))
    p, low, up = nothing, nothing, nothing
    if unpack_pivots:
        order = _permutation(LU_pivots._data, rows)
        p = Tensor._wrap(_t(xp.eye(rows, dtype=x.dtype)[order]))
    if unpack_data:
        low = tril(narrow(LU_data, -1, 0, k), -1) + Tensor._wrap(xp.eye(rows, k, dtype=x.dtype))
        up = triu(narrow(LU_data, -2, 0, k))
    return result("lu_unpack", "P L U")(p, low, up)


def lu(A: Tensor, *, pivot: bool = True) -> Any:
    """A named tuple P, L, U with ``A = P L U``: a permutation, a lower triangle with a diagonal of ones, an upper
    triangle.

    >>> import fastnet
    >>> p, l, u = fastnet.linalg.lu(fastnet.tensor([[1., 2.], [4., 4.]]))
    >>> p @ l @ u
    tensor([[1., 2.],
            [4., 4.]])
    """
    return result("linalg_lu", "P L U")(*lu_unpack(*lu_factor(A, pivot=pivot)))


def lu_solve(LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False) -> Tensor:
    """X with ``A X = B`` (``X A = B``; with ``adjoint`` of A transposed), A by what ``lu_factor`` gave."""
    check_tensor("linalg.lu_solve", B, "B")
    _check_square("linalg.lu_solve", LU)
    if not left:  # X A = B is A^T X^T = B^T
        return transpose(lu_solve(LU, pivots, transpose(B, -2, -1), adjoint=not adjoint), -2, -1)
    batch = np.broadcast_shapes(tuple(LU.shape[:-2]), tuple(B.shape[:-2]))
    p, low, up = lu_unpack(LU, pivots)
    B = expand(B, *batch, *B.shape[-2:])
    if adjoint:
        y = solve_triangular(transpose(up, -2, -1), B, upper=False)
        return matmul(p, solve_triangular(transpose(low, -2, -1), y, upper=True, unitriangular=True))
    y = solve_triangular(low, matmul(transpose(p, -2, -1), B), upper=False, unitriangular=True)
    return solve_triangular(up, y, upper=True)


def torch_lu_solve(b: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """``linalg.lu_solve`` as ``torch.lu_solve`` has it."""
    return lu_solve(LU_data, LU_pivots, b)


def torch_lu(A: Tensor, pivot: bool = True, get_infos: bool = False, out: Any = None) -> Any:
    """``lu_factor`` as ``torch.lu`` has it; with ``get_infos`` also its third result."""
    found = tuple(lu_factor_ex(A, pivot=pivot))[: 3 if get_infos else 2]
    return found if out is None else into(out, found, "lu")


def torch_cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """``linalg.cholesky`` as ``torch.cholesky`` has it."""
    return cholesky(input, upper=upper)


def orgqr(input: Tensor, input2: Tensor) -> Tensor:
    """``householder_product`` as ``torch.orgqr`` has it."""
    return householder_product(input, input2)


# ---- without exceptions --------------------------------------------------------------------------------------------


def _one_by_one(x: Any, wrong: Any) -> Any:
    """For each matrix the number that says what is wrong with it, or 0."""
    xp = namespace(x)
    flat = x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
    return xp.asarray([wrong(m) for m in flat], np.int32).reshape(x.shape[:-2])


def _zero_pivot(matrix: Any) -> int:
    return int(lu_factor_ex(Tensor._wrap(matrix)).info._data)


def _not_positive(matrix: Any) -> int:
    xp = namespace(matrix)
    for k in range(1, matrix.shape[-1] + 1):
        try:
            if bool(xp.isnan(xp.linalg.cholesky(matrix[:k, :k])).any()):
                return k
        except np.linalg.LinAlgError:
            return k
    return 0


def _patched(A: Tensor, info: Any) -> Tensor:
    """A with identities in place of the matrices that info complains of."""
    from fastnet.ops.selection import where

    xp = namespace(info)
    eye = Tensor._wrap(xp.eye(A.shape[-1], dtype=A._data.dtype))
    return where(Tensor._wrap(xp.asarray(info == 0)[..., None, None]), A, eye)


def inv_ex(A: Tensor, *, check_errors: bool = False) -> Any:
    """A named tuple: the inverses, and as ``info`` 0, or which pivot is zero where there is none (the inverse then
    means nothing)."""
    name = "linalg.inv"
    _check_square(name, A)
    make = result("linalg_inv_ex", "inverse info")
    try:
        return make(inv(A), _info(namespace(A._data), A._data.shape[:-2]))
    except LinAlgError:
        if check_errors:
            raise
    info = _one_by_one(_full(A, name)._data, _zero_pivot)
    return make(inv(_patched(A, info)), Tensor._wrap(info))


def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> Any:
    """A named tuple: ``linalg.solve``, and as ``info`` 0, or which pivot of A is zero (the result then means
    nothing)."""
    name = "linalg.solve"
    _check_square(name, A)
    make = result("linalg_solve_ex", "result info")
    xp = namespace(A._data)
    info = _one_by_one(_full(A, name)._data, _zero_pivot)
    if not bool((info != 0).any()):
        return make(solve(A, B, left=left), _info(xp, A._data.shape[:-2]))
    if check_errors:
        raise LinAlgError(f"{name}: The solver failed because the input matrix is singular.")
    return make(solve(_patched(A, info), B, left=left), Tensor._wrap(info))


def cholesky_ex(A: Tensor, *, upper: bool = False, check_errors: bool = False) -> Any:
    """A named tuple: ``linalg.cholesky``, and as ``info`` 0, or the size of the first leading minor that is not
    positive (the factor then means nothing)."""
    name = "linalg.cholesky"
    _check_square(name, A)
    make = result("linalg_cholesky_ex", "L info")
    try:
        return make(cholesky(A, upper=upper), _info(namespace(A._data), A._data.shape[:-2]))
    except LinAlgError:
        if check_errors:
            raise
    info = _one_by_one(_full(A, name)._data, _not_positive)
    return make(cholesky(_patched(A, info), upper=upper), Tensor._wrap(info))


# ---- by factors ----------------------------------------------------------------------------------------------------


def _lower(L: Tensor, upper: bool) -> Tensor:
    """The lower triangle of L, or of its transpose; the gradient is that of all elements, as PyTorch has it."""
    low = transpose(L, -2, -1) if upper else L
    return low - triu(low.detach(), 1)


def cholesky_solve(B: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """X with ``L L^T X = B``, L lower (or with ``upper`` ``L^T L X = B``)."""
    check_tensor("cholesky_solve", B, "B")
    _check_square("cholesky_solve", L)
    if B._data.ndim < 2 or B.shape[-2] != L.shape[-1]:
        raise InputError(f"cholesky_solve: Incompatible shapes of B {list(B.shape)} and L {list(L.shape)}")
    low = _lower(L, upper)
    return solve(transpose(low, -2, -1), solve(low, B))


def cholesky_inverse(L: Tensor, upper: bool = False) -> Tensor:
    """The inverse of ``L L^T`` (or with ``upper`` of ``L^T L``)."""
    _check_square("cholesky_inverse", L)
    low = _lower(L, upper)
    return inv(matmul(low, transpose(low, -2, -1)))


def triangular_solve(
    b: Tensor, A: Tensor, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> Any:
    """A named tuple: X with ``A X = b`` (with ``transpose`` of A transposed) for triangular A, and a copy of A."""
    _check_square("triangular_solve", A)
    check_tensor("triangular_solve", b, "b")
    matrix = A.mT if transpose else A
    solution = solve_triangular(matrix, b, upper=upper is not transpose, unitriangular=unitriangular)
    return result("triangular_solve", "solution cloned_coefficient")(solution, A.clone())


def householder_product(input: Tensor, tau: Tensor) -> Tensor:
    """The first columns of the product of reflections ``1 - tau_i v_i v_i^T``, v_i being column i of ``input``
    (..., M, N) below its diagonal with a one on it: (..., M, N)."""
    name = "linalg.householder_product"
    input = _matrices(name, input)
    check_tensor(name, tau, "tau")
    rows, columns = input.shape[-2:]
    count = tau.shape[-1]
    if columns > rows or count > columns:
        raise InputError(f"{name}: input is {list(input.shape)}, tau {list(tau.shape)}: expected M >= N >= len(tau)")
    x = input._data
    eye = Tensor._wrap(namespace(x).eye(rows, columns, dtype=x.dtype))
    vectors = tril(input, -1) + eye
    out = expand(eye, *x.shape)
    for i in reversed(range(count)):
        v = narrow(vectors, -1, i, 1)
        out = out - reshape(tau[..., i], (*tau.shape[:-1], 1, 1)) * matmul(v, matmul(transpose(v, -2, -1), out))
    return out


def ormqr(input: Tensor, input2: Tensor, input3: Tensor, left: bool = True, transpose: bool = False) -> Tensor:
    """``input3`` times the whole orthogonal matrix of the reflections in ``input`` and ``input2``, as ``geqrf`` gives
    them: from the left or the right, the matrix transposed or not."""
    name, tau, other = "ormqr", input2, input3
    input = _matrices(name, input)
    rows, count = input.shape[-2], tau.shape[-1]
    if other.shape[-2 if left else -1] != rows:
        raise InputError(f"{name}: other is {list(other.shape)}, expected {rows} in dimension {-2 if left else -1}")
    x = input._data
    vectors = tril(input, -1) + Tensor._wrap(namespace(x).eye(*x.shape[-2:], dtype=x.dtype))
    out = other
    # The matrix is H_1 H_2 ... H_k: from the left its last reflection meets ``other`` first.
    order = range(count)
    for i in reversed(order) if left is not transpose else order:
        v = narrow(vectors, -1, i, 1)
        scale = reshape(tau[..., i], (*tau.shape[:-1], 1, 1))
        across = _transposed(v)
        product = matmul(v, matmul(across, out)) if left else matmul(matmul(out, v), across)
        out = out - scale * product
    return out


def _transposed(x: Tensor) -> Tensor:
    return transpose(x, -2, -1)


# ---- the exponential -----------------------------------------------------------------------------------------------


def _exponential(a: Any) -> Any:
    """Taylor's series of a over a power of two, squared again (Higham 2008, section 10.3)."""
    xp = namespace(a)
    if not a.size:
        return a.copy()
    w = a.astype(np.float64)
    size = xp.abs(w).sum(axis=-2).max(axis=-1)[..., None, None]
    finite = xp.isfinite(size)
    halvings = xp.where(finite & (size > 0.5), xp.ceil(xp.log2(xp.where(finite & (size > 0), size, 1))) + 1, 0)
    w = w / xp.exp2(halvings)
    eye = xp.broadcast_to(xp.eye(a.shape[-1]), a.shape)
    out = term = eye
    for n in range(1, 19):  # 0.5^19 / 19! is below 1e-22
        term = term @ w / n
        out = out + term
    for n in range(int(halvings.max())):
        out = xp.where(halvings > n, out @ out, out)
    return out.astype(a.dtype)


class MatrixExponential(ArrayFunction):
    """e to the power of square matrices."""

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        ctx.save(a)
        return _exponential(a)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (a,) = ctx.saved
        xp, n = namespace(a), a.shape[-1]
        both = xp.zeros((*a.shape[:-2], 2 * n, 2 * n), a.dtype)  # Mathias (1996): the derivative stands at upper right
        both[..., :n, :n] = both[..., n:, n:] = _t(a)
        both[..., :n, n:] = grad
        return _exponential(both)[..., :n, n:]


def matrix_exp(A: Tensor) -> Tensor:
    """e to the power of square matrices.

    >>> import fastnet
    >>> fastnet.matrix_exp(fastnet.tensor([[0., 1.], [0., 0.]]))
    tensor([[1., 1.],
            [0., 1.]])
    """
    _check_square("linalg.matrix_exp", A)
    from fastnet.ops._operands import cast

    wide = A if A._data.dtype.itemsize > 2 else A.float()
    return cast(MatrixExponential.apply(wide), A.dtype)


# ---- tensors as matrices -------------------------------------------------------------------------------------------


def tensorinv(A: Tensor, ind: int = 2) -> Tensor:
    """The inverse of A as a matrix of its first ``ind`` dimensions by the others."""
    check_tensor("linalg.tensorinv", A, "A")
    if ind <= 0:
        raise InputError("Expected a strictly positive integer for 'ind'")
    first, rest = tuple(A.shape[:ind]), tuple(A.shape[ind:])
    if math.prod(first) != math.prod(rest):
        raise InputError(
            f"Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), but got "
            f"{math.prod(rest)} != {math.prod(first)}"
        )
    return reshape(inv(reshape(A, (math.prod(first), math.prod(rest)))), (*rest, *first))


def tensorsolve(A: Tensor, B: Tensor, dims: Any = None) -> Tensor:
    """X with ``tensordot(A, X, X.ndim) = B``; ``dims`` of A are moved to its end before."""
    check_tensor("linalg.tensorsolve", A, "A")
    check_tensor("linalg.tensorsolve", B, "B")
    if dims is not None:
        ndim = A._data.ndim
        moved = [axis_of(d, ndim, "linalg.tensorsolve") for d in dims]
        A = movedim(A, moved, list(range(ndim - len(moved), ndim)))
    rest = tuple(A.shape[B._data.ndim :])
    if math.prod(rest) != math.prod(B.shape):
        raise InputError(
            "Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == prod(self.shape[:other.ndim]), "
            f"but got {math.prod(rest)} != {math.prod(B.shape)}"
        )
    n = math.prod(rest)
    return reshape(solve(reshape(A, (n, n)), reshape(B, (n,))), rest)


def vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """The powers 0 to N - 1 of each number of x (..., n): (..., n, N); N is n unless it is given."""
    from fastnet.ops.creation import ones_like
    from fastnet.ops.cumulative import cumprod

    check_tensor("linalg.vander", x, "x")
    count = N if N is not None else x.shape[-1] if x._data.ndim else 1
    if count <= 1:
        raise InputError("linalg.vander: N must be greater than 1.")
    column = unsqueeze(x, -1)
    powers = cumprod(expand(column, *x.shape, count - 1), -1)
    return cat([ones_like(column if powers.dtype is x.dtype else powers[..., :1]), powers], -1)


# ---- rows and differences ------------------------------------------------------------------------------------------


def renorm(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """``input`` with each of its slices along ``dim`` whose p-norm is above ``maxnorm`` scaled down to that norm."""
    from fastnet.ops.linalg import vector_norm
    from fastnet.ops.selection import where

    check_tensor("renorm", input)
    if input._data.ndim < 2:
        raise InputError(f"renorm: input needs at least 2 dimensions, got {input._data.ndim} dimensions")
    if p <= 0 or maxnorm < 0:
        raise InputError(f"renorm: expected p > 0 and maxnorm >= 0, got {p} and {maxnorm}")
    axis = axis_of(dim, input._data.ndim, "renorm")
    others = tuple(i for i in range(input._data.ndim) if i != axis)
    size = vector_norm(input, p, others, keepdim=True)
    return input * where(size > maxnorm, maxnorm / (size + 1e-7), 1.0).to(input.dtype)


def gradient(input: Tensor, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1) -> tuple[Tensor, ...]:
    """Estimates of the derivatives along dimensions by central differences, at the ends by one-sided ones.

    Args:
        input: values.
        spacing: the distance of neighbours: a number, one a dimension, or a tensor of coordinates a dimension.
        dim: the dimensions; all unless given.
        edge_order: 1 or 2: how exact the differences at the ends are.
    """
    check_tensor("gradient", input)
    ndim = input._data.ndim
    dims = list(range(ndim)) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    axes = [axis_of(d, ndim, "gradient") for d in dims]
    if edge_order not in (1, 2):
        raise InputError(f"gradient: edge_order is {edge_order}, expected 1 or 2")
    spacing = 1 if spacing is None else spacing
    steps = list(spacing) if isinstance(spacing, (list, tuple)) else [spacing] * len(axes)
    if len(steps) != len(axes):
        raise InputError(f"gradient: expected spacing to have a value for each of {len(axes)} dimensions")
    return tuple(_derivative(input, axis, step, edge_order) for axis, step in zip(axes, steps, strict=True))


def _derivative(x: Tensor, axis: int, step: Any, edge_order: int) -> Tensor:
    n = x.shape[axis]
    if n < edge_order + 1:
        raise InputError("gradient: each dimension size of self must be greater than edge_order")
    shape = [-1 if i == axis else 1 for i in range(x._data.ndim)]
    if isinstance(step, Tensor) and step._data.ndim:
        distances = np.diff(step.detach().cpu()._data.astype(np.float64))
    else:
        distances = np.full(n - 1, float(step))
    xp = namespace(x._data)

    def weights(values: Any) -> Tensor:
        dtype = x._data.dtype if x.dtype.is_floating_point else np.float32
        return Tensor._wrap(xp.asarray(np.asarray(values, np.float64).astype(dtype)))

    parts = [narrow(x, axis, i, max(n - 2, 0)) for i in range(3)] if n > 2 else []
    before, after = distances[:-1], distances[1:]
    middle = []
    if parts:
        a = -after / (before * (before + after))
        b = (after - before) / (before * after)
        c = before / (after * (before + after))
        terms = (parts[i] * reshape(weights(w), shape) for i, w in enumerate((a, b, c)))
        middle = [sum(terms, 0)]

    def at(i: int) -> Tensor:
        return narrow(x, axis, i % n, 1)

    if edge_order == 1:
        first, last = (at(1) - at(0)) / float(distances[0]), (at(-1) - at(-2)) / float(distances[-1])
    else:
        d1, d2 = float(distances[0]), float(distances[1])
        ends = (-(2 * d1 + d2) / (d1 * (d1 + d2)), (d1 + d2) / (d1 * d2), -d1 / (d2 * (d1 + d2)))
        first = at(0) * ends[0] + at(1) * ends[1] + at(2) * ends[2]
        d1, d2 = float(distances[-2]), float(distances[-1])
        ends = (d2 / (d1 * (d1 + d2)), -(d1 + d2) / (d1 * d2), (2 * d2 + d1) / (d2 * (d1 + d2)))
        last = at(-3) * ends[0] + at(-2) * ends[1] + at(-1) * ends[2]
    return cat([first, *middle, last], axis)
