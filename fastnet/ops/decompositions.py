"""Decompositions of matrices and what is made of them, with their gradients.

The gradients are those of Walter and Lehmann (2010) for QR, of Townsend (2016) for singular vectors, of Giles (2008)
for eigenvectors and of Golub and Pereyra (1973) for the pseudoinverse. They grow without bound where singular values or
eigenvalues come close, and mean something only for functions that do not depend on the vectors' signs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet._device import namespace
from fastnet._tensor import Tensor
from fastnet.autograd import ArrayFunction
from fastnet.errors import InputError, KindError, LinAlgError
from fastnet.ops import reductions
from fastnet.ops._operands import check_tensor
from fastnet.ops._results import result
from fastnet.ops.linalg import _check_square, _full, _t, inv, norm
from fastnet.ops.matmul import matmul
from fastnet.ops.shape import transpose, unsqueeze


def _matrices(name: str, A: Any) -> Tensor:
    check_tensor(name, A, "A")
    if not A.dtype.is_floating_point or A._data.ndim < 2:
        raise KindError(f"{name}: expected floating-point matrices, got {A.dtype} {list(A.shape)}")
    return _full(A, name)


# ---- QR ------------------------------------------------------------------------------------------------------------


def _qr_gradient(q: Any, r: Any, of_q: Any, of_r: Any) -> Any:
    """The gradient of a matrix with no more columns than rows."""
    xp = namespace(q)
    m = r @ _t(of_r) - _t(of_q) @ q
    low = xp.tril(m, -1)
    symmetric = low + _t(low) + m * xp.eye(m.shape[-1], dtype=m.dtype)
    return _t(xp.linalg.solve(r, _t(of_q + q @ symmetric)))


class QR(ArrayFunction):
    """Orthonormal columns and an upper triangle."""

    @staticmethod
    def forward(ctx: Any, a: Any, mode: str) -> tuple[Any, Any]:
        q, r = namespace(a).linalg.qr(a, mode=mode)
        ctx.save(a, q, r)
        ctx.mode = mode
        return q, r

    @staticmethod
    def backward(ctx: Any, of_q: Any, of_r: Any) -> Any:
        a, q, r = ctx.saved
        xp = namespace(a)
        rows, columns = a.shape[-2:]
        if ctx.mode == "complete" and rows > columns:
            raise InputError(
                "linalg.qr: the gradient of mode 'complete' is defined only where A has no more rows than columns"
            )
        if rows >= columns:
            return _qr_gradient(q, r, of_q, of_r), None
        # What is right of the square part is Q^T times as many columns of A.
        right, of_right = a[..., rows:], of_r[..., rows:]
        square = _qr_gradient(q, r[..., :rows], of_q + right @ _t(of_right), of_r[..., :rows])
        return xp.concatenate([square, q @ of_right], axis=-1), None


def qr(A: Tensor, mode: str = "reduced") -> Any:
    """A named tuple Q, R: orthonormal columns and an upper triangle; mode "reduced", "complete" or "r" (R alone).

    >>> import fastnet
    >>> q, r = fastnet.linalg.qr(fastnet.tensor([[0., 2.], [3., 4.]]))
    >>> fastnet.allclose(q @ r, fastnet.tensor([[0., 2.], [3., 4.]]), atol=1e-6)
    True
    """
    name = "linalg.qr"
    A = _matrices(name, A)
    if mode not in ("reduced", "complete", "r"):
        raise InputError(f"{name}: mode is {mode!r}, expected 'reduced', 'complete' or 'r'")
    if mode == "r":
        from fastnet.autograd import is_grad_enabled

        if A.requires_grad and is_grad_enabled():
            raise InputError(f"{name}: mode 'r' has no gradient, use 'reduced'")
        r = namespace(A._data).linalg.qr(A._data, mode="r")
        return result("linalg_qr", "Q R")(Tensor._wrap(A._data.reshape(-1)[:0]), Tensor._wrap(r))
    return result("linalg_qr", "Q R")(*QR.apply(A, mode))


def torch_qr(input: Tensor, some: bool = True) -> Any:
    """``linalg.qr`` as ``torch.qr`` has it: ``some`` for mode "reduced", else "complete"."""
    return result("qr", "Q R")(*qr(input, "reduced" if some else "complete"))


# ---- singular values -----------------------------------------------------------------------------------------------


class SVD(ArrayFunction):
    """U, S, Vh with a = U diag(S) Vh."""

    @staticmethod
    def forward(ctx: Any, a: Any, full_matrices: bool) -> tuple[Any, Any, Any]:
        u, s, vh = namespace(a).linalg.svd(a, full_matrices=full_matrices)
        ctx.save(u, s, vh)
        return u, s, vh

    @staticmethod
    def backward(ctx: Any, of_u: Any, of_s: Any, of_vh: Any) -> Any:
        u, s, vh = ctx.saved
        xp, k = namespace(s), s.shape[-1]
        rows, columns = u.shape[-2], vh.shape[-1]
        u, of_u, vh, of_vh = u[..., :k], of_u[..., :k], vh[..., :k, :], of_vh[..., :k, :]
        eye = xp.eye(k, dtype=s.dtype)
        gaps = (s * s)[..., None, :] - (s * s)[..., :, None] + eye
        left, right = _t(u) @ of_u, vh @ _t(of_vh)
        inner = of_s[..., None] * eye
        inner = inner + (left - _t(left)) / gaps * s[..., None, :] + s[..., None] * ((right - _t(right)) / gaps)
        out = u @ inner
        if rows > k:
            out = out + (of_u - u @ left) / s[..., None, :]
        out = out @ vh
        if columns > k:
            out = out + (u / s[..., None, :]) @ (of_vh - _t(right) @ vh)
        return out, None


def svd(A: Tensor, full_matrices: bool = True, *, driver: str | None = None) -> Any:
    """A named tuple U, S, Vh with ``A = U diag(S) Vh``, singular values in descending order. ``driver`` chooses among
    methods of GPUs in PyTorch and changes nothing here.

    >>> import fastnet
    >>> fastnet.linalg.svd(fastnet.tensor([[0., 2.], [3., 0.]])).S
    tensor([3., 2.])
    """
    return result("linalg_svd", "U S Vh")(*SVD.apply(_matrices("linalg.svd", A), bool(full_matrices)))


def torch_svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> Any:
    """As ``torch.svd``: U, S and V, not transposed; ``some`` for as many vectors as there are singular values. Without
    ``compute_uv`` U and V are zeros."""
    from fastnet.ops.creation import zeros

    make = result("svd", "U S V")
    if not compute_uv:
        A = _matrices("svd", input)
        *batch, rows, columns = A.shape
        made: dict[str, Any] = {"dtype": A.dtype, "device": A.device}
        return make(zeros(*batch, rows, rows, **made), svdvals(A), zeros(*batch, columns, columns, **made))
    u, s, vh = svd(input, not some)
    return make(u, s, transpose(vh, -2, -1))


class SingularValues(ArrayFunction):
    """Singular values, whose gradients are the products of singular vectors."""

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        if not any(ctx.needs_input_grad):
            return namespace(a).linalg.svd(a, compute_uv=False)
        u, s, vh = namespace(a).linalg.svd(a, full_matrices=False)
        ctx.u, ctx.vh = u, vh
        return s

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return (ctx.u * grad[..., None, :]) @ ctx.vh


def svdvals(A: Tensor, *, driver: str | None = None) -> Tensor:
    """Singular values, in descending order."""
    return SingularValues.apply(_matrices("linalg.svdvals", A))


# ---- eigenvalues of symmetric matrices -----------------------------------------------------------------------------


class Eigh(ArrayFunction):
    """Eigenvalues and eigenvectors of symmetric matrices."""

    @staticmethod
    def forward(ctx: Any, a: Any, triangle: str) -> tuple[Any, Any]:
        values, vectors = namespace(a).linalg.eigh(a, triangle)
        ctx.save(values, vectors)
        return values, vectors

    @staticmethod
    def backward(ctx: Any, of_values: Any, of_vectors: Any) -> Any:
        values, vectors = ctx.saved
        eye = namespace(values).eye(values.shape[-1], dtype=values.dtype)
        gaps = values[..., None, :] - values[..., :, None] + eye
        inner = (_t(vectors) @ of_vectors) / gaps
        inner = inner * (1 - eye) + of_values[..., None] * eye
        return vectors @ inner @ _t(vectors), None


def _symmetric(name: str, A: Tensor, UPLO: str) -> Any:
    _check_square(name, A)
    if not isinstance(UPLO, str) or UPLO.upper() not in ("L", "U"):
        raise InputError(f"{name}: Expected UPLO argument to be 'L' or 'U', but got {UPLO}")
    return Eigh.apply(_full(A, name), UPLO.upper())


def eigh(A: Tensor, UPLO: str = "L") -> Any:
    """A named tuple: eigenvalues in ascending order and eigenvectors of symmetric matrices, of which the lower (upper)
    triangle is read."""
    return result("linalg_eigh", "eigenvalues eigenvectors")(*_symmetric("linalg.eigh", A, UPLO))


def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """Eigenvalues of symmetric matrices, in ascending order."""
    return _symmetric("linalg.eigvalsh", A, UPLO)[0]


# ---- pseudoinverse, rank, condition, least squares -----------------------------------------------------------------


def _cut(x: Any, largest: Any, atol: Any, rtol: Any) -> Any:
    """Below what singular values of matrices x count as zero: max(atol, rtol * largest), both numbers or tensors that
    broadcast to the batch. rtol is max(rows, columns) * eps unless it is given or atol is above zero."""
    xp = namespace(x)
    absolute, relative = (
        None if t is None else xp.asarray(t._data if isinstance(t, Tensor) else t, x.dtype)[..., None]
        for t in (atol, rtol)
    )
    if absolute is None:
        absolute = xp.zeros(1, x.dtype)
    if relative is None:
        standard = max(x.shape[-2:]) * float(np.finfo(x.dtype).eps)
        relative = xp.where(absolute > 0, 0, standard).astype(x.dtype)
    return xp.maximum(absolute, relative * largest)


class PseudoInverse(ArrayFunction):
    """The pseudoinverse; singular values, or of symmetric matrices eigenvalues, up to a bound count as zero."""

    @staticmethod
    def forward(ctx: Any, a: Any, atol: Any, rtol: Any, hermitian: bool) -> Any:
        xp = namespace(a)
        if not a.size:
            out = xp.zeros((*a.shape[:-2], a.shape[-1], a.shape[-2]), a.dtype)
        else:
            if hermitian:
                s, v = xp.linalg.eigh(a)
                u, vh = v, _t(v)
            else:
                u, s, vh = xp.linalg.svd(a, full_matrices=False)
            size = xp.abs(s)
            kept = size > _cut(a, size.max(axis=-1, keepdims=True), atol, rtol)
            inverse = xp.where(kept, 1 / xp.where(kept, s, 1), 0)
            out = ((_t(vh) * inverse[..., None, :]) @ _t(u)).astype(a.dtype)
        ctx.save(a, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        a, p = ctx.saved
        g = _t(grad)
        if a.shape[-2] <= a.shape[-1]:
            k = g @ p
            kp = k @ _t(p)
            out = -_t(p @ k) + kp - (a @ p) @ kp + _t(p) @ (p @ (g - k @ a))
        else:
            k = p @ g
            pk = _t(p) @ k
            out = -_t(k @ p) + ((g - a @ k) @ p) @ _t(p) + pk - (pk @ p) @ a
        return out, None, None, None


def pinv(A: Tensor, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Tensor:
    """The pseudoinverse (Moore and Penrose).

    Args:
        A: (..., M, N).
        rcond: the older name of rtol.
        hermitian: whether A is symmetric.
        atol, rtol: singular values up to max(atol, rtol * the largest) count as zero: numbers or tensors of the batch's
            shape; rtol is max(M, N) * eps unless it is given or atol is above zero.
    """
    name = "linalg.pinv"
    A = _matrices(name, A)
    if hermitian:
        _check_square(name, A)
    return PseudoInverse.apply(A, atol, rcond if rtol is None else rtol, bool(hermitian))


def matrix_rank(A: Tensor, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Tensor:
    """How many singular values are not negligible, int64; tolerances as ``pinv``'s, ``tol`` an absolute one."""
    name = "linalg.matrix_rank"
    x = _matrices(name, A.detach() if isinstance(A, Tensor) else A)._data
    xp = namespace(x)
    if hermitian:
        _check_square(name, A)
    if tol is not None:
        atol, rtol = tol, 0.0
    if not x.size:
        return Tensor._wrap(xp.zeros(x.shape[:-2], np.int64))
    s = xp.abs(xp.linalg.eigvalsh(x)) if hermitian else xp.linalg.svd(x, compute_uv=False)
    kept = s > _cut(x, s.max(axis=-1, keepdims=True), atol, rtol)
    return Tensor._wrap(xp.asarray(kept.sum(axis=-1), np.int64))


def cond(A: Tensor, p: Any = None) -> Tensor:
    """The condition number: the norm of A by that of its inverse; with p None, 2 or -2 of singular values."""
    name = "linalg.cond"
    A = _matrices(name, A)
    if p in (None, 2, -2):
        s = svdvals(A)
        if not s.shape[-1]:
            return reductions.sum(s, -1)
        return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    _check_square(name, A)
    if not A._data.size:
        return reductions.sum(reductions.sum(A, -1), -1)
    try:
        inverse = inv(A)
    except LinAlgError:  # a singular matrix in the batch: one by one
        if A._data.ndim == 2:
            return A.new_full((), math.inf)
        from fastnet.ops.shape import stack

        return stack([cond(a, p) for a in A])
    return norm(A, p, (-2, -1)) * norm(inverse, p, (-2, -1))


_DRIVERS = ("gels", "gelsy", "gelsd", "gelss")
_RESIDUALS = ("gels", "gelsd", "gelss")


def lstsq(A: Tensor, B: Tensor, rcond: float | None = None, *, driver: str | None = None) -> Any:
    """The X that minimise the norms of ``A X - B``, of all the shortest.

    Args:
        A: (..., M, N).
        B: (..., M, K), or a vector (..., M).
        rcond: singular values up to rcond times the largest count as zero; default max(M, N) * eps.
        driver: "gels", "gelsy" (default), "gelsd" or "gelss": all by the pseudoinverse here. It decides what is
            returned beside the solution: the rank unless "gels", residuals unless "gelsy", singular values with "gelsd"
            and "gelss".

    Returns:
        A named tuple: solution (..., N, K), residuals (..., K) where M > N and A has full rank, rank, singular_values;
        empty what there is not.
    """
    name = "linalg.lstsq"
    A = _matrices(name, A)
    check_tensor(name, B, "B")
    if driver is not None and driver not in _DRIVERS:
        raise InputError(f"{name}: driver is {driver!r}, expected one of {', '.join(_DRIVERS)}")
    if B.dtype is not A.dtype:
        raise KindError(f"{name}: expected A and B of one dtype, got {A.dtype} and {B.dtype}")
    vector = B._data.ndim + 1 == A._data.ndim and tuple(B.shape) == tuple(A.shape[:-1])
    b = unsqueeze(B, -1) if vector else B
    rows, columns = A.shape[-2:]
    if b._data.ndim < 2 or b.shape[-2] != rows:
        raise InputError(f"{name}: A {list(A.shape)} and B {list(B.shape)} have different numbers of rows")
    solution = matmul(pinv(A, rtol=rcond), b)
    xp = namespace(A._data)
    none = Tensor._wrap(xp.zeros(0, A._data.dtype))
    rank = matrix_rank(A, rtol=rcond)
    residuals = none
    if rows > columns and driver in _RESIDUALS and (driver == "gels" or bool((rank._data == columns).all())):
        difference = matmul(A, solution) - b
        residuals = reductions.sum(difference * difference, -2)
    values = svdvals(A.detach()) if driver in ("gelsd", "gelss") else none
    ranks = Tensor._wrap(xp.zeros(0, np.int64)) if driver == "gels" else rank
    fields = "solution residuals rank singular_values"
    return result("linalg_lstsq", fields)(solution.squeeze(-1) if vector else solution, residuals, ranks, values)


# ---- reflections, and factors of low rank ----------------------------------------------------------------------------


def geqrf(input: Tensor) -> Any:
    """A named tuple a, tau: R of the QR decomposition in a's upper triangle, and below it the vectors of the
    reflections ``1 - tau_i v_i v_i^T`` whose product is Q (Golub and Van Loan, section 5.2.2)."""
    check_tensor("geqrf", input)
    if input.dim() < 2:
        raise InputError("geqrf: input must have at least 2 dimensions.")
    input = _matrices("geqrf", input)
    xp = namespace(input._data)
    rows, columns = input.shape[-2:]
    a = input._data.reshape(math.prod(input.shape[:-2]), rows, columns).copy()
    k = min(rows, columns)
    tau = xp.zeros((len(a), k), a.dtype)
    for i in range(k):
        head, tail = a[:, i, i].copy(), a[:, i + 1 :, i]
        size = xp.sqrt(head * head + (tail * tail).sum(axis=-1))
        moved = (tail != 0).any(axis=-1)  # a column that is zero below the diagonal stays
        beta = xp.where(head < 0, size, -size)
        tau[:, i] = xp.where(moved, (beta - head) / xp.where(beta == 0, 1, beta), 0)
        v = tail / xp.where(moved, head - beta, 1)[:, None]
        full = xp.concatenate([xp.ones((len(a), 1), a.dtype), v], axis=1)
        rest = a[:, i:, i + 1 :]
        a[:, i:, i + 1 :] = rest - tau[:, i, None, None] * full[:, :, None] * (full[:, :, None] * rest).sum(1)[:, None]
        a[:, i, i] = xp.where(moved, beta, head)
        a[:, i + 1 :, i] = xp.where(moved[:, None], v, tail)
    shape = tuple(input.shape)
    return result("geqrf", "a tau")(Tensor._wrap(a.reshape(shape)), Tensor._wrap(tau.reshape(*shape[:-2], k)))


def svd_lowrank(A: Tensor, q: int | None = 6, niter: int | None = 2, M: Tensor | None = None) -> tuple:
    """U, S, V of rank q with ``A - M`` nearly ``U diag(S) V^T``: what A makes of random vectors, made orthonormal after
    each of ``niter`` multiplications by A and its transpose (Halko et al. 2011, algorithms 4.4 and 5.1)."""
    from fastnet.ops.random import randn

    A = _matrices("svd_lowrank", A)
    rows, columns = A.shape[-2:]
    q = 6 if q is None else q
    if not 0 <= q <= min(rows, columns):
        raise InputError(f"svd_lowrank: q(={q}) must be non-negative integer and not greater than min(m, n)")
    if M is not None:
        A = A - M
    across = A.transpose(-2, -1)
    basis = qr(A @ randn(*A.shape[:-2], columns, q, dtype=A.dtype, device=A.device)).Q
    for _ in range(2 if niter is None else niter):
        basis = qr(A @ qr(across @ basis).Q).Q
    u, s, vh = svd(basis.transpose(-2, -1) @ A, full_matrices=False)
    return basis @ u, s, vh.transpose(-2, -1)


def pca_lowrank(A: Tensor, q: int | None = None, center: bool = True, niter: int = 2) -> tuple:
    """``svd_lowrank`` of rows less their mean: principal components in V's columns."""
    A = _matrices("pca_lowrank", A)
    rows, columns = A.shape[-2:]
    if q is None:
        q = min(6, rows, columns)
    elif not 0 <= q <= min(rows, columns):
        raise InputError(f"q(={q}) must be non-negative integer and not greater than min(m, n)={min(rows, columns)}")
    if niter < 0:
        raise InputError(f"niter(={niter}) must be non-negative integer")
    return svd_lowrank(A - A.mean(dim=-2, keepdim=True) if center else A, q, niter)
