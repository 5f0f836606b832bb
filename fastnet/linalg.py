"""Linear algebra, as ``torch.linalg``: norms, products, inverses, determinants, decompositions."""

from typing import Any

from fastnet._checks import checked as _checked
from fastnet.errors import LinAlgError
from fastnet.ops import decompositions as _decompositions
from fastnet.ops import linalg as _linalg
from fastnet.ops import matmul as _matmul
from fastnet.ops import solvers as _solvers

_NAMES = {
    _linalg: (
        "cholesky det inv matrix_norm matrix_power multi_dot norm slogdet solve solve_triangular vecdot vector_norm"
    ),
    _decompositions: "cond eigh eigvalsh lstsq matrix_rank pinv qr svd svdvals",
    _solvers: (
        "cholesky_ex householder_product inv_ex lu lu_factor lu_factor_ex lu_solve matrix_exp solve_ex tensorinv "
        "tensorsolve vander"
    ),
}
for _module, _names in _NAMES.items():
    for _name in _names.split():
        globals()[_name] = _checked(getattr(_module, _name))
cross = _checked(_linalg._linalg_cross)
diagonal = _checked(_linalg.linalg_diagonal)
matmul = _checked(_matmul.matmul)

__all__ = [*" ".join(_NAMES.values()).split(), "LinAlgError", "cross", "diagonal", "matmul"]


def __getattr__(name: str) -> Any:
    raise AttributeError(f"module 'fastnet.linalg' has no attribute {name!r}")
