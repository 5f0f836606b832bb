"""The Cauchy distribution."""

from __future__ import annotations

import math
from typing import Any

from fastnet._tensor import Tensor
from fastnet.distributions.distribution import LocationScale
from fastnet.ops.creation import full_like


class Cauchy(LocationScale):
    """Without mean or variance: ``scale / (pi (scale^2 + (x - loc)^2))``.

    >>> import fastnet
    >>> Cauchy(0.0, 1.0).log_prob(fastnet.tensor(0.0))
    tensor(-1.1447)
    """

    @property
    def mean(self) -> Tensor:
        return full_like(self.loc, math.nan)

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return full_like(self.loc, math.nan)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.icdf(self._uniform(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        self._takes(value)
        return -math.log(math.pi) - self.scale.log() - ((value - self.loc) / self.scale).square().log1p()

    def cdf(self, value: Tensor) -> Tensor:
        self._takes(value)
        return ((value - self.loc) / self.scale).atan() / math.pi + 0.5

    def icdf(self, value: Tensor) -> Tensor:
        return (math.pi * (value - 0.5)).tan() * self.scale + self.loc

    def entropy(self) -> Tensor:
        return math.log(4 * math.pi) + self.scale.log()
