"""The distribution of the exponential of a normal number."""

from __future__ import annotations

from typing import Any

from fastnet._tensor import Tensor
from fastnet.distributions.distribution import LocationScale
from fastnet.distributions.normal import Normal


class LogNormal(LocationScale):
    """``exp(x)`` of x normal with mean ``loc`` and standard deviation ``scale``.

    >>> import fastnet
    >>> LogNormal(0.0, 1.0).log_prob(fastnet.tensor(1.0))
    tensor(-0.9189)
    """

    @property
    def mean(self) -> Tensor:
        return (self.loc + self.scale**2 / 2).exp()

    @property
    def mode(self) -> Tensor:
        return (self.loc - self.scale**2).exp()

    @property
    def variance(self) -> Tensor:
        square = self.scale**2
        return square.expm1() * (2 * self.loc + square).exp()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return Normal(self.loc, self.scale, validate_args=False).rsample(sample_shape).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        self._takes(value, lambda x: x > 0)
        logarithm = value.log()
        return Normal(self.loc, self.scale, validate_args=False).log_prob(logarithm) - logarithm

    def cdf(self, value: Tensor) -> Tensor:
        self._takes(value, lambda x: x > 0)
        return Normal(self.loc, self.scale, validate_args=False).cdf(value.log())

    def icdf(self, value: Tensor) -> Tensor:
        return Normal(self.loc, self.scale, validate_args=False).icdf(value).exp()

    def entropy(self) -> Tensor:
        return Normal(self.loc, self.scale, validate_args=False).entropy() + self.loc
