"""The exponential distribution."""

from __future__ import annotations

from typing import Any

from fastnet._tensor import Tensor
from fastnet.distributions.distribution import OfParameters


class Exponential(OfParameters):
    """Waiting times of events that come ``rate`` times per unit.

    >>> import fastnet
    >>> Exponential(2.0).log_prob(fastnet.tensor(1.0))
    tensor(-1.3069)
    """

    has_rsample = True
    _names = ("rate",)
    rate: Tensor

    def __init__(self, rate: Any, validate_args: bool | None = None):
        super().__init__(rate, validate_args=validate_args)
        self._check("rate", self.rate > 0)

    @property
    def mean(self) -> Tensor:
        return self.rate.reciprocal()

    stddev = mean

    @property
    def mode(self) -> Tensor:
        return self.rate * 0

    @property
    def variance(self) -> Tensor:
        return self.rate**-2

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return -(-self._uniform(sample_shape)).log1p() / self.rate

    def log_prob(self, value: Tensor) -> Tensor:
        self._takes(value, lambda x: x >= 0)
        return self.rate.log() - self.rate * value

    def cdf(self, value: Tensor) -> Tensor:
        self._takes(value, lambda x: x >= 0)
        return 1 - (-self.rate * value).exp()

    def icdf(self, value: Tensor) -> Tensor:
        return -(-value).log1p() / self.rate

    def entropy(self) -> Tensor:
        return 1 - self.rate.log()
