"""The Gumbel distribution."""

from __future__ import annotations

import math
from typing import Any

from fastnet._tensor import Tensor
from fastnet.distributions.distribution import LocationScale

EULER = 0.57721566490153286060


class Gumbel(LocationScale):
    """Largest of many: its distribution function is ``exp(-exp(-(x - loc) / scale))``.

    >>> import fastnet
    >>> Gumbel(0.0, 1.0).log_prob(fastnet.tensor(0.0))
    tensor(-1.)
    """

    @property
    def mean(self) -> Tensor:
        return self.loc + self.scale * EULER

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def stddev(self) -> Tensor:
        return math.pi / 6**0.5 * self.scale

    @property
    def variance(self) -> Tensor:
        return self.stddev**2

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.loc - self.scale * (-self._uniform(sample_shape).log()).log()

    def log_prob(self, value: Tensor) -> Tensor:
        self._takes(value)
        y = (self.loc - value) / self.scale
        return y - y.exp() - self.scale.log()

    def entropy(self) -> Tensor:
        return self.scale.log() + (1 + EULER)
