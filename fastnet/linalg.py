"""Linear algebra, as ``torch.linalg``: norms, products, inverses, determinants, decompositions."""

from typing import Any

from fastnet._checks import checked as _checked
from fastnet.ops import linalg as _linalg
from fastnet.ops.matmul import matmul

_NAMES = (
    "cholesky det eigh eigvalsh inv lstsq matrix_norm matrix_power matrix_rank multi_dot norm pinv qr slogdet solve "
    "solve_triangular svd svdvals vecdot vector_norm"
)
for _name in _NAMES.split():
    globals()[_name] = _checked(getattr(_linalg, _name))
cross = _checked(_linalg._linalg_cross)
diagonal = _checked(_linalg.linalg_diagonal)
LinAlgError = RuntimeError

__all__ = [*_NAMES.split(), "LinAlgError", "cross", "diagonal", "matmul"]


def __getattr__(name: str) -> Any:
    raise AttributeError(f"module 'fastnet.linalg' has no attribute {name!r}")
