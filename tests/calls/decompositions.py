"""Decompositions of matrices with their gradients, and what is solved by them."""

from __future__ import annotations

import warnings
from typing import Any

from calls import Call


def _apart(t: Any, I: Any, *shape: int) -> Any:
    """Matrices whose singular values are well apart."""
    a = I(*shape)
    rows, columns = shape[-2:]
    return a * 0.2 + t.eye(rows, columns, dtype=a.dtype) * (t.arange(columns).to(a.dtype) + 1)


def _positive(t: Any, I: Any, *shape: int) -> Any:
    a = I(*shape)
    return a @ a.mT + t.eye(shape[-1], dtype=a.dtype)


def _rebuilt(t: Any, a: Any, full: bool = False) -> Any:
    """A function of singular vectors that does not depend on their signs."""
    u, s, vh = t.linalg.svd(a, full_matrices=full)
    k = s.shape[-1]
    return (u[..., :k] * s.sin()[..., None, :]) @ vh[..., :k, :]


def _signless(t: Any, q: Any, r: Any) -> Any:
    return t.cat([(q * q).flatten(), (q @ r.sin().abs()).square().flatten()])


def _spectral(t: Any, a: Any, triangle: str = "L") -> Any:
    values, vectors = t.linalg.eigh(a + a.mT, triangle)
    return (vectors * values.exp()[..., None, :]) @ vectors.mT


class _Wide:
    """Inputs of which those of 16 bits are widened: no library decomposes them."""

    def __init__(self, inputs: Any):
        self.inputs = inputs

    def __call__(self, *shape: int) -> Any:
        x = self.inputs(*shape)
        return x.float() if x.element_size() == 2 else x


def _wide(call: Call) -> Call:
    def run(t: Any, I: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns of its older names
            return call(t, _Wide(I))

    return run


DIFFERENTIABLE: dict[str, Call] = {
    "qr": lambda t, I: _signless(t, *t.linalg.qr(_apart(t, I, 3, 3))),
    "qr tall": lambda t, I: _signless(t, *t.linalg.qr(_apart(t, I, 2, 4, 3))),
    "qr wide": lambda t, I: _signless(t, *t.linalg.qr(_apart(t, I, 2, 4))),
    "qr complete": lambda t, I: _signless(t, *t.linalg.qr(_apart(t, I, 3, 3), "complete")),
    "torch.qr": lambda t, I: t.qr(_apart(t, I, 4, 2)).R.abs(),
    "svd": lambda t, I: _rebuilt(t, _apart(t, I, 2, 3, 3)),
    "svd tall": lambda t, I: _rebuilt(t, _apart(t, I, 4, 2)),
    "svd wide, full": lambda t, I: _rebuilt(t, _apart(t, I, 2, 4), True),
    "torch.svd": lambda t, I: (lambda u, s, v: (u * s) @ v.mT)(*t.svd(_apart(t, I, 3, 2))),
    "torch.svd without vectors": lambda t, I: t.svd(_apart(t, I, 3, 2), compute_uv=False).S,
    "eigh": lambda t, I: _spectral(t, _apart(t, I, 2, 3, 3)),
    "eigh upper": lambda t, I: _spectral(t, _apart(t, I, 3, 3), "U"),
    "eigvalsh": lambda t, I: t.linalg.eigvalsh(_positive(t, I, 3, 3)),
    "pinv tall": lambda t, I: t.linalg.pinv(_apart(t, I, 2, 4, 3)),
    "pinv wide": lambda t, I: t.linalg.pinv(_apart(t, I, 2, 3), rtol=1e-4),
    "pinv symmetric": lambda t, I: t.linalg.pinv(_positive(t, I, 3, 3), hermitian=True),
    "pinverse": lambda t, I: t.pinverse(_apart(t, I, 3, 2)),
    "lstsq": lambda t, I: t.linalg.lstsq(_apart(t, I, 4, 3), I(4, 2)).solution,
    "lstsq residuals": lambda t, I: t.linalg.lstsq(_apart(t, I, 2, 4, 3), I(2, 4, 1), driver="gelsd").residuals,
    "cond": lambda t, I: t.linalg.cond(_apart(t, I, 2, 3, 3)),
    "lu": lambda t, I: (lambda p, low, up: low.sin() @ up.cos())(*t.linalg.lu(_apart(t, I, 2, 3, 3))),
    "lu tall": lambda t, I: (lambda p, low, up: p @ low.sin() @ up.cos())(*t.linalg.lu(_apart(t, I, 4, 2))),
    "lu wide": lambda t, I: (lambda p, low, up: low.sin() @ up.cos())(*t.linalg.lu(_apart(t, I, 2, 4))),
    "lu_factor": lambda t, I: t.linalg.lu_factor(_apart(t, I, 3, 3)).LU,
    "lu_solve": lambda t, I: t.linalg.lu_solve(*t.linalg.lu_factor(_apart(t, I, 3, 3)), I(3, 2)),
    "lu_solve right, adjoint": lambda t, I: t.linalg.lu_solve(
        *t.linalg.lu_factor(_apart(t, I, 3, 3)), I(2, 3), left=False, adjoint=True
    ),
    "torch.lu_solve": lambda t, I: t.lu_solve(I(3, 2), *t.linalg.lu_factor(_apart(t, I, 3, 3))),
    "cholesky_solve": lambda t, I: t.cholesky_solve(I(3, 2), t.linalg.cholesky(_positive(t, I, 3, 3))),
    "cholesky_solve upper": lambda t, I: t.cholesky_solve(
        I(3, 2), t.linalg.cholesky(_positive(t, I, 3, 3), upper=True), upper=True
    ),
    "cholesky_inverse": lambda t, I: t.cholesky_inverse(t.linalg.cholesky(_positive(t, I, 3, 3))),
    "triangular_solve": lambda t, I: t.triangular_solve(I(3, 2), _apart(t, I, 3, 3))[0],
    "triangular_solve transposed": lambda t, I: t.triangular_solve(I(3, 2), _apart(t, I, 3, 3), False, True).solution,
    "householder_product": lambda t, I: t.linalg.householder_product(I(4, 3) * 0.5, I(2)),
    "inv_ex": lambda t, I: t.linalg.inv_ex(_apart(t, I, 2, 3, 3)).inverse,
    "solve_ex": lambda t, I: t.linalg.solve_ex(_apart(t, I, 3, 3), I(3, 2)).result,
    "cholesky_ex": lambda t, I: t.linalg.cholesky_ex(_positive(t, I, 3, 3), upper=True).L,
    "matrix_exp": lambda t, I: t.matrix_exp(I(2, 3, 3) * 0.5),
    "matrix_exp of large": lambda t, I: t.linalg.matrix_exp(I(3, 3) * 0.2 + t.eye(3).to(I(1).dtype) * 2),
    "tensorinv": lambda t, I: t.linalg.tensorinv(_apart(t, I, 4, 4).reshape(2, 2, 4), 2),
    "tensorsolve": lambda t, I: t.linalg.tensorsolve(_apart(t, I, 4, 4).reshape(2, 2, 2, 2), I(2, 2), dims=(1,)),
    "vander": lambda t, I: t.linalg.vander(I(2, 3), N=4),
    "renorm": lambda t, I: t.renorm(I(3, 4), 2, 0, 1.5),
    "gradient": lambda t, I: t.gradient(I(5), spacing=0.5)[0],
    "gradient by coordinates": lambda t, I: t.gradient(
        I(4, 4), spacing=(t.tensor([0.0, 1.0, 3.0, 4.0]).to(I(1).dtype),), dim=1, edge_order=2
    )[0],
}
DIFFERENTIABLE = {name: _wide(call) for name, call in DIFFERENTIABLE.items()}

PLAIN: dict[str, Call] = {
    "cond of other norms": lambda t, I: t.linalg.cond(_apart(t, I, 3, 3), "fro") + t.linalg.cond(_apart(t, I, 3, 3), 1),
    "matrix_rank of nothing": lambda t, I: t.linalg.matrix_rank(t.ones(2, 0, 3)),
    "matrix_rank, a tolerance each": lambda t, I: t.linalg.matrix_rank(
        t.eye(3).repeat(2, 1, 1) * 0.3, atol=t.tensor([0.1, 0.5])
    ),
    "matrix_rank symmetric": lambda t, I: t.linalg.matrix_rank(t.ones(3, 3), hermitian=True),
    "lu_factor pivots": lambda t, I: t.linalg.lu_factor(I(2, 3, 4)).pivots,
    "lu permutation": lambda t, I: t.linalg.lu(I(2, 4, 3))[0],
    "inv_ex info": lambda t, I: t.linalg.inv_ex(t.stack([t.eye(2), t.ones(2, 2)])).info,
    "cholesky_ex info": lambda t, I: t.linalg.cholesky_ex(t.tensor([[1.0, 0.0], [0.0, -1.0]])).info,
    "lstsq rank": lambda t, I: t.linalg.lstsq(t.ones(3, 2), t.ones(3, 1)).rank,
    "lstsq singular values": lambda t, I: t.linalg.lstsq(t.eye(3, 2) * 2, t.ones(3, 1), driver="gelsd").singular_values,
    "cond of a singular matrix": lambda t, I: t.linalg.cond(t.ones(2, 2), 1),
    "vander of integers": lambda t, I: t.linalg.vander(t.tensor([1, 2, 3])),
    "gradient of integers": lambda t, I: t.gradient(t.tensor([1, 4, 9, 16]))[0],
}

REFUSED: dict[str, Call] = {
    "qr r has no gradient": lambda t, I: t.linalg.qr(I(3, 3), "r").R.sum().backward(),
    "qr mode": lambda t, I: t.linalg.qr(I(3, 3), "full"),
    "svd of a vector": lambda t, I: t.linalg.svd(I(3)),
    "eigh triangle": lambda t, I: t.linalg.eigh(I(3, 3), "X"),
    "lstsq rows": lambda t, I: t.linalg.lstsq(I(3, 2), I(4, 1)),
    "lstsq driver": lambda t, I: t.linalg.lstsq(I(3, 2), I(3, 1), driver="fast"),
    "cond of a rectangle": lambda t, I: t.linalg.cond(I(3, 2), 1),
    "inv_ex check": lambda t, I: t.linalg.inv_ex(t.ones(2, 2), check_errors=True),
    "matrix_exp of a rectangle": lambda t, I: t.matrix_exp(I(3, 2)),
    "tensorinv sizes": lambda t, I: t.linalg.tensorinv(I(2, 3), 1),
    "vander of one": lambda t, I: t.linalg.vander(I(3), N=1),
    "renorm of a vector": lambda t, I: t.renorm(I(3), 2, 0, 1.0),
    "gradient of one": lambda t, I: t.gradient(I(1)),
    "cholesky_solve sizes": lambda t, I: t.cholesky_solve(I(2, 1), I(3, 3)),
}
