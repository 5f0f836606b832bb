"""The normal distribution of vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnet import linalg
from fastnet._tensor import Tensor
from fastnet.distributions.distribution import Distribution
from fastnet.ops.comparisons import isclose
from fastnet.ops.creation import eye
from fastnet.ops.random import randn


class MultivariateNormal(Distribution):
    """Vectors with mean ``loc`` and one of: their covariance, its inverse, or its Cholesky factor.

    Args:
        loc: (..., D).
        covariance_matrix, precision_matrix, scale_tril: (..., D, D); exactly one of them.

    >>> import fastnet
    >>> MultivariateNormal(fastnet.zeros(2), fastnet.eye(2)).log_prob(fastnet.zeros(2))
    tensor(-1.8379)
    """

    has_rsample = True

    def __init__(
        self,
        loc: Tensor,
        covariance_matrix: Tensor | None = None,
        precision_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        if loc.ndim < 1:
            raise ValueError("loc must be at least one-dimensional.")
        given = {
            "covariance_matrix": covariance_matrix,
            "precision_matrix": precision_matrix,
            "scale_tril": scale_tril,
        }
        present = {name: m for name, m in given.items() if m is not None}
        if len(present) != 1:
            raise ValueError("Exactly one of covariance_matrix or precision_matrix or scale_tril may be specified.")
        ((name, matrix),) = present.items()
        if matrix.ndim < 2:
            raise ValueError(f"{name} must be at least two-dimensional, with optional leading batch dimensions")
        batch = np.broadcast_shapes(tuple(matrix.shape[:-2]), tuple(loc.shape[:-1]))
        self._name, self._matrix = name, matrix.expand(*batch, -1, -1)
        setattr(self, "_" + name, self._matrix)
        self.loc = loc.expand(*batch, -1)
        super().__init__(tuple(batch), tuple(loc.shape[-1:]), validate_args)
        self._check("loc", self.loc == self.loc)
        if name == "scale_tril":
            self._check(name, matrix.diagonal(dim1=-2, dim2=-1) > 0)
            self._check(name, matrix.tril() == matrix)
        elif self._validate_args:
            ok = bool(isclose(matrix, matrix.mT, atol=1e-6).all()) and int(linalg.cholesky_ex(matrix).info.max()) == 0
            if not ok:
                raise ValueError(f"MultivariateNormal: {name} is not positive definite")
        if name == "scale_tril":
            self._factor = self._matrix
        elif name == "covariance_matrix":
            self._factor = linalg.cholesky(matrix).expand(*batch, -1, -1)
        else:
            # The inverse of a reversed matrix's upper factor, reversed, is the lower one of the inverse.
            lower = linalg.cholesky(matrix.flip(-2, -1)).flip(-2, -1).mT
            unit = eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device).expand_as(matrix)
            self._factor = linalg.solve_triangular(lower, unit, upper=False).expand(*batch, -1, -1)

    def __repr__(self) -> str:
        return f"MultivariateNormal(loc: {self.loc.size()}, {self._name}: {self._matrix.size()})"

    @property
    def scale_tril(self) -> Tensor:
        return self._factor

    @property
    def covariance_matrix(self) -> Tensor:
        return self._matrix if self._name == "covariance_matrix" else self._factor @ self._factor.mT

    @property
    def precision_matrix(self) -> Tensor:
        return self._matrix if self._name == "precision_matrix" else linalg.inv(self.covariance_matrix)

    @property
    def mean(self) -> Tensor:
        return self.loc

    mode = mean

    @property
    def variance(self) -> Tensor:
        return self._factor.square().sum(-1)

    def expand(self, batch_shape: Any) -> MultivariateNormal:
        """The same distribution for each of a larger batch."""
        matrix = self._matrix.expand(*batch_shape, -1, -1)
        return MultivariateNormal(
            self.loc.expand(*batch_shape, -1), validate_args=self._validate_args, **{self._name: matrix}
        )

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        noise = randn(*self._extended(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + (self._factor @ noise.unsqueeze(-1)).squeeze(-1)

    def _half_log_determinant(self) -> Tensor:
        return self._factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._check_value(value)
            self._check("value", value == value)
        squares = whitened(self._factor, value - self.loc).square().sum(-1)
        d = self.loc.shape[-1]
        return -0.5 * (d * math.log(2 * math.pi) + squares) - self._half_log_determinant()

    def entropy(self) -> Tensor:
        return 0.5 * self.loc.shape[-1] * (1 + math.log(2 * math.pi)) + self._half_log_determinant()


def whitened(factor: Tensor, x: Tensor) -> Tensor:
    """``factor^-1 x``, of vectors x (..., D) and a lower factor (..., D, D)."""
    batch = np.broadcast_shapes(tuple(factor.shape[:-2]), tuple(x.shape[:-1]))
    d = x.shape[-1]
    columns = x.expand(*batch, d).unsqueeze(-1)
    return linalg.solve_triangular(factor.expand(*batch, d, d), columns, upper=False).squeeze(-1)
