"""The Laplace distribution."""

from __future__ import annotations

from typing import Any

from fastnet._tensor import Tensor
from fastnet.distributions.distribution import LocationScale


class Laplace(LocationScale):
    """Two exponential distributions back to back: ``exp(-|x - loc| / scale) / (2 scale)``.

    >>> import fastnet
    >>> Laplace(0.0, 1.0).log_prob(fastnet.tensor(0.0))
    tensor(-0.6931)
    """

    @property
    def mean(self) -> Tensor:
        return self.loc

    mode = mean

    @property
    def stddev(self) -> Tensor:
        return 2**0.5 * self.scale

    @property
    def variance(self) -> Tensor:
        return 2 * self.scale**2

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.icdf(self._uniform(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        self._takes(value)
        return -(2 * self.scale).log() - (value - self.loc).abs() / self.scale

    def cdf(self, value: Tensor) -> Tensor:
        self._takes(value)
        far = value - self.loc
        return 0.5 - 0.5 * far.sign() * (-far.abs() / self.scale).expm1()

    def icdf(self, value: Tensor) -> Tensor:
        term = value - 0.5
        return self.loc - self.scale * term.sign() * (-2 * term.abs()).log1p()

    def entropy(self) -> Tensor:
        return 1 + (2 * self.scale).log()
