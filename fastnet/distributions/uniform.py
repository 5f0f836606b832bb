"""The uniform distribution."""

from __future__ import annotations

from typing import Any

from fastnet._tensor import Tensor
from fastnet.distributions.distribution import OfParameters
from fastnet.ops.comparisons import logical_and
from fastnet.ops.random import rand


class Uniform(OfParameters):
    """Equally likely everywhere from ``low`` up to, but without, ``high``.

    >>> import fastnet
    >>> Uniform(0.0, 2.0).log_prob(fastnet.tensor([1.0]))
    tensor([-0.6931])
    """

    has_rsample = True
    _names = ("low", "high")
    low: Tensor
    high: Tensor

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None):
        super().__init__(low, high, validate_args=validate_args)
        if self._validate_args and not bool((self.low < self.high).all()):
            raise ValueError("Uniform is not defined when low>= high")

    @property
    def mean(self) -> Tensor:
        return (self.high + self.low) / 2

    @property
    def stddev(self) -> Tensor:
        return (self.high - self.low) / 12**0.5

    @property
    def variance(self) -> Tensor:
        return (self.high - self.low) ** 2 / 12

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        u = rand(*self._extended(sample_shape), dtype=self.low.dtype, device=self.low.device)
        return self.low + u * (self.high - self.low)

    def _inside(self, value: Tensor) -> Tensor:
        return logical_and(value >= self.low, value <= self.high)

    def log_prob(self, value: Tensor) -> Tensor:
        self._takes(value, self._inside)
        inside = logical_and(value >= self.low, value < self.high)
        return inside.to(self.low.dtype).log() - (self.high - self.low).log()

    def cdf(self, value: Tensor) -> Tensor:
        self._takes(value, self._inside)
        return ((value - self.low) / (self.high - self.low)).clamp(0, 1)

    def icdf(self, value: Tensor) -> Tensor:
        return value * (self.high - self.low) + self.low

    def entropy(self) -> Tensor:
        return (self.high - self.low).log()
